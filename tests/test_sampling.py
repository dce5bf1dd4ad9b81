"""Steps and the loop: laws between DDPM, DDIM and the posterior, and diffusers' schedulers."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, cases, check_bad, earlier, floats, normal, numbers, schedules, seeds
from torch.testing import assert_close

from ddpm_lite.density import grid, least_error, reverse_density, sampled_density
from ddpm_lite.forward import q_sample
from ddpm_lite.metrics import ks, mixture_cdf
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.posterior import posterior
from ddpm_lite.prediction import from_v, predict_eps, predict_x_0, to_v
from ddpm_lite.sampling import (
    best_variance,
    beta_tilde_variance,
    beta_variance,
    ddim_heun_step,
    ddim_step,
    ddpm_step,
    dpm_solver_step,
    multistep,
    sample,
    zero_variance,
)
from ddpm_lite.schedule import cosine_schedule, linear_schedule, scales
from ddpm_lite.solvers import ddim_invert, slerp
from ddpm_lite.times import leading_grid, quadratic_grid, timestep_grid, walk_times

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}

ddpm_small = partial(ddpm_step, variance=beta_tilde_variance)


# one step


@given(cases(), st.data())
def test_ddpm_step_is_the_posterior_at_x_0_hat_plus_noise(case, data):
    schedule, x_t, t, eps_hat = case.schedule, case.x_t, case.t, case.eps
    s = data.draw(earlier(case))
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    mean, beta_tilde = posterior(schedule, x_0_hat, x_t, t, s)
    # The variance of the forward steps from s to t, by walking them.
    beta = torch.zeros_like(beta_tilde)
    for b in range(len(t)):
        for step_beta in schedule.beta[s[b] + 1 : t[b] + 1].tolist():
            beta[b] = (1 - step_beta) * beta[b] + step_beta
    assert_close(beta_variance(schedule, t, s, x_t), beta, rtol=1e-10, atol=1e-13)
    assert_close(beta_tilde_variance(schedule, t, s, x_t), beta_tilde, **EXACT)
    noisy = (s > 0).reshape(beta.shape)
    for step, var in ((ddpm_step, beta), (ddpm_small, beta_tilde)):
        x_s = step(schedule, x_t, t, s, eps_hat, case.z)
        assert_close(x_s, mean + noisy * var.sqrt() * case.z, **CLOSE)


@given(cases())
def test_ddpm_step_is_algorithm_2(case):
    """x_{t-1} = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_t) + sigma_t z."""
    schedule, t, x_t = case.schedule, case.t, case.x_t
    column = (len(t), *[1] * (x_t.ndim - 1))
    beta, alpha_bar = schedule.beta[t].reshape(column), schedule.alpha_bar[t].reshape(column)
    mean = (x_t - beta / (1 - alpha_bar).sqrt() * case.eps) / (1 - beta).sqrt()
    sigma = torch.where(t > 1, schedule.beta[t].sqrt(), 0.0).reshape(column)
    assert_close(
        ddpm_step(schedule, x_t, t, t - 1, case.eps, case.z), mean + sigma * case.z, **CLOSE
    )


@given(cases(), st.data())
def test_ddim_at_eta_1_is_the_posterior(case, data):
    """On neighbouring steps it is the DDPM step with beta_tilde; on longer ones too."""
    args = (case.schedule, case.x_t, case.t)
    for s in (case.t - 1, data.draw(earlier(case))):
        ddim = ddim_step(*args, s, case.eps, case.z, eta=1.0)
        assert_close(ddim, ddpm_small(*args, s, case.eps, case.z), **CLOSE)


@given(cases(), st.data())
def test_ddim_at_eta_0_carries_x_0_and_eps_along(case, data):
    """With the true eps, x_t becomes x_s of the same x_0 and eps; z has no part in it."""
    schedule, s = case.schedule, data.draw(earlier(case))
    x_t = q_sample(schedule, case.x_0, case.t, case.eps)
    x_s = ddim_step(schedule, x_t, case.t, s, case.eps, case.z)
    assert torch.equal(x_s, ddim_step(schedule, x_t, case.t, s, case.eps, 0 * case.z))
    later = s > 0
    if later.any():
        kept = q_sample(schedule, case.x_0[later], s[later], case.eps[later])
        assert_close(x_s[later], kept, **CLOSE)
    assert_close(x_s[~later], case.x_0[~later], **CLOSE)


@given(cases(), st.data(), floats(0, 1))
def test_ddim_keeps_the_marginals_at_every_eta(case, data, eta):
    """eps and z are independent: the squares of their factors add up to 1 - alpha_bar_s."""
    schedule, s = case.schedule, data.draw(earlier(case))

    def x_s(eps, z):
        x_t = q_sample(schedule, case.x_0, case.t, eps)
        return ddim_step(schedule, x_t, case.t, s, eps, z, eta)

    one, zero = torch.ones_like(case.z), torch.zeros_like(case.z)
    mean = x_s(zero, zero)
    column = mean.new_ones(len(s), *[1] * (mean.ndim - 1))
    alpha_bar = schedule.alpha_bar[s].reshape(column.shape)
    assert_close(mean, alpha_bar.sqrt() * case.x_0, **CLOSE)
    var = (x_s(one, zero) - mean) ** 2 + (x_s(zero, one) - mean) ** 2
    assert_close(var, (1 - alpha_bar).expand_as(var), **CLOSE)
    assert_close(
        ((x_s(zero, one) - mean) ** 2),
        (eta**2 * beta_tilde_variance(schedule, case.t, s, mean)).expand_as(var),
        rtol=1e-6,
        atol=1e-12,
    )


def test_ddim_at_eta_1_on_neighbours_is_the_posterior_of_the_exact_denoiser():
    """At T = 1000, with x_0_hat = E[x_0 | x_t]: at every t, to 12 digits."""
    schedule, mixture = linear_schedule(), two_modes(0.2)
    t, x_t, z = torch.arange(1, 1001), 2 * normal(1000), normal(1000, seed=1)
    ours = ddim_step(schedule, x_t, t, t - 1, mixture.eps(schedule, x_t, t), z, eta=1.0)
    mean, var = posterior(schedule, mixture.x_0(schedule, x_t, t), x_t, t)
    assert_close(ours, mean + var.sqrt() * z, rtol=1e-12, atol=1e-12)


@given(cases(), st.data())
def test_ddim_at_eta_0_is_an_euler_step_in_the_right_variables(case, data):
    """In y = x / sqrt(alpha_bar) and r = sqrt(1 / alpha_bar - 1) the ODE is dy/dr = eps_hat."""
    schedule, s = case.schedule, data.draw(earlier(case))
    column = (len(s), *[1] * (case.x_t.ndim - 1))
    a_t, a_s = (schedule.alpha_bar[r].reshape(column) for r in (case.t, s))
    r_t, r_s = ((1 / a - 1).sqrt() for a in (a_t, a_s))
    euler = case.x_t / a_t.sqrt() + (r_s - r_t) * case.eps
    x_s = ddim_step(schedule, case.x_t, case.t, s, case.eps, case.z)
    assert_close(x_s / a_s.sqrt(), euler, **EXACT)


@given(cases(), st.data())
def test_heun_is_an_euler_step_with_the_mean_slope(case, data):
    schedule, s = case.schedule, data.draw(earlier(case))
    args = (schedule, case.x_t, case.t, s)

    def model(x, t):
        assert torch.equal(x, ddim_step(*args, case.eps, case.z)) and torch.equal(t, s)
        return 3 * case.eps

    x_s = ddim_heun_step(*args, case.eps, case.z, model)
    mean = case.eps if (s == 0).any() else 2 * case.eps
    assert_close(x_s, ddim_step(*args, mean, case.z), **CLOSE)


@given(cases(), st.data())
def test_dpm_solver_without_memory_is_ddim(case, data):
    args = (case.schedule, case.x_t, case.t, data.draw(earlier(case)), case.eps, case.z)
    assert_close(dpm_solver_step(*args), ddim_step(*args), **CLOSE)
    assert_close(dpm_solver_step(*args, clip=0.5), ddim_step(*args, clip=0.5), **CLOSE)


@given(schedules(), st.data())
def test_dpm_solver_is_algorithm_2_of_its_paper(schedule, data):
    """x_s = noise_s / noise_t x_t - signal_s (e^-h - 1) D, in lambda = log(signal / noise)."""
    r, t, s = data.draw(st.lists(floats(0.01, 1), min_size=3, max_size=3, unique=True).map(sorted))[
        ::-1
    ]
    if min(r - t, t - s) < 1e-3:
        return
    r, t, s = (torch.full((4,), schedule.T * v, dtype=torch.float64) for v in (r, t, s))
    x_r, x_t, eps_r, eps, z = normal(5, 4)
    x_0_r, x_0_t = predict_x_0(schedule, x_r, r, eps_r), predict_x_0(schedule, x_t, t, eps)
    (_, noise_t), (signal_s, noise_s) = scales(schedule, t, x_t), scales(schedule, s, x_t)
    lambdas = [(a / b).log() for a, b in (scales(schedule, v, x_t) for v in (r, t, s))]
    h_before, h = lambdas[1] - lambdas[0], lambdas[2] - lambdas[1]
    ratio = h_before / h
    D = (1 + 1 / (2 * ratio)) * x_0_t - 1 / (2 * ratio) * x_0_r
    expected = noise_s / noise_t * x_t - signal_s * torch.expm1(-h) * D
    ours = dpm_solver_step(schedule, x_t, t, s, eps, z, before=(r, x_0_r))
    assert_close(ours, expected, rtol=1e-7, atol=1e-7)


def test_dpm_solver_carries_x_0_hat_on_to_the_middle():
    """On even steps in log SNR, half of what x_0_hat moved by in the step before is added."""
    schedule, log_snr = linear_schedule(), numbers(-4, -3, -2)
    r, t, s = (now.expand(4) for now in schedule.time_at(log_snr.sigmoid()))
    x_t, x_0_before, eps, z = normal(4, 4)
    x_0_hat = predict_x_0(schedule, x_t, t, eps)
    middle = predict_eps(schedule, x_t, t, x_0_hat + (x_0_hat - x_0_before) / 2)
    ours = dpm_solver_step(schedule, x_t, t, s, eps, z, (r, x_0_before))
    assert_close(ours, ddim_step(schedule, x_t, t, s, middle, z), **CLOSE)


def test_dpm_solver_clips_what_it_remembers_too():
    schedule, (r, t, s) = linear_schedule(), torch.tensor([900, 600, 300])[:, None].expand(3, 4)
    x_t, x_0_before, eps, z = 3 * normal(4, 4)
    clipped = x_0_before.clamp(-0.5, 0.5)
    ours = dpm_solver_step(schedule, x_t, t, s, eps, z, (r, x_0_before), clip=0.5)
    assert_close(
        ours, dpm_solver_step(schedule, x_t, t, s, eps, z, (r, clipped), clip=0.5), **EXACT
    )
    x_0_hat = predict_x_0(schedule, x_t, t, eps).clamp(-0.5, 0.5)
    eps_hat = predict_eps(schedule, x_t, t, x_0_hat)
    assert_close(ours, dpm_solver_step(schedule, x_t, t, s, eps_hat, z, (r, clipped)), **CLOSE)


# variances


@given(cases(), st.data())
def test_zero_variance_leaves_the_mean(case, data):
    args = (case.schedule, case.x_t, case.t, data.draw(earlier(case)), case.eps)
    alone = ddpm_step(*args, case.z, variance=zero_variance)
    assert_close(alone, ddpm_step(*args, 0 * case.z), **EXACT)


@pytest.mark.parametrize("mixture", [two_modes(0.3), GaussianMixture([1], [0.5], [0.2])])
def test_best_variance_is_the_mean_variance_of_the_exact_step_back(mixture):
    """E Var(x_{t-1} | x_t), by Bayes' rule on a grid for every x_t of another grid."""
    schedule, x = linear_schedule(6, 0.05, 0.3), grid(-8, 8, 1024)
    dx, like = x[1] - x[0], torch.zeros(1, dtype=torch.float64)
    variance = best_variance(least_error(mixture, schedule, x))
    for t in (2, 5):
        q, total = mixture.diffused(schedule, t).log_prob(x[::4]).exp() * 4 * dx, 0.0
        for x_t, weight in zip(x[::4].tolist(), q.tolist(), strict=True):
            p = reverse_density(mixture, schedule, x_t, t, x) * dx
            total += weight * float((p * x**2).sum() - (p * x).sum() ** 2)
        now = torch.tensor([t])
        assert_close(variance(schedule, now, now - 1, like).item(), total, rtol=1e-6, atol=0)


