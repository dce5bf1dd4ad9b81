"""Continuous time: the laws of the forward SDE, and the two ways back."""

import math

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
from ddpm_lite.prediction import score
from ddpm_lite.schedule import constant_schedule, linear_schedule
from ddpm_lite.score import annealed_langevin_step
from ddpm_lite.sde import (
    elapsed,
    euler_step,
    forward_sde_step,
    predictor_corrector_step,
    reverse_sde_step,
    transition,
    velocity,
)

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
    # Each sample by itself: here the first of them pauses.
    mixed = s.clone()
    mixed[0] = t[0]
    both = predictor_corrector_step(schedule, x, t, mixed, case.eps, case.z, size=0.2)
    assert torch.equal(both[:1], langevin[:1])
    assert torch.equal(both[1:], reverse_sde_step(*args)[1:])


X, T3, N = normal(3), torch.tensor([1, 5, 10]), normal(0)
S = linear_schedule(10)
BAD = [
    bad(
        "shape of eps",
        lambda: velocity(SCHEDULE, normal(4, 1), torch.full((4,), 5), normal(4)),
        "must have the shape of",
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
        "s must be below t, or equal to it",
    ),
    bad("corrector t", lambda: predictor_corrector_step(S, X, 5, T3, X, X), "t .*full", TypeError),
    bad("corrector s", lambda: predictor_corrector_step(S, X, T3, T3[:1], X, X), "s must have one"),
    bad("elapsed int", lambda: elapsed(S, T3 - 1, T3, T3), "like must be a floating", TypeError),
    bad("euler int", lambda: euler_step(S, T3, T3, T3 - 1, X, X), "like must be", TypeError),
    bad("reverse int", lambda: reverse_sde_step(S, T3, T3, T3 - 1, X, X), "x_t must be", TypeError),
    bad("reverse none", lambda: reverse_sde_step(S, N, T3[:0], T3[:0], N, N), "batch is empty"),
    bad("reverse z", lambda: reverse_sde_step(S, X, T3, T3 - 1, X, X[:1]), "z must have the shape"),
    bad("transition int", lambda: transition(S, T3, T3 - 1, T3), "x_s must be a float", TypeError),
    bad("transition t", lambda: transition(S, X, T3 - 1, T3[:1]), "t must have one entry per sam"),
    bad("transition", lambda: transition(S, X, T3, T3 - 1), "s must be smaller than t"),
    bad("elapsed", lambda: elapsed(S, T3, T3 + 1, X), r"t must lie in 0\.\.10, got .* 11"),
    bad("forward z", lambda: forward_sde_step(S, X, T3 - 1, T3, X[:2]), "z must have the shape of"),
    bad("euler NaN", lambda: euler_step(S, X / 0, T3, T3 - 1, X, X), "x_t must be finite"),
    bad("reverse eps", lambda: reverse_sde_step(S, X, T3, T3 - 1, X[:1], X), "eps_hat must have"),
    bad("velocity t 0", lambda: velocity(S, X, T3 - 1, X), r"t must lie in 1\.\.10, .*clean data"),
    bad("reverse up", lambda: reverse_sde_step(S, X, T3, T3, X, X), "s must be smaller than t"),
    bad("forward down", lambda: forward_sde_step(S, X, T3, T3 - 1, X), "s must be smaller than t"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
