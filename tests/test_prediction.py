"""x_0, eps, v and the score: conversions invert, v is a rotation, the score is a gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, cases, check_bad, normal
from torch.testing import assert_close

from ddpm_lite.forward import q_sample
from ddpm_lite.gaussian import log_density
from ddpm_lite.prediction import clipped, from_v, predict_eps, predict_x_0, score, to_v
from ddpm_lite.schedule import at, cosine_schedule, linear_schedule

EXACT = {"rtol": 1e-12, "atol": 1e-12}
ROUNDINGS = {torch.float64: 0.0, torch.float32: 1e-6, torch.bfloat16: 0.1, torch.float16: 2e-2}


@given(cases())
def test_conversions_invert_the_jump(case):
    schedule, t = case.schedule, case.t
    x_t = q_sample(schedule, case.x_0, t, case.eps)
    # Dividing by sqrt(alpha_bar) magnifies rounding by as much.
    signal = at(schedule.alpha_bar.sqrt(), t, x_t)
    x_0 = predict_x_0(schedule, x_t, t, case.eps)
    assert_close(signal * x_0, signal * case.x_0, **EXACT)
    assert_close(predict_eps(schedule, x_t, t, case.x_0), case.eps, rtol=1e-10, atol=1e-10)


@given(cases())
def test_conversions_invert_each_other_at_any_x_t(case):
    """Also where x_t was never made from this x_0 and eps."""
    schedule, t, x_t = case.schedule, case.t, case.x_t
    eps = predict_eps(schedule, x_t, t, case.x_0)
    assert_close(predict_x_0(schedule, x_t, t, eps), case.x_0, rtol=1e-9, atol=1e-9)
    x_0, eps = from_v(schedule, x_t, t, case.z)
    assert_close(q_sample(schedule, x_0, t, eps), x_t, **EXACT)
    assert_close(to_v(schedule, x_0, t, eps), case.z, **EXACT)


@given(cases())
def test_v_and_x_t_are_x_0_and_eps_rotated(case):
    """One angle, with cosine sqrt(alpha_bar): turning keeps lengths, and turning back inverts."""
    schedule, t = case.schedule, case.t
    x_t, v = q_sample(schedule, case.x_0, t, case.eps), to_v(schedule, case.x_0, t, case.eps)
    assert_close(x_t**2 + v**2, case.x_0**2 + case.eps**2, **EXACT)
    angle = at(torch.arccos(schedule.alpha_bar.sqrt()), t, x_t)
    turned = torch.complex(case.x_0, case.eps) * torch.polar(torch.ones_like(angle), -angle)
    assert_close(torch.complex(x_t, v), turned, rtol=1e-10, atol=1e-10)
    assert_close(from_v(schedule, x_t, t, v), (case.x_0, case.eps), **EXACT)


@given(cases())
def test_score_is_the_gradient_of_the_log_density(case):
    """Of q(x_t | x_0), by autograd."""
    schedule, t = case.schedule, case.t
    x_t = q_sample(schedule, case.x_0, t, case.eps).requires_grad_()
    alpha_bar = at(schedule.alpha_bar, t, x_t)
    log_density(x_t, alpha_bar.sqrt() * case.x_0, 1 - alpha_bar).sum().backward()
    assert_close(score(schedule, case.eps, t), x_t.grad, rtol=1e-9, atol=1e-9)


def test_gradients_flow_dtypes_stay_and_layout_does_not_matter():
    schedule, t = linear_schedule(), torch.tensor([1, 2, 1000])
    x, y = normal(2, 3, seed=1).T.requires_grad_(), normal(2, 3, seed=2).T
    for convert in (predict_x_0, predict_eps, to_v, from_v):
        exact = convert(schedule, x, t, y)
        exact = torch.stack(exact) if isinstance(exact, tuple) else exact
        (gradient,) = torch.autograd.grad(exact.sum(), x)
        assert gradient.abs().min() > 0
        for dtype, rounding in (
            (torch.float64, 0.0),
            (torch.float32, 1e-6),
            (torch.bfloat16, 0.1),
            (torch.float16, 2e-2),
        ):
            rounded = convert(schedule, x.to(dtype).contiguous(), t, y.to(dtype).contiguous())
            rounded = torch.stack(rounded) if isinstance(rounded, tuple) else rounded
            assert rounded.dtype == dtype
            scale = exact.detach().abs().max().item()
            assert_close(rounded.double(), exact, rtol=rounding, atol=rounding * scale)


# the model whose x_0_hat is in range


@given(cases(), st.sampled_from([0.3, 1.0, 50.0]))
def test_clipped_is_consistent_and_the_model_where_that_is_in_range(case, limit):
    """Its eps_hat belongs to the clamped x_0_hat: with it, that makes x_t again."""
    schedule, t, x_t, model = case.schedule, case.t, case.x_t, lambda x, t: case.eps
    x_0_hat = predict_x_0(schedule, x_t, t, case.eps)
    eps_hat = clipped(model, schedule, limit)(x_t, t)
    assert_close(q_sample(schedule, x_0_hat.clamp(-limit, limit), t, eps_hat), x_t, **EXACT)
    inside = x_0_hat.abs() <= limit
    assert_close(eps_hat[inside], case.eps[inside], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("schedule", [linear_schedule(), cosine_schedule()], ids=repr)
def test_clipped_is_in_range_at_every_t_whatever_the_model_says(schedule, dtype):
    """To rounding, which 1 / sqrt(alpha_bar) magnifies."""
    t, x_t = torch.arange(1, 1001), 3 * normal(1000, 2).to(dtype)
    signal = schedule.alpha_bar[t].sqrt()[:, None]
    for loud in (1e4, -1e4, 1e30, 0.0):
        eps_hat = clipped(lambda x, t, loud=loud: torch.full_like(x, loud), schedule, 0.7)(x_t, t)
        x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
        rounding = 4 * torch.finfo(dtype).eps * (1 + x_t.double().abs() / signal)
        assert ((x_0_hat.abs() - 0.7) <= rounding).all()
        if loud:
            assert ((x_0_hat + math.copysign(0.7, loud)).abs() <= rounding).all()


def test_clipped_twice_is_clipped_to_the_smaller_limit():
    schedule, t, x_t = linear_schedule(50), torch.arange(1, 51), normal(50)
    model = lambda x, t: 9 * x.sin()  # noqa: E731
    once = clipped(model, schedule, 0.5)
    for a, b in ((0.5, 2.0), (2.0, 0.5), (0.5, 0.5)):
        twice = clipped(clipped(model, schedule, a), schedule, b)
        assert_close(twice(x_t, t), once(x_t, t), rtol=1e-9, atol=1e-9)


def test_clipped_sees_a_slope_that_the_model_hides():
    """x_t has its own part in what it returns: a gradient would look complete, and be wrong."""
    schedule, t, x_t = linear_schedule(10), torch.tensor([5, 9]), normal(2).requires_grad_()
    model = clipped(lambda x, t: x.sin(), schedule, 9.0)
    (slope,) = torch.autograd.grad(model(x_t, t).sum(), x_t)
    assert_close(slope, x_t.cos(), **EXACT)
    hidden = clipped(torch.no_grad()(lambda x, t: x.sin()), schedule)
    with pytest.raises(ValueError, match="must be differentiable"):
        hidden(x_t, t)
    with torch.no_grad():
        assert hidden(x_t, t).shape == (2,)


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])
BAD = [
    row
    for f, first, second in (
        (predict_x_0, "x_t", "eps"),
        (predict_eps, "x_t", "x_0"),
        (to_v, "x_0", "eps"),
        (from_v, "x_t", "v"),
    )
    for row in (
        bad("t 0", lambda f=f: f(S, X, T3 - 1, X), r"t must lie in 1\.\.10, got .*clean data"),
        bad("t 11", lambda f=f: f(S, X, T3 + 1, X), r"t must lie in 1\.\.10, got .* to 11"),
        bad("t int32", lambda f=f: f(S, X, T3.int(), X), r"t .*int32.*t\.long", TypeError),
        bad("t short", lambda f=f: f(S, X, T3[:1], X), r"t must have one entry .*\[1\].*\[3\]"),
        bad("shape", lambda f=f: f(S, X, T3, X[:1]), rf"{second} .* of {first}, \[3\], got \[1\]"),
        bad("NaN", lambda f=f: f(S, X * math.nan, T3, X), f"{first} must be finite, got NaN"),
        bad("int", lambda f=f: f(S, X, T3, T3), f"{second} must be a floating.*int64", TypeError),
        bad("empty", lambda f=f: f(S, X[:0], T3[:0], X[:0]), "the batch is empty"),
    )
] + [
    bad("score t", lambda: score(S, X, T3 - 1), r"t must lie in 1\.\.10, got .*clean data"),
    bad("limit 0", lambda: clipped(score, S, 0.0), "limit must be positive, got 0"),
    bad("limit NaN", lambda: clipped(score, S, math.nan), "limit must be positive, got nan"),
    bad("model", lambda: clipped(lambda x, t: x[:1], S)(X, T3), r"return eps_hat .*got \[1\]"),
    bad("score NaN", lambda: score(S, X * math.nan, T3), "eps must be finite, got NaN"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