@given(schedules(8), floats(-2, 2), floats(0.3, 1.5), st.data())
def test_best_variance_makes_the_chain_of_a_gaussian_exact(schedule, mean, std, data):
    """There the step back is Gaussian, over any number of steps: no error is left but the start."""
    mixture, x = GaussianMixture([1], [mean], [std]), grid(-14, 14, 2048)
    step = partial(ddpm_step, variance=best_variance(least_error(mixture, schedule, x)))
    start = mixture.diffused(schedule, schedule.T).log_prob(x).exp()
    times = walk_times(schedule, data.draw(st.integers(1, schedule.T)))
    times = times[: max(2, len(times) - 1)]  # the last step of a chain adds no noise, and is not
    density = sampled_density(mixture.denoiser(schedule), schedule, x, step, times, start)
    if times[-1] > 0:
        expected = mixture.diffused(schedule, int(times[-1])).log_prob(x).exp()
        assert_close(density, expected, rtol=1e-4, atol=1e-4)


def test_best_variance_is_beta_for_unit_variance_and_beta_tilde_for_a_point():
    schedule, like = linear_schedule(20, 0.01, 0.2), torch.zeros(3, dtype=torch.float64)
    t, s = torch.tensor([3, 11, 20]), torch.tensor([1, 10, 2])
    for std, bound in ((1.0, beta_variance), (1e-6, beta_tilde_variance)):
        error = least_error(GaussianMixture([1], [0], [std]), schedule, grid(-10, 10, 2048))
        best = best_variance(error)(schedule, t, s, like)
        assert_close(best, bound(schedule, t, s, like), rtol=1e-8, atol=0)


