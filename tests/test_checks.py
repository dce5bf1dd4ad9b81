"""The doors: what passes, what does not, what is said, and where values are not looked at."""

import math

import pytest
import torch
from strategies import bad, check_bad, normal

from ddpm_lite.checks import (
    check_batch,
    check_finite,
    check_labels,
    check_real,
    check_samples,
    check_slope,
    check_times,
    extent,
    kind,
    readable,
)

X, T3 = normal(3), torch.tensor([1, 2, 3])
AWAY = "meta"  # a device on which nothing can be read


def test_what_is_right_passes():
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        check_samples(x=X.to(dtype), y=X.to(dtype))
        check_batch(x=X.to(dtype)[:, None])
    check_samples(x=X[0], y=X[1]), check_samples(x=X[:0])  # any shape, also none
    check_times(T3, 3, X), check_times(T3 - 1, 2, X, first=0)
    check_times(T3.double() / 10, 3, X[:, None], real=True), check_times(T3, 3, X, real=True)
    check_times(0 * X.abs(), 3, X, first=0, real=True)
    check_labels(T3, 3, 4), check_labels(T3[:0], 0, 4)
    check_real(x=X, y=X.float()), check_finite("x", X)


def test_values_are_not_looked_at_where_that_is_a_wait():
    """Of wrong times, labels and NaN nothing is said there; of wrong shapes and dtypes all is."""
    x, t = (X / 0).to(AWAY), (T3 + 1000).to(AWAY)
    assert readable(X) and not readable(x)
    check_times(t, 3, x), check_samples(x=x), check_batch(x=x), check_labels(t, 3, 4)
    for call in (
        lambda: check_times(t[:2], 3, x),
        lambda: check_times(t.int(), 3, x),
        lambda: check_samples(x=x, y=x[:2]),
        lambda: check_samples(x=t),
        lambda: check_batch(x=x[:0]),
        lambda: check_labels(t[:2], 3, 4),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()


def test_values_are_not_looked_at_while_a_graph_is_traced():
    seen = []
    torch.compile(lambda x: (seen.append(readable(x)), x + 1)[1], backend="eager")(X)
    assert seen == [False] and readable(X)


# a slope that autograd does not see


def ungraded(x):
    with torch.no_grad():
        return x.sin()


def inferred(x):
    with torch.inference_mode():
        return x.sin()


@pytest.mark.parametrize("field", [ungraded, inferred, lambda x: x.detach().sin()])
def test_a_hidden_slope_is_named_where_one_is_asked_for(field):
    x = X.clone().requires_grad_()
    with pytest.raises(ValueError, match="must be differentiable.*call it without.*no_grad"):
        check_slope(field, x, field(x))
    check_slope(field, X, field(X))  # nobody asks for a slope
    with torch.no_grad():
        check_slope(field, x, field(x))


def test_no_slope_is_a_slope_too():
    x = X.clone().requires_grad_()
    for field in (torch.sin, torch.ones_like, lambda x: torch.full((3,), 2.0)):
        check_slope(field, x, field(x))


def test_what_a_message_says():
    assert kind(X) == "a torch.float64 tensor" and kind([1]) == "list"
    assert extent(T3) == "values from 1 to 3" and extent(T3[:1]) == "1"


BAD = [
    bad("t int32", lambda: check_times(T3.int(), 9, X), r"t .*torch.int32.*use t\.long", TypeError),
    bad("t float", lambda: check_times(X, 9, X), r"t .*int64.*torch.float64.*t\.long", TypeError),
    bad("t number", lambda: check_times(3, 9, X), r"t .*int: use torch\.full", TypeError),
    bad("t list", lambda: check_times([3], 9, X, real=True), r"t .*list: use torch\.", TypeError),
    bad("t [B, 1]", lambda: check_times(T3[:, None], 9, X), r"t .*\[3, 1\], the batch \[3\]"),
    bad("t short", lambda: check_times(T3[:2], 9, X), r"t .*one entry per sample.*\[2\]"),
    bad("t scalar", lambda: check_times(T3[0], 9, X), r"t .*is \[\], the batch \[3\]"),
    bad("x scalar", lambda: check_times(T3, 9, X[0]), r"t .*the batch \[\]"),
    bad("t 0", lambda: check_times(T3 - 1, 9, X), r"1\.\.9, got .* 0 to 2 \(t = 0 is clean"),
    bad("t > T", lambda: check_times(T3, 2, X), r"t must lie in 1\.\.2, got .* to 3"),
    bad("t 0.0", lambda: check_times(X - X, 2, X, real=True), r"in \(0, 2\], got 0 .t = 0 is cl"),
    bad("t NaN", lambda: check_times(X / 0 * 0, 2, X, real=True), r"t must lie in \(0, 2\], got n"),
    bad("s NaN", lambda: check_times(X / 0 * 0, 2, X, 0, "s", True), r"s must lie in \[0, 2\]"),
    bad("empty", lambda: check_times(T3[:0], 9, X[:0]), "batch is empty: t has no"),
    bad("x list", lambda: check_samples(x=[1.0]), "x must be a floating.*got list", TypeError),
    bad("x int", lambda: check_samples(x=T3), "x must be .*torch.int64.*convert", TypeError),
    bad("x bool", lambda: check_samples(x=T3 > 1), "x must be .*torch.bool", TypeError),
    bad("x complex", lambda: check_samples(x=X * 1j), "x must be .*complex128", TypeError),
    bad("x NaN", lambda: check_samples(x=X, y=X * math.nan), "y must be finite, got NaN"),
    bad("x inf", lambda: check_samples(x=X / 0), "x must be finite.*look at what made it"),
    bad("shapes", lambda: check_samples(x=X, y=X[:, None]), r"y .*of x, \[3\], got \[3, 1\]"),
    bad("broadcast", lambda: check_samples(x=X, y=X[:1]), r"y .*of x, \[3\], got \[1\]"),
    bad("no batch", lambda: check_batch(x=X[0]), r"x must be a batch \[B, \*D\].* got \[\]"),
    bad("no sample", lambda: check_batch(x=X[:0]), r"x must be a batch .*B >= 1, got \[0\]"),
    bad("half", lambda: check_real(x=X.half()), r"float32 or .*torch.float16.*x\.float", TypeError),
    bad("bfloat16", lambda: check_real(x=X.bfloat16()), "x must be .*torch.bfloat16", TypeError),
    bad("y float", lambda: check_labels(X, 3, 9), r"y must be int64 \[B\] = \[3\], got torch.fl"),
    bad("y list", lambda: check_labels([1], 1, 9), r"y must be int64 \[B\] = \[1\], got list"),
    bad("y short", lambda: check_labels(T3[:2], 3, 9), r"\[3\], got torch.int64 \[2\]"),
    bad("y > C", lambda: check_labels(T3, 3, 3), r"y must lie in 0\.\.2, got values from 1 to 3"),
    bad("y < 0", lambda: check_labels(T3 - 2, 3, 3), r"y must lie in 0\.\.2, got values from -1"),
    bad("finite", lambda: check_finite("x", X / 0), "x must be finite, got NaN or infinity"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
