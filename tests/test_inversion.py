"""The way up to noise, and the way across it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, check_bad, floats, normal, seeds
from torch.testing import assert_close

from ddpm_lite.mixture import two_modes
from ddpm_lite.sampling import ddim_step, last, sample
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.solvers import ddim_invert, slerp
from ddpm_lite.times import quadratic_grid

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize("mixture", [two_modes(), two_modes(0.2)])
def test_inversion_undoes_sampling_the_better_the_more_steps(mixture):
    """The error falls like 1 / S; and with refinement it goes away at any S."""
    schedule = linear_schedule()
    model, x_T = mixture.denoiser(schedule), torch.linspace(-2, 2, 20).double()
    errors = []
    for steps in (20, 40, 80, 160):
        x_0 = last(sample(model, schedule, (20,), ddim_step, steps, x_T=x_T))
        errors.append(float((last(ddim_invert(model, schedule, x_0, steps)) - x_T).abs().mean()))
        refined = last(ddim_invert(model, schedule, x_0, steps, refine=40))
        assert_close(refined, x_T, rtol=0, atol=1e-6 if steps == 20 else 1e-9)
    slope = np.polyfit(np.log([20, 40, 80, 160]), np.log(errors), 1)[0]
    assert abs(slope + 1) < 0.25, errors


def test_sampling_undoes_inversion_too():
    schedule, mixture = linear_schedule(), two_modes(0.2)
    model, x_0 = mixture.denoiser(schedule), mixture.sample(50, torch.Generator().manual_seed(0))
    x_T = last(ddim_invert(model, schedule, x_0, quadratic_grid(1000, 40), refine=40))
    again = last(sample(model, schedule, (50,), ddim_step, quadratic_grid(1000, 40), x_T=x_T))
    assert_close(again, x_0, rtol=0, atol=1e-6)


def test_inversion_climbs_the_grid_and_asks_the_model_where_it_is_known():
    asked, schedule = [], linear_schedule(10)

    def model(x, t):
        asked.append(t[0].item())
        return 0.1 * x

    walk = list(ddim_invert(model, schedule, normal(3, 2), 5, refine=1))
    assert [t for t, _, _ in walk] == [2, 4, 6, 8, 10]
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_slerp_between_near_vectors_is_the_straight_line_and_has_its_slope(dtype):
    """At a = b the arc has no length; the blend is a, and its slopes are 1 - u and u."""
    a = normal(3, 5).to(dtype).requires_grad_()
    for b in (a.detach().clone(), (a * (1 + 1e-3)).detach()):
        b.requires_grad_()
        x = slerp(a, b, 0.25)
        tolerance = max(1e-8, 4 * torch.finfo(dtype).eps)
        assert x.dtype == dtype
        assert_close(x, 0.75 * a + 0.25 * b, rtol=tolerance, atol=tolerance)
        slopes = torch.autograd.grad(x.sum(), (a, b))
        for slope, weight in zip(slopes, (0.75, 0.25), strict=True):
            assert_close(slope, torch.full_like(a, weight), rtol=0, atol=max(1e-3, tolerance))


def test_slerp_of_noise_is_noise_where_a_line_is_not():
    a, b = normal(2, 2000, 50)
    halfway = slerp(a.reshape(2000, 5, 10), b.reshape(2000, 5, 10), 0.5)
    assert halfway.shape == (2000, 5, 10)
    assert abs(halfway.std() - 1) < 0.01 and abs(((a + b) / 2).std() - 0.5**0.5) < 0.01


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


BAD = [
    bad(
        "a model of fewer axes",
        lambda: list(ddim_invert(lambda x, t: x[:, 0], S, normal(4, 1), 5)),
        r"model must return eps_hat like x_t, \[4, 1\], got \[4\]",
    ),
    bad("refine", lambda: ddim_invert(two_modes(), S, X, refine=-1), "refine .*at least 0, got -1"),
    bad("invert NaN", lambda: ddim_invert(two_modes(), S, X / 0), "x_0 must be finite"),
    bad(
        "invert until",
        lambda: ddim_invert(two_modes(), S, X, [9, 5]),
        "down to 0, .* they end at 5",
    ),
    bad("invert still", lambda: ddim_invert(two_modes(), S, X, [9, 9, 0]), "fall at each step"),
    bad("invert int", lambda: ddim_invert(two_modes(), S, T3), "x_0 must be a float", TypeError),
    bad("invert none", lambda: ddim_invert(two_modes(), S, X[:0]), r"x_0 must be a batch.*\[0\]"),
    bad("slerp none", lambda: slerp(X[:0, None], X[:0, None], 0.5), r"a must be a batch.*\[0, 1\]"),
    bad("slerp int", lambda: slerp(T3[None], T3[None], 0.5), "a must be a float", TypeError),
    bad(
        "slerp u",
        lambda: slerp(X[None], X[None], X),
        r"u must be a number or .*\[1\], got .3",
    ),
    bad("slerp u NaN", lambda: slerp(X[None], X[None], math.nan), "u must be finite"),
    bad("slerp 0", lambda: slerp(X[None], 0 * X[None], 0.5), "neither zero nor opposite"),
    bad("slerp opposite", lambda: slerp(X[None], -X[None], 0.5), "neither zero nor opposite"),
    bad("slerp shapes", lambda: slerp(X[None], X[None, :2], 0.5), r"b must have the shape of a"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