STEPS = [
    ddpm_step,
    ddpm_small,
    partial(ddpm_step, variance=zero_variance),
    ddim_step,
    partial(ddim_step, eta=0.5),
    partial(ddim_step, eta=1.0),
    dpm_solver_step,
]


# real times


@given(cases(), st.data(), st.sampled_from(STEPS))
def test_a_real_t_that_is_whole_is_the_integer(case, data, step):
    s = data.draw(earlier(case))
    whole = step(case.schedule, case.x_t, case.t, s, case.eps, case.z)
    real = step(case.schedule, case.x_t, case.t.double(), s.double(), case.eps, case.z)
    assert torch.equal(whole, real)


@given(cases(), st.data(), floats(0, 1))
def test_ddim_keeps_the_marginals_at_real_times(case, data, eta):
    """The law at eta of every pair of integers, at two times in between."""
    schedule, B = case.schedule, len(case.t)
    t = schedule.T * numbers(*data.draw(st.lists(floats(0.01, 1), min_size=B, max_size=B)))
    s = t * data.draw(floats(0, 0.99))
    signal_t, noise_t = scales(schedule, t, case.x_t)
    signal_s, noise_s = scales(schedule, s, case.x_t, first=0)
    one, zero = torch.ones_like(case.z), torch.zeros_like(case.z)

    def x_s(eps, z):
        return ddim_step(schedule, signal_t * case.x_0 + noise_t * eps, t, s, eps, z, eta)

    mean = x_s(zero, zero)
    assert_close(mean, signal_s * case.x_0, **CLOSE)
    var = (x_s(one, zero) - mean) ** 2 + (x_s(zero, one) - mean) ** 2
    assert_close(var, (noise_s**2).expand_as(var), **CLOSE)


