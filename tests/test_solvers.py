"""Solvers: Heun's two and DPM-Solver++, step by step against the formulas of their papers."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import (
    SOLVERS,
    bad,
    cases,
    check_bad,
    each,
    floats,
    generator,
    knowing,
    normal,
    numbers,
    schedules,
    wavy,
)
from torch.testing import assert_close

from ddpm_lite.metrics import mixture_cdf, quantiles, w1
from ddpm_lite.mixture import two_modes
from ddpm_lite.prediction import clipped, predict_eps, predict_x_0
from ddpm_lite.sampling import ddim_step, last, sample
from ddpm_lite.schedule import linear_schedule, scales
from ddpm_lite.sde import elapsed, euler_step, velocity
from ddpm_lite.solvers import ddim_heun, dpm_solver, heun

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@st.composite
def one_step(draw, case):
    """Two times t > s of the case's schedule, whole or real; s may be 0."""
    T = case.schedule.T
    t = draw(st.integers(1, T))
    s = draw(st.integers(0, t - 1))
    return draw(st.sampled_from([(t, s), (t - 0.25, 0.5 * s), (t - 0.25, 0.0)]))


class Telling:
    """A model that answers with eps, then with others; it keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, x, t):
        self.asked.append((x.clone(), t))
        return self.answers[len(self.asked) - 1]


def everywhere(t, x):
    return torch.full((len(x),), t, dtype=torch.int64 if isinstance(t, int) else torch.float64)


@given(cases(), st.data(), st.sampled_from([ddim_heun, heun]))
def test_heuns_step_is_the_first_ones_with_the_mean_of_both_ends(case, data, solver):
    """In eps_hat for DDIM, in the velocity for Euler; with one call where s = 0."""
    schedule, x, z = case.schedule, case.x_t, 0 * case.z
    t, s = data.draw(one_step(case))
    now, then, model = everywhere(t, x), everywhere(s, x), Telling(case.eps, case.z)
    ((end, x_s, x_0_hat),) = solver(model, schedule, x, (t, s), until=s)
    first = ddim_step if solver is ddim_heun else euler_step
    ahead = first(schedule, x, now, then, case.eps, z)
    assert end == s and torch.equal(model.asked[0][0], x) and torch.equal(model.asked[0][1], now)
    assert_close(x_0_hat, predict_x_0(schedule, x, now, case.eps), **CLOSE)
    if s == 0:
        assert len(model.asked) == 1
        assert_close(x_s, ahead, **CLOSE)
        return
    assert len(model.asked) == 2 and torch.equal(model.asked[1][1], then)
    assert_close(model.asked[1][0], ahead, **CLOSE)
    if solver is ddim_heun:
        expected = ddim_step(schedule, x, now, then, (case.eps + case.z) / 2, z)
    else:  # the trapezoid rule
        slopes = velocity(schedule, x, now, case.eps) + velocity(schedule, ahead, then, case.z)
        expected = x - elapsed(schedule, then, now, x) * slopes / 2
    assert_close(x_s, expected, **CLOSE)


def algorithm_2(model, schedule, x, times, limit=None, noise=None):
    """Lu et al. 2025, "DPM-Solver++", algorithm 2, in its own letters.

    x_s = sigma_s / sigma_t x_t - alpha_s (e^-h - 1) D, in lambda = log(alpha / sigma), with
    D = (1 + 1 / 2r) x_theta(t) - 1 / 2r x_theta(before), or x_theta(t) in the first step and the
    last, where h is infinite. With noise, SDE-DPM-Solver++(2M), x_s = sigma_s / sigma_t e^-h x_t
    - alpha_s (e^-2h - 1) D + sigma_s sqrt(1 - e^-2h) z.
    """
    before = None
    for t, s in zip(times, times[1:], strict=False):
        now, then = everywhere(t, x), everywhere(s, x)
        x_theta = predict_x_0(schedule, x, now, model(x, now))
        x_theta = x_theta if limit is None else x_theta.clamp(-limit, limit)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = (
            scales(schedule, r, x, first=0) for r in (now, then)
        )
        lambda_t, h, D = (alpha_t / sigma_t).log(), torch.inf, x_theta
        if s > 0:
            h = (alpha_s / sigma_s).log() - lambda_t
        if before is not None and s > 0:
            x_before, lambda_before = before
            r = (lambda_t - lambda_before) / h
            D = (1 + 1 / (2 * r)) * x_theta - 1 / (2 * r) * x_before
        lost = torch.expm1(-h if noise is None else -2 * h) if s > 0 else -1.0
        kept = 1 if noise is None else torch.exp(-h) if s > 0 else 0
        x = sigma_s / sigma_t * kept * x - alpha_s * lost * D
        if noise is not None:
            x += sigma_s * (-lost) ** 0.5 * normal_of(noise, x)
        before = x_theta, lambda_t
        yield x, x_theta


def normal_of(noise, like):
    return torch.randn(like.shape, generator=noise, dtype=like.dtype)


@given(schedules(), st.data(), st.sampled_from([None, 0.5]), st.booleans())
def test_dpm_solver_is_algorithm_2_of_its_paper(schedule, data, limit, noisy):
    """At real times and whole ones, to 0 or not; and what it remembers is clipped too."""
    T, x_T = schedule.T, 2 * normal(4, 2)
    times = sorted(data.draw(st.lists(floats(0.02, 1), min_size=2, max_size=5, unique=True)))
    times = [T * u for u in times[::-1]] + data.draw(st.sampled_from([[], [0.0]]))
    if min(t - s for t, s in zip(times, times[1:], strict=False)) < 1e-3 * T:
        return
    model = wavy if limit is None else clipped(wavy, schedule, limit)
    options = {"eta": 1.0, "generator": generator()} if noisy else {}
    ours = dpm_solver(model, schedule, x_T, times, times[-1], **options)
    expected = algorithm_2(wavy, schedule, x_T, times, limit, generator() if noisy else None)
    for (s, x_s, x_0_hat), (x, x_theta), t in zip(ours, expected, times[1:], strict=True):
        assert s == t
        assert_close(x_s, x, rtol=1e-6, atol=1e-6)
        assert_close(x_0_hat, x_theta, rtol=1e-6, atol=1e-6)


def test_dpm_solver_carries_x_0_hat_on_to_the_middle():
    """On even steps in log SNR, half of what x_0_hat moved by in the step before is added."""
    schedule, x_T, told = linear_schedule(), normal(4), Telling(*normal(2, 4, seed=1))
    times = schedule.time_at(numbers(-4, -3, -2).sigmoid())
    (_, x_t, x_0_before), (_, x_s, x_0_hat) = dpm_solver(
        told, schedule, x_T, times, until=float(times[-1])
    )
    t, s = (now.expand(4) for now in times[1:])
    middle = predict_eps(schedule, x_t, t, x_0_hat + (x_0_hat - x_0_before) / 2)
    assert_close(x_s, ddim_step(schedule, x_t, t, s, middle, 0 * x_t), **CLOSE)


def test_dpm_solver_with_half_its_noise_is_ddims_step_with_half():
    """For a model that says one x_0_hat always, there is nothing to carry on."""
    schedule, x_T, x_0 = linear_schedule(), normal(4), normal(4, seed=1)
    model = knowing(schedule, x_0)
    ours = dpm_solver(model, schedule, x_T, 5, eta=0.5, generator=generator())
    step, noise = partial(ddim_step, eta=0.5), generator()
    for a, b in zip(ours, sample(model, schedule, (4,), step, 5, noise, x_T), strict=True):
        assert_close(a, b, **CLOSE)


def test_with_noise_few_steps_of_dpm_solver_beat_the_ancestral_ones():
    """W1 to the data after 20 calls: half of it, or less; of 20,000 draws, whose floor is .01."""
    schedule, data = linear_schedule(), two_modes()
    model, truth = data.denoiser(schedule), quantiles(mixture_cdf(data), 20_000)
    x_T = quantiles(stats.norm.cdf, 20_000)[torch.randperm(20_000, generator=generator())]
    ours = last(dpm_solver(model, schedule, x_T, 20, eta=1.0, generator=generator(1)))
    step = partial(ddim_step, eta=1.0)
    ancestral = last(sample(model, schedule, x_T.shape, step, 20, generator(1), x_T))
    assert w1(ours, truth) < 0.5 * w1(ancestral, truth), (w1(ours, truth), w1(ancestral, truth))


@given(schedules(), st.data())
def test_the_first_step_of_dpm_solver_and_that_to_0_are_ddims(schedule, data):
    x_T, steps = normal(4, 2), data.draw(st.integers(1, min(2, schedule.T)))
    for ours, ddim in zip(
        dpm_solver(wavy, schedule, x_T, steps),
        sample(wavy, schedule, (4, 2), ddim_step, steps, x_T=x_T),
        strict=True,
    ):
        assert_close(ours, ddim, **CLOSE)


@each(SOLVERS)
def test_a_walk_in_two_parts_is_the_walk_where_nothing_is_remembered(name):
    """DPM-Solver++ alone remembers, and in the second part begins anew, with a step of DDIM's."""
    solver, schedule, x_T = SOLVERS[name], linear_schedule(), normal(4)
    whole = list(solver(wavy, schedule, x_T, [900, 700, 400, 0]))
    first = last(solver(wavy, schedule, x_T, [900, 700], until=700))
    second = list(solver(wavy, schedule, first, [700, 400, 0]))
    assert torch.equal(first, whole[0][1])
    apart = (second[0][1] - whole[1][1]).abs().max()
    assert apart > 1e-3 if name == "dpm-solver++" else apart == 0
    if name == "dpm-solver++":
        ddim = sample(wavy, schedule, (4,), ddim_step, [700, 400, 0], x_T=first)
        assert torch.equal(second[0][1], next(ddim)[1])


