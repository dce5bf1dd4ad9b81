"""The walk over steps: what it asks, what it yields, and where it ends."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import STEPS, bad, check_bad, ddpm_small, normal, numbers, schedules

from ddpm_lite.metrics import ks, mixture_cdf
from ddpm_lite.mixture import two_modes
from ddpm_lite.prediction import predict_x_0
from ddpm_lite.sampling import (
    ddim_step,
    ddpm_step,
    sample,
)
from ddpm_lite.schedule import cosine_schedule, linear_schedule
from ddpm_lite.times import leading_grid, quadratic_grid, timestep_grid

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


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


@given(schedules(8), st.sampled_from([*STEPS.values()]))
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
    asked, schedule = [], linear_schedule(20)

    def model(x, t):
        assert t.shape == (3,) and t.dtype == times.dtype
        asked.append(t[0].item())
        return 0.1 * x

    def step(schedule, x_t, t, s, eps_hat, z):
        assert s.dtype == times.dtype
        return x_t + 1

    walk = sample(model, schedule, (3, 2), step, times, until=float(times[-1]))
    walked = [s for s, _, _ in walk]
    assert asked == times[:-1].tolist() and walked == times[1:].tolist()


def test_a_seed_is_a_sample_and_the_start_comes_from_it_too():
    schedule, model = linear_schedule(5), two_modes().denoiser(linear_schedule(5))

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        *_, (_, x_0, _) = sample(model, schedule, (100,), generator=generator)
        return x_0

    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))


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


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


def walk(**options):
    arguments = {"model": lambda x, t: x, "schedule": S, "shape": (3,)} | options
    return list(sample(**arguments))


BAD = [
    bad("steps > T", lambda: walk(steps=11), r"steps .*1\.\.T = 10, got 11: no step may stand"),
    bad("steps 0", lambda: walk(steps=0), r"steps .*1\.\.T = 10, got 0"),
    bad("steps 1.5", lambda: walk(steps=1.5), "steps must be a whole number .*got 1.5"),
    bad(
        "shape empty", lambda: walk(shape=()), r"shape must be \(B, \.\.\.\) with B >= 1, got \(\)"
    ),
    bad("shape B 0", lambda: walk(shape=(0, 2)), r"shape must .* B >= 1, got \(0, 2\)"),
    bad("shape int", lambda: walk(shape=5), r"shape must be \(B, \.\.\.\) .*got 5"),
    bad("x_T shape", lambda: walk(x_T=X[:2]), r"x_T must have the given shape \(3,\), got \(2,\)"),
    bad("x_T NaN", lambda: walk(x_T=X * math.nan), "x_T must be finite, got NaN"),
    bad("x_T int", lambda: walk(x_T=T3), "x_T must be a floating.*torch.int64", TypeError),
    bad(
        "dtype",
        lambda: walk(dtype=torch.int64),
        "dtype must be of floating-point.*int64",
        TypeError,
    ),
    bad(
        "model shape",
        lambda: walk(model=lambda x, t: x[:1]),
        r"model must return .*got \[1\]",
    ),
    bad("model None", lambda: walk(model=lambda x, t: None), r"model must return .* got NoneType"),
    bad("model int", lambda: walk(model=lambda x, t: x.long()), "eps must be a float", TypeError),
    bad("model NaN", lambda: walk(model=lambda x, t: x / 0), "eps must be finite, got NaN"),
    bad("times one", lambda: walk(steps=T3[:1]), r"times must be \[n\] with n >= 2, got \[1\]"),
    bad("times 2-D", lambda: walk(steps=T3[None]), r"times must be \[n\] .* got \[1, 3\]"),
    bad("times rise", lambda: walk(steps=T3), "times must never rise on the way to data: flip"),
    bad(
        "times > T", lambda: walk(steps=T3.flip(0) + 1), r"times must lie in 0\.\.10, got .* to 11"
    ),
    bad("times NaN", lambda: walk(steps=numbers(9, math.nan)), r"times must lie in \[0, 10\]"),
    bad("times word", lambda: walk(steps="ddim"), "times must be numbers.*got 'ddim'", TypeError),
    bad("times bool", lambda: walk(steps=[True, False]), "times must be whole or real", TypeError),
    bad("until", lambda: walk(steps=[9, 5]), "must end at 0, got 5: append 0, or .* until=5"),
    bad("times to 0 twice", lambda: walk(steps=[9, 0, 0]), "t = 0 is clean data"),
    bad("stands still", lambda: walk(steps=[9, 9], until=9), "s must be smaller than t"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