@given(cases(), st.sampled_from(STEPS), st.sampled_from([None, 0.5]))
def test_the_last_step_returns_x_0_hat(case, step, clip):
    s = torch.zeros_like(case.t)
    x_0_hat = predict_x_0(case.schedule, case.x_t, case.t, case.eps)
    x_0_hat = x_0_hat if clip is None else x_0_hat.clamp(-clip, clip)
    x_s = step(case.schedule, case.x_t, case.t, s, case.eps, case.z, clip=clip)
    assert torch.equal(x_s, x_0_hat)


@given(cases(), st.data(), st.sampled_from(STEPS))
def test_clipping_is_the_step_of_the_model_whose_x_0_hat_is_clipped(case, data, step):
    schedule, x_t, t, s = case.schedule, case.x_t, case.t, data.draw(earlier(case))
    clipped = step(schedule, x_t, t, s, case.eps, case.z, clip=0.5)
    x_0_hat = predict_x_0(schedule, x_t, t, case.eps).clamp(-0.5, 0.5)
    column = (len(t), *[1] * (x_t.ndim - 1))
    alpha_bar = schedule.alpha_bar[t].reshape(column)
    eps_hat = (x_t - alpha_bar.sqrt() * x_0_hat) / (1 - alpha_bar).sqrt()
    assert_close(clipped, step(schedule, x_t, t, s, eps_hat, case.z), rtol=1e-8, atol=1e-8)
    wide = step(schedule, x_t, t, s, case.eps, case.z, clip=1e9)
    assert_close(wide, step(schedule, x_t, t, s, case.eps, case.z), **CLOSE)


@given(schedules(), st.data(), st.sampled_from(STEPS))
def test_a_jump_is_a_step_of_the_respaced_schedule(schedule, data, step):
    steps = data.draw(st.integers(1, schedule.T))
    times = walk_times(schedule, steps).flip(0)
    k = torch.arange(1, steps + 1)
    x, eps, z = normal(3, steps)
    jump = step(schedule, x, times[1:], times[:-1], eps, z)
    assert_close(jump, step(schedule.respaced(steps), x, k, k - 1, eps, z), rtol=1e-7, atol=1e-7)


def test_steps_keep_dtype_layout_and_gradients():
    schedule, t, s = linear_schedule(), torch.tensor([2, 500, 1000]), torch.tensor([1, 0, 900])
    x, eps, z = (normal(2, 3, seed=i).T for i in range(3))
    for step in STEPS:
        exact = step(schedule, x, t, s, eps, z)
        same = step(schedule, x.contiguous(), t, s, eps.contiguous(), z.contiguous())
        assert torch.equal(exact, same)
        rounded = step(schedule, x.float(), t, s, eps.float(), z.float())
        assert rounded.dtype == torch.float32
        assert_close(rounded.double(), exact, rtol=1e-4, atol=1e-5)
        assert (
            step(schedule, x.bfloat16(), t, s, eps.bfloat16(), z.bfloat16()).dtype == torch.bfloat16
        )
        leaf = x.clone().requires_grad_()
        step(schedule, leaf, t, s, eps, z).sum().backward()
        assert leaf.grad.abs().min() > 0


# the loop


def test_sample_walks_the_grid_and_ends_at_x_0_hat():
    schedule, seen = cosine_schedule(10), []

    def model(x, t):
        seen.append(t.tolist())
        return 0.1 * x

    walk = list(sample(model, schedule, (3, 2), steps=4))
    times = timestep_grid(10, 4).tolist()
    assert seen == [[t] * 3 for t in times[:-1]]
    assert [s for s, _, _ in walk] == times[1:]
    for _, x_s, x_0_hat in walk:
        assert x_s.shape == x_0_hat.shape == (3, 2) and x_s.dtype == torch.float32
    assert torch.equal(walk[-1][1], walk[-1][2])


@given(schedules(8), st.sampled_from(STEPS))
def test_sample_is_the_step_repeated(schedule, step):
    def model(x, t):
        return torch.tanh(x) + t[:, None] / 10

    x = x_T = normal(4, 2)
    ours = sample(
        model, schedule, (4, 2), step, generator=torch.Generator().manual_seed(1), x_T=x_T
    )
    generator = torch.Generator().manual_seed(1)
    for t, (s, x_s, x_0_hat) in zip(range(schedule.T, 0, -1), ours, strict=True):
        now = torch.full((4,), t)
        eps_hat, z = model(x, now), torch.randn(4, 2, generator=generator, dtype=torch.float64)
        assert torch.equal(x_0_hat, predict_x_0(schedule, x, now, eps_hat))
        x = step(schedule, x, now, now - 1, eps_hat, z)
        assert s == t - 1 and torch.equal(x_s, x)
    assert torch.equal(x_T, normal(4, 2))  # the start is left as it was