@each(SOLVERS)
def test_a_solver_draws_no_noise_and_asks_as_often_as_it_says(name):
    calls, state = [], torch.get_rng_state()
    list(SOLVERS[name](lambda x, t: calls.append(t) or x, linear_schedule(10), normal(3), 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(calls) == (5 if name == "dpm-solver++" else 2 * 5 - 1)


S, X = linear_schedule(10), normal(3)
BAD = [
    row
    for f in (ddim_heun, heun, dpm_solver)
    for row in (
        bad("x_T int", lambda f=f: f(wavy, S, X.long()), "x_T must be a floating", TypeError),
        bad("x_T NaN", lambda f=f: f(wavy, S, X / 0), "x_T must be finite"),
        bad("x_T 0-D", lambda f=f: f(wavy, S, X[0]), r"x_T must be a batch \[B, \*D\].*got \[\]"),
        bad("x_T empty", lambda f=f: f(wavy, S, X[:0]), r"x_T must be a batch .*got \[0\]"),
        bad("x_T list", lambda f=f: f(wavy, S, [1.0]), "x_T must be a floating.*list", TypeError),
        bad("steps", lambda f=f: f(wavy, S, X, 11), r"steps .*1\.\.T = 10, got 11"),
        bad("until", lambda f=f: f(wavy, S, X, [9, 3]), "times must end at 0, got 3: append 0, or"),
        bad("model", lambda f=f: last(f(lambda x, t: x[:1], S, X)), r"eps_hat .*\[3\], got \[1\]"),
        bad("NaN", lambda f=f: last(f(lambda x, t: x / 0, S, X)), "eps must be finite"),
    )
] + [
    bad("eta", lambda: dpm_solver(wavy, S, X, eta=1.5), r"eta must lie in \[0, 1\], got 1.5"),
    bad("still", lambda: dpm_solver(wavy, S, X, [9, 9, 0]), "times must fall at each step"),
    bad("again", lambda: last(iter([])), "walk has ended already"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
