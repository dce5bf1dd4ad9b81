"""Continuous time: the laws of the forward SDE, the two ways back, and likelihood by the ODE."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, cases, check_bad, earlier, floats, normal, numbers, schedules
from torch.testing import assert_close

from ddpm_lite.density import grid, push_density
from ddpm_lite.forward import q_step
from ddpm_lite.metrics import w1_density
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.networks import Denoiser, UNet, UNetConfig
from ddpm_lite.prediction import score
from ddpm_lite.schedule import constant_schedule, linear_schedule
from ddpm_lite.score import annealed_langevin_step, sliced_divergence
from ddpm_lite.sde import (
    elapsed,
    euler_step,
    forward_sde_step,
    heun_step,
    log_likelihood,
    predictor_corrector_step,
    reverse_sde_step,
    solve_ode,
    transition,
    velocity,
)
from ddpm_lite.times import paused

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SCHEDULE = linear_schedule()
IN_PLANE = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.5, -1.0]], [0.6, 0.9])


# forward


@given(cases())
def test_a_transition_of_one_step_is_the_chains(case):
    schedule, t, x, one = case.schedule, case.t, case.x_t, torch.ones_like(case.z)
    mean, var = transition(schedule, x, t - 1, t)
    assert_close(mean, q_step(schedule, x, t, 0 * one), **CLOSE)
    assert_close(mean + var.sqrt() * one, q_step(schedule, x, t, one), **CLOSE)


@given(schedules(), st.data())
def test_transitions_compose_at_real_times(schedule, data):
    """From s to u in one jump, or through t: the same mean, and the noises add."""
    s, t, u = sorted(data.draw(st.lists(floats(0, 1), min_size=3, max_size=3, unique=True)))
    if min(t - s, u - t) < 1e-6:
        return
    s, t, u = (torch.full((4,), schedule.T * v, dtype=torch.float64) for v in (s, t, u))
    x_s = normal(4)
    mean_t, var_t = transition(schedule, x_s, s, t)
    mean_u, var_u = transition(schedule, mean_t, t, u)
    slope = transition(schedule, torch.ones_like(x_s), t, u)[0]
    mean, var = transition(schedule, x_s, s, u)
    assert_close(mean_u, mean, **CLOSE)
    assert_close(slope**2 * var_t + var_u, var, **CLOSE)


def test_marginals_of_the_sde_are_the_mixtures_diffused_at_real_times():
    """The density of the mixture through q(x_t | x_0) on a grid, for t between the integers."""
    mixture, x = two_modes(0.2), grid(n=2048)
    for t in (0.5, 99.75, 430.2):
        zero, now = torch.zeros(len(x)).double(), torch.full((len(x),), t, dtype=torch.float64)
        mean, var = transition(SCHEDULE, x, zero, now)
        pushed = push_density(x, mixture.log_prob(x).exp(), mean, float(var[0].sqrt()))
        assert_close(pushed, mixture.diffused(SCHEDULE, t).log_prob(x).exp(), rtol=0, atol=1e-7)


def test_the_clock_is_the_area_under_beta():
    schedule = constant_schedule(10, 0.1)
    dtau = elapsed(schedule, numbers(0, 2.5, 4), numbers(1, 7.5, 2), normal(3, 2))
    rate = -math.log(0.9)
    assert_close(dtau, numbers(rate, 5 * rate, -2 * rate)[:, None], **EXACT)


def test_forward_euler_tends_to_the_exact_law():
    """Mean and variance of x_T from x_0 = 2, by the affine map of each step: order 1."""
    errors, exact = [], transition(SCHEDULE, numbers(2), numbers(0), numbers(1000))
    for steps in (50, 100, 200):
        times, mean, var = torch.linspace(0, 1000, steps + 1).double(), 2.0, 0.0
        points, z = numbers(0, 1, 0), numbers(0, 0, 1)
        for s, t in zip(times, times[1:], strict=False):
            out = forward_sde_step(SCHEDULE, points, s.repeat(3), t.repeat(3), z)
            slope, std = float(out[1] - out[0]), float(out[2] - out[0])
            mean, var = slope * mean, slope**2 * var + std**2
        errors.append((abs(mean - exact[0].item()), abs(var - exact[1].item())))
    for one, half in zip(errors, errors[1:], strict=False):
        assert all(1.7 < a / b < 2.4 for a, b in zip(one, half, strict=True)), errors


@given(cases())
def test_one_euler_step_forward_is_the_chains_to_first_order(case):
    """1 - dtau / 2 for exp(-dtau / 2) = sqrt(1 - beta), and sqrt(dtau) for sqrt(beta)."""
    schedule, t = case.schedule, case.t
    x, z = case.x_t, case.z
    dtau = elapsed(schedule, t - 1, t, x)
    gap = forward_sde_step(schedule, x, t - 1, t, z) - q_step(schedule, x, t, z)
    # exp(-u/2) - 1 + u/2 <= u^2/8, and sqrt(u) - sqrt(1 - exp(-u)) <= u^1.5 / 4, for u >= 0.
    assert (gap.abs() <= dtau**2 / 8 * x.abs() + dtau**1.5 / 4 * z.abs() + 1e-12).all()


# back


def test_velocity_carries_the_density_along():
    """Conservation of mass: d q / d tau = - d (q velocity) / dx, by differences on a grid."""
    mixture, x, t = two_modes(0.2), grid(-5, 5, 4001), numbers(300.5)
    model = mixture.denoiser(SCHEDULE)
    early, late = numbers(300.4), numbers(300.6)
    q = [mixture.diffused(SCHEDULE, float(r)).log_prob(x).exp() for r in (early, t, late)]
    change = (q[2] - q[0]) / elapsed(SCHEDULE, early, late, normal(1))
    now = t.repeat(len(x))
    flux = q[1] * velocity(SCHEDULE, x, now, model(x, now))
    slope = (flux[2:] - flux[:-2]) / (x[2] - x[0])
    assert_close(change[1:-1], -slope, rtol=0, atol=1e-5)


def test_the_reverse_sde_carries_the_density_along_too():
    """Fokker-Planck with drift -(x/2 + score) and noise, backwards: the same change of q."""
    mixture, x, t = two_modes(0.2), grid(n=2048), 300
    q_t = mixture.diffused(SCHEDULE, t).log_prob(x).exp()
    now = torch.full((len(x),), t)
    eps, zero = mixture.eps(SCHEDULE, x, now), torch.zeros(len(x)).double()
    distances = []
    for s in (280, 290):
        then = torch.full((len(x),), s)
        mean = reverse_sde_step(SCHEDULE, x, now, then, eps, zero)
        std = float((reverse_sde_step(SCHEDULE, x, now, then, eps, zero + 1) - mean)[0])
        truth = mixture.diffused(SCHEDULE, s).log_prob(x).exp()
        distances.append(w1_density(x, push_density(x, q_t, mean, std), truth))
    assert distances[1] < 3e-3 and distances[0] / distances[1] > 3  # second order in one step


@given(cases(), st.data())
def test_steps_back_are_what_they_say(case, data):
    schedule, t, s, x = case.schedule, case.t, data.draw(earlier(case)), case.x_t
    dtau, slope = elapsed(schedule, s, t, x), score(schedule, case.eps, t)
    args = (schedule, x, t, s, case.eps, case.z)
    assert_close(euler_step(*args), x + dtau / 2 * (x + slope), **CLOSE)
    random = x + dtau * (x / 2 + slope) + dtau.sqrt() * case.z
    assert_close(reverse_sde_step(*args), random, **CLOSE)
    # The mean of the random step goes twice as far along the score as the smooth one.
    still = reverse_sde_step(*args[:5], 0 * case.z)
    assert_close(still - x, 2 * (euler_step(*args) - x) - dtau / 2 * x, **CLOSE)
    assert torch.equal(predictor_corrector_step(*args), reverse_sde_step(*args))
    corrected = predictor_corrector_step(schedule, x, t, t, case.eps, case.z, size=0.2)
    langevin = annealed_langevin_step(schedule, x, t, t, case.eps, case.z, size=0.2)
    assert torch.equal(corrected, langevin)


@given(cases(), st.data())
def test_heun_is_the_trapezoid_rule(case, data):
    schedule, t, s, x = case.schedule, case.t, data.draw(earlier(case)), case.x_t
    args = (schedule, x, t, s, case.eps, case.z)
    ahead = euler_step(*args)

    def model(there, then):
        assert torch.equal(there, ahead) and torch.equal(then, s)
        return 2 * case.eps

    if (s == 0).any():
        assert torch.equal(heun_step(*args, model), ahead)
        return
    slopes = velocity(schedule, x, t, case.eps) + velocity(schedule, ahead, s, 2 * case.eps)
    assert_close(heun_step(*args, model), x - elapsed(schedule, s, t, x) * slopes / 2, **CLOSE)


def test_paused_times():
    times = torch.tensor([9, 6, 3, 0])
    assert paused(times, 2).tolist() == [9, 6, 6, 6, 3, 3, 3, 0]
    assert torch.equal(paused(times, 0), times) and torch.equal(paused(times[:2]), times[:2])


def test_the_ode_is_solved_there_and_back_and_carries_quantiles_to_quantiles():
    """On the line the flow keeps the order of points, so it maps quantiles to quantiles."""
    mixture = two_modes(0.2)
    model, x = mixture.denoiser(SCHEDULE), numbers(-2.4, -1.6, 0.5, 1.9, 2.8)
    x_T = solve_ode(model, SCHEDULE, x, 0.5, 1000)
    assert_close(solve_ode(model, SCHEDULE, x_T, 1000, 0.5), x, rtol=0, atol=1e-6)

    def cdf(law, x):
        return (law.weights * torch.special.ndtr((x[:, None] - law.means) / law.stds)).sum(1)

    ends = mixture.diffused(SCHEDULE, 0.5), mixture.diffused(SCHEDULE, 1000)
    assert_close(cdf(ends[0], x), cdf(ends[1], x_T), rtol=0, atol=1e-6)


def test_the_solver_keeps_shape_and_type():
    model = lambda x, t: 0.5 * x  # noqa: E731
    x = normal(2, 1, 3, 3).float()
    found = solve_ode(model, SCHEDULE, x, 1000, 10)
    assert found.shape == x.shape and found.dtype == torch.float32
    # dy/dr = y sqrt(alpha_bar) / 2, and sqrt(alpha_bar) = 1 / sqrt(1 + r^2): y = exp(asinh(r) / 2).
    r = (1 / SCHEDULE.alpha_bar[[1000, 10]] - 1).sqrt().asinh()
    signal = SCHEDULE.alpha_bar[[1000, 10]].sqrt()
    factor = float(signal[1] / signal[0] * (0.5 * (r[1] - r[0])).exp())
    assert_close(found, x * factor, rtol=1e-5, atol=1e-6)


def test_a_network_that_says_v_takes_real_times():
    net = UNet(UNetConfig(size=4, patch=1, width=8, multipliers=(1,), blocks=1, embedding=8))
    model = Denoiser(net, SCHEDULE, "v").eval()
    x, z = normal(2, 2, 1, 4, 4).float()
    t, s = torch.tensor([400.5, 400.5]), torch.tensor([300.25, 300.25])
    with torch.no_grad():
        x_s = heun_step(SCHEDULE, x, t, s, model(x, t), z, model)
        whole = model(x, torch.tensor([400, 400]))
        assert torch.equal(model(x, torch.tensor([400.0, 400.0])), whole)
    assert x_s.shape == x.shape and x_s.dtype == torch.float32 and x_s.isfinite().all()
    assert solve_ode(model, SCHEDULE, x, 500.5, 400.25, 1e-2, 1e-2).isfinite().all()


# likelihood

TIMES = torch.linspace(0, 1, 401).double() ** 1.5 * 999.99 + 0.01


@pytest.mark.parametrize("weight", [0.5, 0.2])
def test_likelihood_on_the_line_is_the_mixtures(weight):
    mixture, x = two_modes(weight), torch.linspace(-4, 4, 33).double()
    prior = mixture.diffused(SCHEDULE, 1000).log_prob
    found = log_likelihood(mixture.denoiser(SCHEDULE), SCHEDULE, x, TIMES, log_prior=prior)
    assert_close(found, mixture.log_prob(x), rtol=0, atol=1e-3)


def test_likelihood_under_the_normal_prior_is_that_of_another_law():
    """At T the 0.2 mixture is not quite N(0, 1). What the ODE makes of N(0, 1) has mass 1 too."""
    mixture, x = two_modes(0.2), torch.linspace(-5, 5, 401).double()
    found = log_likelihood(mixture.denoiser(SCHEDULE), SCHEDULE, x, TIMES)
    assert 5e-3 < (found - mixture.log_prob(x)).abs().max() < 0.05
    assert_close(float(found.exp().sum() * (x[1] - x[0])), 1.0, rtol=0, atol=1e-4)


def test_likelihood_in_the_plane_exact_and_by_hutchinson():
    x, v = normal(6, 2), torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    model, prior = IN_PLANE.denoiser(SCHEDULE), IN_PLANE.diffused(SCHEDULE, 1000).log_prob
    exact = log_likelihood(model, SCHEDULE, x, TIMES[::2], log_prior=prior)
    assert_close(exact, IN_PLANE.log_prob(x), rtol=0, atol=2e-3)
    # Over all sign vectors (two, up to a sign that does not matter) Hutchinson's mean is exact.
    sliced = [partial(sliced_divergence, v=one.expand(6, 2)) for one in v]
    found = [log_likelihood(model, SCHEDULE, x, TIMES[::2], s, prior) for s in sliced]
    assert (found[0] - found[1]).abs().max() > 0.1
    assert_close((found[0] + found[1]) / 2, exact, **CLOSE)


X, T3 = normal(3), torch.tensor([1, 5, 10])
S = linear_schedule(10)
MODEL = two_modes().denoiser(S)


def test_a_likelihood_has_no_gradient_and_a_flow_of_no_time_stands_still():
    """The slopes are values: a gradient through them would be wrong in silence."""
    x = normal(4).requires_grad_()
    times = torch.tensor([1.0, 5.0, 10.0])
    assert not log_likelihood(lambda x, t: x, SCHEDULE, x, times).requires_grad
    x_5 = normal(4, 1)
    assert_close(solve_ode(lambda x, t: x, SCHEDULE, x_5, 5, 5), x_5, rtol=0, atol=0)


BAD = [
    bad(
        "shape of eps",
        lambda: velocity(SCHEDULE, normal(4, 1), torch.full((4,), 5), normal(4)),
        "must have the shape of",
    ),
    bad(
        "prior of a column",
        lambda: log_likelihood(
            lambda x, t: x,
            SCHEDULE,
            normal(4, 1),
            torch.tensor([1.0, 5.0, 10.0]),
            log_prior=lambda x: -(x**2),
        ),
        r"log_prior must return \[B\] = \[4\], got \[4, 1\]",
    ),
    bad(
        "upwards",
        lambda: predictor_corrector_step(
            SCHEDULE,
            normal(4),
            torch.full((4,), 5),
            torch.full((4,), 6),
            normal(4),
            normal(4),
        ),
        "s must be below t in the whole batch",
    ),
    bad("transition", lambda: transition(S, X, T3, T3 - 1), "s must be smaller than t"),
    bad("elapsed", lambda: elapsed(S, T3, T3 + 1, X), r"t must lie in 0\.\.10, got .* 11"),
    bad("forward z", lambda: forward_sde_step(S, X, T3 - 1, T3, X[:2]), "z must have the shape of"),
    bad("euler NaN", lambda: euler_step(S, X / 0, T3, T3 - 1, X, X), "x_t must be finite"),
    bad("reverse eps", lambda: reverse_sde_step(S, X, T3, T3 - 1, X[:1], X), "eps_hat must have"),
    bad("velocity t 0", lambda: velocity(S, X, T3 - 1, X), r"t must lie in 1\.\.10, .*clean data"),
    bad("reverse up", lambda: reverse_sde_step(S, X, T3, T3, X, X), "s must be smaller than t"),
    bad("forward down", lambda: forward_sde_step(S, X, T3, T3 - 1, X), "s must be smaller than t"),
    bad("heun t int", lambda: heun_step(S, X, 3, T3, X, X, MODEL), "use torch.full", TypeError),
    bad("one time", lambda: paused(T3[:1]), r"times must be \[n\] with n >= 2, got \[1\]"),
    bad("pauses", lambda: paused(T3, -1), "pauses must be at least 0, got -1"),
    bad("solve 0", lambda: solve_ode(MODEL, S, X, 10, 0), r"t and s must lie in \(0, 10\], got 10"),
    bad("solve 11", lambda: solve_ode(MODEL, S, X, 11, 1), r"t must lie in \[0, 10\]"),
    bad("solve NaN", lambda: solve_ode(MODEL, S, X * math.nan, 10, 1), "x_t must be finite"),
    bad("falling", lambda: log_likelihood(MODEL, S, X, T3.flip(0)), "times must .* rise from the"),
    bad(
        "one time", lambda: log_likelihood(MODEL, S, X, T3[:1]), r"times must be \[n\] with n >= 2"
    ),
    bad("x NaN", lambda: log_likelihood(MODEL, S, X / 0, T3), "x must be finite"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