@pytest.mark.parametrize(
    "times",
    [
        quadratic_grid(20, 4),
        leading_grid(20, 4),
        torch.tensor([20, 7, 7, 7, 3]),
        numbers(19.5, 2.25, 0.125),
    ],
)
def test_sample_walks_the_times_that_it_is_given(times):
    asked, walked, schedule = [], [], linear_schedule(20)

    def model(x, t):
        assert t.shape == (3,) and t.dtype == times.dtype
        asked.append(t[0].item())
        return 0.1 * x

    def step(schedule, x_t, t, s, eps_hat, z):
        assert s.dtype == times.dtype
        return x_t + 1

    walked = [s for s, _, _ in sample(model, schedule, (3, 2), step, times)]
    assert asked == times[:-1].tolist() and walked == times[1:].tolist()
    assert torch.equal(walk_times(schedule, times), times)
    assert walk_times(schedule, times.float() / 2).dtype == torch.float64


def test_a_step_with_memory_forgets_a_walk_that_was_left():
    """Another walk that begins where the first one stopped is as if it were alone."""
    schedule, model = linear_schedule(), two_modes().denoiser(linear_schedule())
    step, a, b = multistep(dpm_solver_step), normal(4), normal(4, seed=1)
    next(sample(model, schedule, (4,), step, torch.tensor([1000, 500, 0]), x_T=b))
    rest = torch.tensor([500, 400, 0])
    *_, (_, after, _) = sample(model, schedule, (4,), step, rest, x_T=a)
    *_, (_, alone, _) = sample(model, schedule, (4,), multistep(dpm_solver_step), rest, x_T=a)
    assert_close(after, alone, rtol=0, atol=0)


def test_a_step_with_memory_is_told_of_the_step_before():
    told = []

    def step(schedule, x_t, t, s, eps_hat, z, before=None):
        told.append(None if before is None else (int(before[0][0]), before[1]))
        return x_t / 2

    schedule, once, model = linear_schedule(9), multistep(step), lambda x, t: x / t[:, None]
    x_T = normal(3, 2)
    for s, _, _ in sample(model, schedule, (3, 2), once, 9, x_T=x_T):
        if s == 7:  # left early: the next walk does not go on from here
            break
    walk = list(sample(model, schedule, (3, 2), once, 3, x_T=x_T))
    assert [t and t[0] for t in told] == [None, 9, None, 9, 6]
    for (_, _, x_0_hat), (_, before) in zip(walk, told[3:], strict=False):
        assert torch.equal(x_0_hat, before)
    assert torch.equal(final(walk), x_T / 8)


def test_a_seed_is_a_sample_and_the_start_comes_from_it_too():
    schedule, model = linear_schedule(5), two_modes().denoiser(linear_schedule(5))

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        *_, (_, x_0, _) = sample(model, schedule, (100,), generator=generator)
        return x_0

    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))


def test_sample_needs_no_gradient_and_leaves_the_callers_mode_alone():
    weight = torch.ones(1, requires_grad=True)
    for _, x, x_0_hat in sample(lambda x, t: weight * x, linear_schedule(3), (2,)):
        assert not x.requires_grad and not x_0_hat.requires_grad and torch.is_grad_enabled()


def test_sample_can_be_left_early():
    calls = []
    for s, _, _ in sample(lambda x, t: calls.append(t) or x, linear_schedule(1000), (1,)):
        if s < 998:
            break
    assert len(calls) == 3


@pytest.mark.parametrize(("T", "steps"), [(1, None), (1, 1), (7, 7), (7, 1)])
def test_shortest_and_fullest_walks(T, steps):
    schedule = linear_schedule(T)
    walk = list(sample(two_modes().denoiser(schedule), schedule, (4,), steps=steps))
    assert len(walk) == (steps or T) and walk[-1][0] == 0 and walk[-1][1].isfinite().all()


@pytest.mark.parametrize("step", [ddpm_step, ddpm_small, ddim_step])
def test_exact_denoiser_samples_the_mixture(step):
    """80 small steps: what remains of the error is too small for 2,000 points to see."""
    schedule, mixture = cosine_schedule(80), two_modes(0.3)
    generator = torch.Generator().manual_seed(0)
    *_, (_, x_0, _) = sample(mixture.denoiser(schedule), schedule, (2000,), step, None, generator)
    assert ks(x_0, mixture_cdf(mixture))[1] > 0.01


# the way up, and the way across


@pytest.mark.parametrize("mixture", [two_modes(), two_modes(0.2)])
def test_inversion_undoes_sampling_the_better_the_more_steps(mixture):
    """The error falls like 1 / S; and with refinement it goes away at any S."""
    schedule = linear_schedule()
    model, x_T = mixture.denoiser(schedule), torch.linspace(-2, 2, 20).double()
    errors = []
    for steps in (20, 40, 80, 160):
        x_0 = final(sample(model, schedule, (20,), ddim_step, steps, x_T=x_T))
        errors.append(float((last(ddim_invert(model, schedule, x_0, steps)) - x_T).abs().mean()))
        refined = last(ddim_invert(model, schedule, x_0, steps, refine=40))
        assert_close(refined, x_T, rtol=0, atol=1e-6 if steps == 20 else 1e-9)
    slope = np.polyfit(np.log([20, 40, 80, 160]), np.log(errors), 1)[0]
    assert abs(slope + 1) < 0.25, errors


def test_sampling_undoes_inversion_too():
    schedule, mixture = linear_schedule(), two_modes(0.2)
    model, x_0 = mixture.denoiser(schedule), mixture.sample(50, torch.Generator().manual_seed(0))
    x_T = last(ddim_invert(model, schedule, x_0, quadratic_grid(1000, 40), refine=40))
    again = final(sample(model, schedule, (50,), ddim_step, quadratic_grid(1000, 40), x_T=x_T))
    assert_close(again, x_0, rtol=0, atol=1e-6)


