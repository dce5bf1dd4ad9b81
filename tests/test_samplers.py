"""Every way back from noise against one truth: the mixture, whose denoiser is exact.

What a sampler without memory returns has a density that can be propagated on a grid, so its error
is a number without sampling noise; its samples must agree with that density.
"""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from ddpm_lite.density import grid, least_error, sampled_density
from ddpm_lite.metrics import ks, mixture_cdf, quantiles, w1, w1_density
from ddpm_lite.mixture import two_modes
from ddpm_lite.sampling import (
    best_variance,
    beta_tilde_variance,
    ddim_step,
    ddpm_step,
    last,
    sample,
    zero_variance,
)
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.sde import euler_step, predictor_corrector_step, reverse_sde_step, solve_ode
from ddpm_lite.solvers import ddim_heun, dpm_solver, heun
from ddpm_lite.times import paused, quadratic_grid, timestep_grid

SCHEDULE, DATA, X = linear_schedule(), two_modes(), grid(n=512)
MODEL, TRUTH = DATA.denoiser(SCHEDULE), DATA.log_prob(X).exp()


def best(schedule, t, s, like):
    """The best variance, its table made at the first call."""
    if not hasattr(best, "variance"):
        best.variance = best_variance(least_error(DATA, SCHEDULE, grid(n=512)))
    return best.variance(schedule, t, s, like)


def corrected(T, steps):
    return paused(timestep_grid(T, steps))


# The step, its times for a number of steps, and W1 to the data in 1000 steps and in 10.
STEPS = {
    "beta": (ddpm_step, timestep_grid, 0.00117, 0.12371),
    "beta_tilde": (
        partial(ddpm_step, variance=beta_tilde_variance),
        timestep_grid,
        0.00283,
        0.14981,
    ),
    "best": (partial(ddpm_step, variance=best), timestep_grid, 0.00081, 0.09469),
    "zero": (partial(ddpm_step, variance=zero_variance), timestep_grid, 0.55392, 1.39326),
    "ddim 0": (ddim_step, timestep_grid, 0.00148, 0.13517),
    "ddim 0, quadratic": (ddim_step, quadratic_grid, None, 0.17707),
    "ddim 0.5": (partial(ddim_step, eta=0.5), timestep_grid, 0.00142, 0.13993),
    "ddim 1": (partial(ddim_step, eta=1.0), timestep_grid, 0.00283, 0.14981),
    "sde": (reverse_sde_step, timestep_grid, 0.00147, 0.16559),
    "sde, corrected": (predictor_corrector_step, corrected, 0.00143, 0.14483),
    "ode euler": (euler_step, timestep_grid, 0.00251, 0.25549),
}
NOISE_FREE = ("zero", "ddim 0", "ode euler")

# The same of those that remember or ask twice, whose density no grid can carry.
SOLVERS = {
    "ddim heun": (ddim_heun, 0.000095, 0.06466),
    "ode heun": (heun, 0.000038, 0.02063),
    "dpm-solver++": (dpm_solver, 0.000051, 0.08882),
}


def each(names):
    return pytest.mark.parametrize("name", names)


def start(n):
    """The most even sample of N(0, 1)."""
    return quantiles(stats.norm.cdf, n)


def by(step):
    """A step, as a solver: walk(model, schedule, x_T, steps, until)."""
    return lambda model, schedule, x_T, steps=None, until=0: sample(
        model, schedule, x_T.shape, step, steps, x_T=x_T, until=until
    )


WALKS = {name: by(STEPS[name][0]) for name in NOISE_FREE} | {n: v[0] for n, v in SOLVERS.items()}


@each([name for name in STEPS if name not in (*NOISE_FREE, "ddim 0, quadratic", "ddim 1")])
def test_density_is_this_far_from_the_data_in_1000_steps(name):
    """Not zero: the steps are Gaussian and the reverse is not; x_T is not quite N(0, 1).

    The numbers stand for a law: they depend on no seed, nor on the grid (n = 4096 gives the same).
    """
    step, times, distance, _ = STEPS[name]
    density = sampled_density(MODEL, SCHEDULE, X, step, times(1000, 1000))
    assert_close(float(density.sum() * (X[1] - X[0])), 1.0, rtol=1e-6, atol=0)
    assert_close(w1_density(X, density, TRUTH), distance, rtol=0.01, atol=5e-5)


@each(WALKS)
def test_quantiles_end_this_far_from_the_data_in_1000_steps(name):
    """Without noise a walk of quantiles is exact, where the grid would smear a part of a cell."""
    distance = (STEPS[name][2:] if name in STEPS else SOLVERS[name][1:])[0]
    x_0 = last(WALKS[name](MODEL, SCHEDULE, start(400), 1000))
    assert_close(w1(x_0, quantiles(mixture_cdf(DATA), 400)), distance, rtol=0.01, atol=0)


@each([name for name in STEPS if name != "zero"])  # a spike, too narrow for the grid
def test_samples_agree_with_the_density_and_not_with_the_data(name):
    """In 10 steps, where the two differ enough for 50,000 samples to tell (KS, alpha = 1e-3)."""
    step, times, _, distance = STEPS[name]
    times, x = times(1000, 10), grid(n=4096)
    density = sampled_density(MODEL, SCHEDULE, x, step, times)
    assert_close(w1_density(x, density, DATA.log_prob(x).exp()), distance, rtol=0.01, atol=0)
    edges, cdf = (x + (x[1] - x[0]) / 2).numpy(), (density.cumsum(0) * (x[1] - x[0])).numpy()
    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    x_0 = last(sample(MODEL, SCHEDULE, (50_000,), step, times, **options))
    assert ks(x_0, lambda v: np.interp(v, edges, cdf))[1] > 1e-3
    assert ks(x_0, mixture_cdf(DATA))[1] < 1e-3


