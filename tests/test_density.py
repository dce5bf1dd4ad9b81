"""Densities on a grid: pushed and sampled ones against quadrature, Gaussians and samples."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import bad, check_bad, floats, mixtures, normal, numbers, schedules
from torch.testing import assert_close

from ddpm_lite.density import grid, least_error, push_density, reverse_density, sampled_density
from ddpm_lite.gaussian import log_density
from ddpm_lite.metrics import ks, w1_density
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.posterior import posterior
from ddpm_lite.sampling import beta_tilde_variance, ddim_step, ddpm_step, last, sample
from ddpm_lite.schedule import constant_schedule, cosine_schedule, linear_schedule
from ddpm_lite.times import timestep_grid

EXACT = {"rtol": 1e-12, "atol": 1e-12}
IN_PLANE = GaussianMixture([0.2, 0.5, 0.3], [[-1.0, 0.5], [1.5, 1.0], [0.0, -2.0]], [0.3, 0.6, 1.1])


def total(x, density):
    return float(density.sum() * (x[1] - x[0]))


@given(mixtures(), floats(-3, 3), st.integers(1, 12))
def test_reverse_density_is_a_density_with_the_moments_of_the_posterior(mixture, x_t, t):
    """Its mean is mu_tilde at E[x_0 | x_t]; its variance, beta_tilde plus that of mu_tilde."""
    schedule = linear_schedule(12, 0.01, 0.3)
    x = grid(-14, 14, 20001)
    p = reverse_density(mixture, schedule, x_t, t, x) * (x[1] - x[0])
    assert_close(p.sum().item(), 1.0, rtol=1e-9, atol=0)
    alpha_bar = schedule.alpha_bar[t]
    jump = log_density(x_t, alpha_bar.sqrt() * x, 1 - alpha_bar)
    weight = (jump + mixture.log_prob(x)).softmax(0)  # q(x_0 | x_t)
    x_0 = (weight * x).sum()
    now, here = torch.tensor([t]), numbers(x_t)
    mean, var = posterior(schedule, x_0[None], here, now)
    slope = posterior(schedule, x_0[None] + 1, here, now)[0] - mean
    assert_close((p * x).sum(), mean[0], rtol=1e-8, atol=1e-8)
    expected = var[0] + slope[0] ** 2 * (weight * (x - x_0) ** 2).sum()
    assert_close((p * (x - mean) ** 2).sum(), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("t", [1, 2, 6])
def test_reverse_density_averaged_over_x_t_is_the_law_one_step_earlier(t):
    schedule, mixture = constant_schedule(6, 0.2), two_modes(0.3)
    x_s, x_t = grid(-6, 6, 401), grid(-8, 8, 801)
    q_t = mixture.diffused(schedule, t).log_prob(x_t).exp() * (x_t[1] - x_t[0])
    averaged = sum(
        q * reverse_density(mixture, schedule, x, t, x_s)
        for x, q in zip(x_t.tolist(), q_t, strict=True)
    )
    expected = mixture.diffused(schedule, t - 1).log_prob(x_s).exp()
    assert_close(averaged, expected, rtol=1e-9, atol=1e-11)


@given(mixtures(), floats(-1, 1), floats(-1, 1), st.one_of(st.just(0.0), floats(0.05, 1)))
def test_push_keeps_mass_mean_and_variance(mixture, slope, shift, std):
    """Of an affine map: the mean is mapped, the variance is slope^2 var + std^2."""
    x = grid(-16, 16, 2048)
    p = mixture.log_prob(x).exp()
    pushed = push_density(x, p, slope * x + shift, std)
    mean = total(x, p * x)
    var = total(x, p * (x - mean) ** 2)
    assert_close(total(x, pushed), total(x, p), **EXACT)
    assert_close(total(x, pushed * x), slope * mean + shift, rtol=1e-9, atol=1e-9)
    spread = total(x, pushed * (x - slope * mean - shift) ** 2)
    assert_close(spread, slope**2 * var + std**2, rtol=1e-9, atol=1e-9)


def test_push_of_a_gaussian_is_a_gaussian():
    x = grid(n=2048)
    pushed = push_density(x, log_density(x, 0.5, 0.7).exp(), 0.8 * x - 1, 0.3)
    expected = log_density(x, 0.8 * 0.5 - 1, 0.8**2 * 0.7 + 0.3**2).exp()
    assert_close(pushed, expected, rtol=0, atol=1e-9)


def test_push_without_noise_by_the_identity_changes_nothing():
    x = grid(n=256)
    p = two_modes().log_prob(x).exp()
    assert_close(push_density(x, p, x, 0.0), p, rtol=0, atol=1e-12)


def test_push_of_rows_is_the_push_of_each_with_its_own_noise():
    x, mixture, std = grid(n=256), two_modes(0.3), numbers(0.0, 0.4, 1.2)
    rows = torch.stack([mixture.log_prob(x - shift).exp() for shift in (-1, 0, 1)])
    pushed = push_density(x, rows, 0.7 * x, std[:, None])
    alone = [push_density(x, p, 0.7 * x, float(s)) for p, s in zip(rows, std, strict=True)]
    assert_close(pushed, torch.stack(alone), rtol=0, atol=1e-12)


def dense(mixture, schedule, x, step, steps):
    """`sampled_density` by its definition: the density before the last step, and the last map.

    Each step is the integral of N(x_s; mean(x_t), std^2) p(x_t) over x_t: a full matrix.
    """
    times = timestep_grid(schedule.T, steps).tolist()
    p, h = log_density(x, 0.0, 1.0).exp(), x[1] - x[0]
    for t, s in zip(times, times[1:], strict=False):
        t_now, s_now = torch.full(x.shape, t), torch.full(x.shape, s)
        eps_hat = mixture.eps(schedule, x, t_now)
        mean = step(schedule, x, t_now, s_now, eps_hat, 0 * x)
        if s == 0:
            return p, mean
        std = (step(schedule, x, t_now, s_now, eps_hat, 0 * x + 1) - mean)[0]
        p = log_density(x[:, None], mean, std**2).exp() @ p * h


STEPS = [
    pytest.param(ddpm_step, id="beta"),
    pytest.param(partial(ddpm_step, variance=beta_tilde_variance), id="beta_tilde"),
    pytest.param(partial(ddim_step, eta=0.7), id="ddim 0.7"),
]


@pytest.mark.parametrize("step", STEPS)
def test_sampled_density_against_dense_quadrature(step):
    schedule, mixture, x = linear_schedule(40, 0.005, 0.2), two_modes(0.3), grid(n=2048)
    density = sampled_density(mixture.denoiser(schedule), schedule, x, step, steps=4)
    before, final = dense(mixture, schedule, x, step, 4)
    assert_close(total(x, density), 1.0, rtol=1e-9, atol=0)
    for f in (torch.square, torch.sin, torch.sigmoid, lambda v: torch.exp(-((v - 2) ** 2))):
        assert_close(total(x, density * f(x)), total(x, before * f(final)), rtol=1e-6, atol=1e-6)


@given(floats(-2, 2), floats(0.3, 1.5), schedules(12), st.data())
@settings(max_examples=15)
def test_sampled_density_of_one_gaussian_is_gaussian(mean_0, std_0, schedule, data):
    """There each step is an affine map, so mean and variance follow by hand."""
    steps = data.draw(st.integers(1, schedule.T))
    step = data.draw(st.sampled_from([s.values[0] for s in STEPS]))
    model = GaussianMixture([1], [mean_0], [std_0]).denoiser(schedule)
    mean, var = 0.0, 1.0
    points, z = numbers(0, 1, 0), numbers(0, 0, 1)
    times = timestep_grid(schedule.T, steps).tolist()
    for t, s in zip(times, times[1:], strict=False):
        t_now, s_now = torch.full((3,), t), torch.full((3,), s)
        out = step(schedule, points, t_now, s_now, model(points, t_now), z)
        shift, slope, std = (out[0], out[1] - out[0], out[2] - out[0])
        mean, var = slope * mean + shift, slope**2 * var + std**2
    x = grid(-12, 12, 4096)
    density = sampled_density(model, schedule, x, step, steps)
    moments = total(x, density), total(x, density * x), total(x, density * (x - mean) ** 2)
    assert_close(moments, (1.0, float(mean), float(var)), rtol=1e-6, atol=1e-6)
    cumulative = stats.norm.cdf(x, float(mean), float(var) ** 0.5)
    if var > 0.05:  # else the midpoint rule for the CDF is too coarse
        ours = density.cumsum(0) * (x[1] - x[0]) - density * (x[1] - x[0]) / 2
        assert_close(ours.numpy(), cumulative, rtol=0, atol=1e-4)


@pytest.mark.parametrize("step", [*STEPS, pytest.param(ddim_step, id="ddim 0")])
def test_sampled_density_is_the_law_of_sample(step):
    schedule, mixture, x = cosine_schedule(40), two_modes(0.3), grid(n=2048)
    model = mixture.denoiser(schedule)
    density = sampled_density(model, schedule, x, step, steps=8)
    cdf = (density.cumsum(0) * (x[1] - x[0])).numpy()
    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    x_0 = last(sample(model, schedule, (10_000,), step, 8, **options))
    statistic, p_value = ks(x_0, lambda v: np.interp(v, x.numpy() + float(x[1] - x[0]) / 2, cdf))
    assert p_value > 0.01, statistic


def test_sampled_density_from_the_exact_start_ends_closer():
    schedule, mixture, x = linear_schedule(50, 0.002, 0.1), two_modes(), grid(n=1024)
    truth, model = mixture.log_prob(x).exp(), mixture.denoiser(schedule)
    start = mixture.diffused(schedule, 50).log_prob(x).exp()
    exact = sampled_density(model, schedule, x, initial=start)
    assert w1_density(x, exact, truth) < w1_density(x, sampled_density(model, schedule, x), truth)


def test_sampled_density_walks_the_times_that_it_is_given():
    """A walk in two parts, at real times, is the walk."""
    schedule, mixture, x = linear_schedule(40, 0.005, 0.2), two_modes(0.3), grid(n=1024)
    model, times = mixture.denoiser(schedule), numbers(39.5, 20, 7.25, 0)
    whole = sampled_density(model, schedule, x, ddpm_step, times)
    first = sampled_density(model, schedule, x, ddpm_step, times[:2])
    assert_close(sampled_density(model, schedule, x, ddpm_step, times[1:], first), whole, **EXACT)
    every = sampled_density(model, schedule, x, ddpm_step, timestep_grid(40, 5))
    assert torch.equal(every, sampled_density(model, schedule, x, ddpm_step, 5))


def test_a_density_may_come_in_lower_precision():
    """The grid is float64; a density, a map and a model may be less exact."""
    x, schedule = grid(n=1024), linear_schedule(10)
    p = two_modes().log_prob(x).exp()
    exact = push_density(x, p, 0.9 * x, 0.3)
    found = push_density(x, p.float(), (0.9 * x).float(), 0.3)
    assert found.dtype == torch.float64
    assert_close(found, exact, rtol=0, atol=1e-4)
    model = two_modes().denoiser(schedule)
    exact = sampled_density(model, schedule, x, steps=3, initial=log_density(x, 0.0, 1.0).exp())
    single = sampled_density(lambda x, t: model(x, t).float(), schedule, x, steps=3,
                             initial=log_density(x, 0.0, 1.0).exp().float())  # fmt: skip
    assert_close(single, exact, rtol=0, atol=1e-4)


@given(mixtures(), schedules(6))
@settings(max_examples=10)
def test_least_error_is_the_loss_of_the_exact_denoiser(mixture, schedule):
    """E (eps - eps*)^2 over x_0 and eps on a grid of both, where `least_error` has one integral."""
    error = least_error(mixture, schedule, grid(-16, 16, 4096))
    assert error.shape == (schedule.T + 1,) and error[0] == 1
    x_0, eps = torch.linspace(-9, 9, 301).double(), torch.linspace(-7, 7, 201).double()
    mass = mixture.log_prob(x_0).exp()[:, None] * log_density(eps, 0.0, 1.0).exp()
    mass = mass / mass.sum()
    t = schedule.T
    alpha_bar = schedule.alpha_bar[t]
    x_t = (alpha_bar.sqrt() * x_0[:, None] + (1 - alpha_bar).sqrt() * eps).flatten()
    exact = mixture.eps(schedule, x_t, torch.full(x_t.shape, t)).reshape(301, 201)
    assert_close(error[t], (mass * (eps - exact) ** 2).sum(), rtol=0, atol=2e-3)


def test_least_error_where_next_to_nothing_is_left_of_the_data():
    """There the error is the SNR times the variance of the data; 1 - E eps_hat^2 is rounding."""
    schedule = linear_schedule(1000, 1e-4, 0.1)
    places = least_error(two_modes(), schedule, grid()) / schedule.alpha_bar
    assert_close(places[900:], torch.full((101,), 4.25).double(), rtol=1e-3, atol=0)


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])
M, LINE = two_modes(), grid(n=64)
P, MODEL, NAN = M.log_prob(LINE).exp(), M.denoiser(S), math.nan


STEP = LINE[1] - LINE[0]
COUNTS = torch.zeros(64).long()
COUNTS[32] = 1
ROWS, STD = torch.stack([P, P]), torch.tensor([[1.0], [2.0]])


def of_model(model):
    return sampled_density(model, S, LINE, steps=2)


def density(x=LINE, steps=2, initial=None):
    return sampled_density(MODEL, S, x, steps=steps, initial=initial)


BAD = [
    bad("narrow grid", lambda: least_error(two_modes(), S, grid(-1, 1)), "mass"),
    bad("push float32", lambda: push_density(LINE.float(), P, LINE, 1.0), "x .*float64", TypeError),
    bad("push uneven", lambda: push_density(LINE**3, P, LINE, 1.0), r"x .*even.*grid\(\)"),
    bad("push falling", lambda: push_density(-LINE, P, LINE, 1.0), "x must be an even, rising"),
    bad("push short", lambda: push_density(LINE[:3], P[:3], LINE[:3], 1.0), "x .*4 points or more"),
    bad("push shapes", lambda: push_density(LINE, P[1:], LINE, 1.0), r"density .*\[64\].*\[63\]"),
    bad("push NaN", lambda: push_density(LINE, P, LINE * NAN, 1.0), "mean must be finite, got NaN"),
    bad("push std", lambda: push_density(LINE, P, LINE, -1.0), "std .*at least 0, got -1"),
    bad("push rows", lambda: push_density(LINE, ROWS, LINE, -STD), "std .* from -2 to -1"),
    bad("push a row", lambda: push_density(LINE, ROWS / (2 - STD), LINE, STD), "density .*NaN"),
    bad("push rows away", lambda: push_density(LINE, ROWS, LINE + 9, STD), "x .*farther: .*wider"),
    bad("push away", lambda: push_density(LINE, P, LINE + 9, 1.0), "x .*farther: .*wider"),
    bad("narrow", lambda: density(grid(-1, 1, 64)), "initial .*mass 1 .*0.69.*wider"),
    bad("coarse", lambda: density(grid(n=6)), "initial .*mass 1 .*finer grid"),
    bad("initial", lambda: density(initial=2 * P), "initial .*mass 1 .*got 2"),
    bad("initial [1]", lambda: density(initial=P[:1] * 0 + 1 / STEP), "density must have"),
    bad("initial 2-D", lambda: density(initial=P[:, None]), r"density must have the shape of x"),
    bad("model [n, 1]", lambda: of_model(lambda x, t: x[:, None]), r"return eps_hat .*\[64, 1\]"),
    bad("model NaN", lambda: of_model(lambda x, t: x / 0), "eps_hat must be finite"),
    bad("push int", lambda: push_density(LINE, COUNTS, LINE, 1.0), "density must be", TypeError),
    bad("push NaN std", lambda: push_density(LINE, P, LINE, NAN), "std must be .* got nan"),
    bad("push [n, 1]", lambda: push_density(LINE[:, None], P, P, 1.0), "x must be an even, rising"),
    bad("x list", lambda: density([0.0, 1.0]), "x must be a float64 grid: make it", TypeError),
    bad("reverse int", lambda: reverse_density(M, S, 0.1, 1, COUNTS), "x must be a f", TypeError),
    bad("initial NaN", lambda: density(initial=P * NAN), "initial must have mass 1 .*got nan"),
    bad("steps", lambda: density(steps=11), r"steps .*1\.\.T = 10, got 11"),
    bad("float32", lambda: density(LINE.float()), "x .*float64 grid: make it", TypeError),
    bad("reverse 0", lambda: reverse_density(M, S, 0.1, 0, LINE), r"t .*1\.\.10, got 0"),
    bad("reverse 11", lambda: reverse_density(M, S, 0.1, 11, LINE), r"t .*1\.\.10, got 11"),
    bad("reverse NaN", lambda: reverse_density(M, S, NAN, 1, LINE), "x must be finite"),
    bad("reverse 2-D", lambda: reverse_density(IN_PLANE, S, 0.1, 1, LINE), r"x .*\[B, 2\].*\[1\]"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