def test_inversion_climbs_the_grid_and_asks_the_model_where_it_is_known():
    asked, schedule = [], linear_schedule(10)

    def model(x, t):
        asked.append(t[0].item())
        return 0.1 * x

    walk = list(ddim_invert(model, schedule, normal(3, 2), 5, refine=1))
    assert [t for t, _ in walk] == [2, 4, 6, 8, 10]
    assert asked == [2, 2, 4, 4, 6, 6, 8, 8, 10, 10]


@given(st.integers(1, 4), st.integers(2, 6), seeds, floats(0, 1))
def test_slerp_turns_at_a_constant_rate_and_keeps_the_length(B, D, seed, u):
    a, b = normal(2, B, D, seed=seed)
    b = b / b.norm(dim=1, keepdim=True) * a.norm(dim=1, keepdim=True)
    length = a.norm(dim=1)

    def angle(x, y):
        return ((x * y).sum(1) / length**2).clamp(-1, 1).acos()

    x = slerp(a, b, u)
    assert_close(x.norm(dim=1), length, rtol=1e-6, atol=1e-6)
    assert_close(angle(a, x), u * angle(a, b), rtol=1e-5, atol=1e-5)
    assert_close(slerp(a, b, 0.0), a, **CLOSE)
    assert_close(slerp(a, b, 1.0), b, **CLOSE)
    assert_close(slerp(b, a, 1 - u), x, **CLOSE)
    assert_close(slerp(a, a, u), a, **CLOSE)
    assert_close(slerp(a, b, torch.full((B,), u, dtype=a.dtype)), x, **EXACT)


def test_slerp_of_noise_is_noise_where_a_line_is_not():
    a, b = normal(2, 2000, 50)
    halfway = slerp(a.reshape(2000, 5, 10), b.reshape(2000, 5, 10), 0.5)
    assert halfway.shape == (2000, 5, 10)
    assert abs(halfway.std() - 1) < 0.01 and abs(((a + b) / 2).std() - 0.5**0.5) < 0.01


# diffusers: their t is ours minus 1, and they are given our tables in float64


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


def upgraded(scheduler, schedule):
    """Their tables are float32: put ours in their place, so that steps compare to 1e-12."""
    scheduler.betas, scheduler.alphas = schedule.beta[1:], schedule.alpha[1:]
    scheduler.alphas_cumprod = schedule.alpha_bar[1:]
    scheduler.final_alpha_cumprod = numbers(1)
    return scheduler


def wavy(x, t):
    """Any function will do for a model: what is compared is the step."""
    return torch.sin(2 * x) + 0.1 * x + t[:, None] / 100


def final(walk):
    *_, (_, x_0, _) = walk
    return x_0


def last(walk):
    *_, (_, x_t) = walk
    return x_t


@pytest.mark.parametrize("steps", [1, 2, 10, 40])
@pytest.mark.parametrize(
    ("variance_type", "step"), [("fixed_large", ddpm_step), ("fixed_small", ddpm_small)]
)
@pytest.mark.parametrize("clip", [None, 1.5])
def test_ancestral_walk_is_diffusers(diffusers, variance_type, step, steps, clip):
    schedule = linear_schedule(40, 0.001, 0.1)
    theirs = diffusers.DDPMScheduler(
        num_train_timesteps=40,
        variance_type=variance_type,
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
        timestep_spacing="trailing",
    )
    theirs = upgraded(theirs, schedule)
    theirs.set_timesteps(steps)
    x = x_T = normal(5, 3)
    generator = torch.Generator().manual_seed(1)
    ours = sample(
        wavy,
        schedule,
        (5, 3),
        partial(step, clip=clip),
        steps,
        torch.Generator().manual_seed(1),
        x_T=x_T,
    )
    for t, (s, x_s, _) in zip(theirs.timesteps, ours, strict=True):
        assert s == theirs.previous_timestep(t) + 1
        eps_hat = wavy(x, (t + 1).expand(5))
        step_out = theirs.step(eps_hat, t, x, generator=generator)
        # Their last jump, where it is longer than one step, still adds noise: ours never does.
        x = step_out.prev_sample if s > 0 else step_out.pred_original_sample
        assert_close(x_s, x, rtol=1e-10, atol=1e-10)
    if steps == 40:
        assert torch.equal(step_out.prev_sample, step_out.pred_original_sample)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 4, 10, 40])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_steps_are_diffusers(diffusers, eta, steps, spacing):
    schedule = cosine_schedule(40)
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=40, clip_sample=False, timestep_spacing=spacing
    )
    theirs = upgraded(theirs, schedule)
    theirs.set_timesteps(steps)
    x = normal(5, 3)
    for i, t in enumerate(theirs.timesteps.tolist()):
        z, now = normal(5, 3, seed=i), torch.full((5,), t + 1)
        s = torch.full((5,), max(t - 40 // steps + 1, 0))
        eps_hat = wavy(x, now)
        ours = ddim_step(schedule, x, now, s, eps_hat, z, eta)
        x = theirs.step(eps_hat, t, x, eta=eta, variance_noise=z).prev_sample
        assert_close(ours, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_ddim_walk_on_our_grid_is_diffusers(diffusers, steps):
    schedule = linear_schedule(100, 0.001, 0.1)
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=100,
        clip_sample=True,
        clip_sample_range=1.5,
        timestep_spacing="trailing",
    )
    theirs = upgraded(theirs, schedule)
    theirs.set_timesteps(steps)
    x = x_T = normal(5, 3)
    for t in theirs.timesteps:
        eps_hat = wavy(x, (t + 1).expand(5))
        x = theirs.step(eps_hat, t, x, use_clipped_model_output=True).prev_sample
    ours = final(sample(wavy, schedule, (5, 3), partial(ddim_step, clip=1.5), steps, x_T=x_T))
    assert_close(ours, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("spacing", "times"), [("leading", leading_grid), ("trailing", None)])
def test_whole_trajectory_of_ddim_is_diffusers(diffusers, eta, spacing, times):
    schedule = linear_schedule()
    model, times = two_modes(0.2).denoiser(schedule), (times or timestep_grid)(1000, 20)
    theirs = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing=spacing)
    theirs = upgraded(theirs, schedule)
    theirs.set_timesteps(20)
    x = x_T = normal(50)
    generator, same = (torch.Generator().manual_seed(1) for _ in range(2))
    ours = sample(model, schedule, (50,), partial(ddim_step, eta=eta), times, generator, x_T)
    for t, (_, x_s, x_0_hat) in zip(theirs.timesteps, ours, strict=True):
        z = torch.randn(50, generator=same, dtype=torch.float64)
        step = theirs.step(model(x, (t + 1).expand(50)), t, x, eta=eta, variance_noise=z)
        x = step.prev_sample
        assert_close(x_s, x, rtol=1e-9, atol=1e-9)
        assert_close(x_0_hat, step.pred_original_sample, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 50])