@each(SOLVERS)
def test_samples_of_a_solver_agree_with_its_quantiles_and_not_with_the_data(name):
    """In 10 steps. It maps the line without a fold, so quantiles end as quantiles."""
    solver, _, distance = SOLVERS[name]
    ends = last(solver(MODEL, SCHEDULE, start(8192), 10))
    assert (ends.diff() > 0).all()
    assert_close(w1(ends, quantiles(mixture_cdf(DATA), 8192)), distance, rtol=0.01, atol=0)
    share = (np.arange(8192) + 0.5) / 8192
    x_T = torch.randn(50_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_0 = last(solver(MODEL, SCHEDULE, x_T, 10))
    assert ks(x_0, lambda v: np.interp(v, ends.numpy(), share))[1] > 1e-3
    assert ks(x_0, mixture_cdf(DATA))[1] < 1e-3


def test_samples_of_1000_steps_agree_with_the_density():
    """The ancestral sampler, step by step; eps is read off a table of 2048 points, to 4e-4."""
    x = grid(n=2048)
    step_width = x[1] - x[0]

    def tabled(x_t, t):
        eps, place = MODEL(x, t[:1].expand(len(x))), (x_t - x[0]) / step_width
        left = place.long()
        return torch.lerp(eps[left], eps[left + 1], place - left)

    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    x_0 = last(sample(tabled, SCHEDULE, (20_000,), **options))
    density = sampled_density(MODEL, SCHEDULE, X)
    edges, cdf = (X + (X[1] - X[0]) / 2).numpy(), (density.cumsum(0) * (X[1] - X[0])).numpy()
    assert ks(x_0, lambda v: np.interp(v, edges, cdf))[1] > 1e-3


def test_a_walk_from_quantiles_measures_what_the_grid_does():
    """Without noise: the quantiles of N(0, 1), walked, against the data's."""
    x, truth = grid(n=4096), quantiles(mixture_cdf(DATA), 8192)
    walked = w1(last(by(ddim_step)(MODEL, SCHEDULE, start(8192), 10)), truth)
    density = sampled_density(MODEL, SCHEDULE, x, ddim_step, 10)
    assert_close(walked, w1_density(x, density, DATA.log_prob(x).exp()), rtol=0.01, atol=0)


def test_few_steps_of_dpm_solver_beat_those_of_ddim():
    """W1 to the data in 20 calls, on the grid that is dense where t is small."""
    truth, times = quantiles(mixture_cdf(DATA), 4096), quadratic_grid(1000, 20)
    found = [
        w1(last(walk(MODEL, SCHEDULE, start(4096), times)), truth)
        for walk in (dpm_solver, by(ddim_step))
    ]
    assert found[0] < 0.5 * found[1], found


def test_without_noise_the_ancestral_step_collapses_and_ddim_does_not():
    """The width inside a mode should be 0.5; and on 20/80 all goes to the heavy mode."""
    spread = [float(last(sample(MODEL, SCHEDULE, (512,), s, 250, x_T=start(512)))[:256].std())
              for s in (partial(ddpm_step, variance=zero_variance), ddim_step)]  # fmt: skip
    assert spread[0] < 0.2 and abs(spread[1] - 0.5) < 0.03, spread
    unequal = two_modes(0.2)
    model, share = unequal.denoiser(SCHEDULE), []
    for step in (partial(ddpm_step, variance=zero_variance), ddim_step):
        x_0 = last(sample(model, SCHEDULE, (512,), step, 250, x_T=start(512)))
        share.append(float((x_0 < 0).double().mean()))
    assert share[0] < 0.02 and abs(share[1] - 0.2) < 0.02, share


# ---- orders of convergence -----------------------------------------------------------------------

ORDERS = [
    pytest.param(by(euler_step), 1, 0.15, id="euler"),
    pytest.param(by(ddim_step), 1, 0.15, id="ddim"),
    pytest.param(heun, 2, 0.25, id="heun"),
    pytest.param(ddim_heun, 2, 0.25, id="ddim heun"),
    pytest.param(dpm_solver, 2, 0.3, id="dpm-solver++"),
]


def even_in_log_snr(steps):
    """Real times from T to 1."""
    ends = SCHEDULE.alpha_bar[[1000, 1]].logit()
    log_snr = torch.linspace(ends[0], ends[1], steps + 1, dtype=torch.float64)
    times = SCHEDULE.time_at(log_snr.sigmoid().clamp(SCHEDULE.alpha_bar[-1], 1))
    times[0], times[-1] = 1000, 1  # but for rounding
    return times


@pytest.fixture(scope="module")
def solved():
    """Where the exact flow takes 32 points from T to 1."""
    return solve_ode(MODEL, SCHEDULE, start(32), 1000, 1, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("walk", "order", "tolerance"), ORDERS)
def test_order_of_convergence(walk, order, tolerance, solved):
    """The slope of the error at t = 1 over the number of steps, in logarithms."""
    counts, errors = (20, 40, 80, 160, 320), []
    for steps in counts:
        x = last(walk(MODEL, SCHEDULE, start(32), even_in_log_snr(steps), until=1))
        errors.append(float((x - solved).abs().mean()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) < tolerance, (slope, errors)
