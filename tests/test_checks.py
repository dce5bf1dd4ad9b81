"""The doors: what passes, what does not, and what is said."""

import math

import pytest
import torch
from strategies import bad, check_bad, normal

from ddpm_lite.checks import check_samples, check_times

EXACT = {"rtol": 1e-12, "atol": 1e-12}
X = normal(3)
T3 = torch.tensor([1, 2, 3])
BAD = [
    bad("t int32", lambda: check_times(T3.int(), 9, X), r"t .*torch.int32.*use t\.long", TypeError),
    bad("t float", lambda: check_times(X, 9, X), r"t .*int64.*torch.float64.*t\.long", TypeError),
    bad("t number", lambda: check_times(3, 9, X), r"t .*int: use torch\.full", TypeError),
    bad("t [B, 1]", lambda: check_times(T3[:, None], 9, X), r"t .*\[3, 1\], the batch \[3\]"),
    bad("t short", lambda: check_times(T3[:2], 9, X), r"t .*one entry per sample.*\[2\]"),
    bad("t scalar", lambda: check_times(T3[0], 9, X), r"t .*is \[\], the batch \[3\]"),
    bad("x scalar", lambda: check_times(T3, 9, X[0]), r"t .*the batch \[\]"),
    bad("t 0", lambda: check_times(T3 - 1, 9, X), r"1\.\.9, got .* 0 to 2 \(t = 0 is clean"),
    bad("t > T", lambda: check_times(T3, 2, X), r"t must lie in 1\.\.2, got .* to 3"),
    bad("empty", lambda: check_times(T3[:0], 9, X[:0]), "batch is empty: t has no"),
    bad("x list", lambda: check_samples(x=[1.0]), "x must be a floating.*got list", TypeError),
    bad("x int", lambda: check_samples(x=T3), "x must be .*torch.int64.*convert", TypeError),
    bad("x NaN", lambda: check_samples(x=X, y=X * math.nan), "y must be finite, got NaN"),
    bad("x inf", lambda: check_samples(x=X / 0), "x must be finite.*look at what made it"),
    bad("shapes", lambda: check_samples(x=X, y=X[:, None]), r"y .*of x, \[3\], got \[3, 1\]"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