def test_whole_trajectory_of_dpm_solver_is_diffusers(diffusers, steps):
    """Theirs computes in float32; first order in its first step and in its last, as ours."""
    schedule = linear_schedule()
    model = two_modes(0.2).denoiser(schedule)
    theirs = diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing", lower_order_final=False
    )
    theirs.set_timesteps(steps)
    x = x_T = normal(50)
    ours = sample(model, schedule, (50,), multistep(dpm_solver_step), steps, x_T=x_T)
    for t, (s, x_s, _) in zip(theirs.timesteps, ours, strict=True):
        x = theirs.step(model(x.double(), (t + 1).expand(50)), t, x).prev_sample
        assert_close(x_s, x.double(), rtol=1e-5, atol=1e-5, msg=lambda m, s=s: f"s = {s}: {m}")


@pytest.mark.parametrize("steps", [4, 20])
def test_inversion_is_diffusers(diffusers, steps):
    schedule = linear_schedule(40, 0.001, 0.1)
    theirs = diffusers.DDIMInverseScheduler(
        num_train_timesteps=40, clip_sample=False, timestep_spacing="trailing"
    )
    theirs = upgraded(theirs, schedule)
    theirs.initial_alpha_cumprod = numbers(1)
    theirs.set_timesteps(steps)
    x = x_0 = normal(5, 3)
    for t, (now, x_t) in zip(
        theirs.timesteps, ddim_invert(wavy, schedule, x_0, steps), strict=True
    ):
        x = theirs.step(wavy(x, (t + 1).expand(5)), t, x).prev_sample
        assert now == t + 1
        assert_close(x_t, x, rtol=1e-9, atol=1e-9)


def test_v_is_diffusers_velocity(diffusers):
    schedule = cosine_schedule(30)
    theirs = diffusers.DDPMScheduler(
        num_train_timesteps=30,
        prediction_type="v_prediction",
        variance_type="fixed_small",
        clip_sample=False,
    )
    theirs = upgraded(theirs, schedule)
    t, (x_0, eps) = torch.arange(1, 31), normal(2, 30, 3)
    assert_close(to_v(schedule, x_0, t, eps), theirs.get_velocity(x_0, eps, t - 1), **EXACT)
    for now in (1, 2, 17, 30):
        x_t, v, t = normal(4, 3, seed=1), normal(4, 3, seed=2), torch.full((4,), now)
        step = theirs.step(v, now - 1, x_t, generator=torch.Generator().manual_seed(3))
        x_0, eps_hat = from_v(schedule, x_t, t, v)
        assert_close(x_0, step.pred_original_sample, **EXACT)
        z = normal(4, 3, seed=3)
        x_s = ddpm_small(schedule, x_t, t, t - 1, eps_hat, z)
        assert_close(x_s, step.prev_sample, **CLOSE)


# bad input

S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


def walk(**options):
    arguments = {"model": lambda x, t: x, "schedule": S, "shape": (3,)} | options
    return list(sample(**arguments))


BAD = [
    row
    for f in (ddpm_step, ddim_step, dpm_solver_step)
    for row in (
        bad(
            "t 0", lambda f=f: f(S, X, T3 - 1, T3 - 1, X, X), r"t must lie in 1\.\.10, got .*clean"
        ),
        bad("t int", lambda f=f: f(S, X, 3, T3 - 1, X, X), r"t .*int: use torch\.full", TypeError),
        bad("t int32", lambda f=f: f(S, X, T3.int(), T3 - 1, X, X), r"t .*t\.long", TypeError),
        bad("s int", lambda f=f: f(S, X, T3, 0, X, X), r"s .*int: use torch\.full", TypeError),
        bad("s -1", lambda f=f: f(S, X, T3, T3 - 2, X, X), r"s must lie in 0\.\.10, got .* -1"),
        bad("s = t", lambda f=f: f(S, X, T3, T3, X, X), "s must be smaller than t, got s = 1 with"),
        bad(
            "eps", lambda f=f: f(S, X, T3, T3 - 1, X[:2], X), r"eps_hat .*of x_t, \[3\], got \[2\]"
        ),
        bad(
            "z", lambda f=f: f(S, X, T3, T3 - 1, X, X[:, None]), r"z .*of x_t, \[3\], got \[3, 1\]"
        ),
        bad("x NaN", lambda f=f: f(S, X * math.nan, T3, T3 - 1, X, X), "x_t must be finite"),
        bad("eps NaN", lambda f=f: f(S, X, T3, T3 - 1, X / 0, X), "eps_hat must be finite"),
        bad("empty", lambda f=f: f(S, X[:0], T3[:0], T3[:0], X[:0], X[:0]), "the batch is empty"),
        bad(
            "clip", lambda f=f: f(S, X, T3, T3 - 1, X, X, clip=-1), "clip must be positive, got -1"
        ),
        bad("clip 0", lambda f=f: f(S, X, T3, T3 - 1, X, X, clip=0.0), "clip .*got 0.*None"),
    )
] + [
    bad(
        "a model of fewer axes",
        lambda: list(ddim_invert(lambda x, t: x[:, 0], S, normal(4, 1), 5)),
        "must have the shape of",
    ),
    bad(
        "eta", lambda: ddim_step(S, X, T3, T3 - 1, X, X, 1.1), r"eta must lie in \[0, 1\], got 1.1"
    ),
    bad("eta < 0", lambda: ddim_step(S, X, T3, T3 - 1, X, X, -0.1), r"eta must .*got -0.1"),
    bad("eta NaN", lambda: ddim_step(S, X, T3, T3 - 1, X, X, math.nan), r"eta must .*got nan"),
    bad("steps > T", lambda: walk(steps=11), r"steps .*1\.\.T = 10, got 11: no step may stand"),
    bad("steps 0", lambda: walk(steps=0), r"steps .*1\.\.T = 10, got 0"),
    bad("steps 1.5", lambda: walk(steps=1.5), "steps must be a whole number .*got 1.5"),
    bad(
        "shape empty", lambda: walk(shape=()), r"shape must be \(B, \.\.\.\) with B >= 1, got \(\)"
    ),
    bad("shape B 0", lambda: walk(shape=(0, 2)), r"shape must .* B >= 1, got \(0, 2\)"),
    bad("shape int", lambda: walk(shape=5), r"shape must be \(B, \.\.\.\) .*got 5"),
    bad("x_T shape", lambda: walk(x_T=X[:2]), r"x_T must have the given shape \(3,\), got \(2,\)"),
    bad("x_T NaN", lambda: walk(x_T=X * math.nan), "x_t must be finite, got NaN"),
    bad("x_T int", lambda: walk(x_T=T3), "x_t must be a floating.*torch.int64", TypeError),
    bad("model shape", lambda: walk(model=lambda x, t: x[:1]), r"eps must have the shape .*\[1\]"),
    bad("model NaN", lambda: walk(model=lambda x, t: x / 0), "eps must be finite, got NaN"),
    bad(
        "before",
        lambda: dpm_solver_step(S, X, T3.clamp(min=2), T3 * 0 + 1, X, X, (T3, X)),
        "before must hold a time above t",
    ),
    bad("times one", lambda: walk(steps=T3[:1]), r"times must be \[n\] with n >= 2, got \[1\]"),
    bad("times 2-D", lambda: walk(steps=T3[None]), r"times must be \[n\] .* got \[1, 3\]"),
    bad("times rise", lambda: walk(steps=T3), "times must never rise on the way to data: flip"),
    bad(
        "times > T", lambda: walk(steps=T3.flip(0) + 1), r"times must lie in 0\.\.10, got .* to 11"
    ),
    bad("times NaN", lambda: walk(steps=numbers(9, math.nan)), r"times must lie in \[0, 10\]"),
    bad("times int32", lambda: walk(steps=T3.int()), r"times .*use times\.long", TypeError),
    bad("times to 0 twice", lambda: walk(steps=torch.tensor([9, 0, 0])), "t = 0 is clean data"),
    bad("stands still", lambda: walk(steps=torch.tensor([9, 9])), "s must be smaller than t"),
    bad("refine", lambda: ddim_invert(two_modes(), S, X, refine=-1), "refine .*at least 0, got -1"),
    bad("invert NaN", lambda: ddim_invert(two_modes(), S, X / 0), "x_0 must be finite"),
    bad("error table", lambda: best_variance(X)(S, T3, T3 - 1, X), "error .*11.* got 3"),
    bad("slerp 0", lambda: slerp(X[None], 0 * X[None], 0.5), "neither zero nor opposite"),
    bad("slerp opposite", lambda: slerp(X[None], -X[None], 0.5), "neither zero nor opposite"),
    bad("slerp shapes", lambda: slerp(X[None], X[None, :2], 0.5), r"b must have the shape of a"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
