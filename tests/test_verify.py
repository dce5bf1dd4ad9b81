"""verify(): it passes, it fails, and it says the same thing each time."""

import math

import numpy as np
import pytest
import torch
from strategies import bad, check_bad

from ddpm_lite.verify import VerificationError, verify


@pytest.mark.parametrize(
    ("lhs", "rhs", "tolerance", "result"),
    [
        (1.0, 1.0, {"atol": 1e-12}, "1 value agrees to 1e-12"),
        ([1, 2], (1, 2), {"atol": 2.5e-9}, "2 values agree to 2.5e-9"),
        (torch.ones(40, 50), 1, {"atol": 0.001}, "2,000 values agree to 0.001"),
        (np.ones((3, 1)), torch.ones(4), {"atol": 1e-6}, "12 values agree to 1e-6"),
        (100.0, 101.0, {"rtol": 0.02}, "1 value agrees to 2 %"),
        (100.0, 101.0, {"atol": 0.5, "rtol": 0.005}, "1 value agrees to 0.5 + 0.5 %"),
        # A tolerance is never stated tighter than it was.
        (0.0, 0.0014, {"atol": 0.0014}, "1 value agrees to 0.0014"),
        (-1, torch.tensor(-1.0, requires_grad=True), {"atol": 1e-12}, "1 value agrees to 1e-12"),
        (1 + 2j, torch.tensor(1 - 2j).conj(), {"atol": 1e-12}, "1 value agrees to 1e-12"),
        ([1j, 1], np.array([1j, 1 + 1e-13j]), {"atol": 1e-12}, "2 values agree to 1e-12"),
        (torch.ones(2, dtype=torch.bfloat16), 1, {"atol": 1e-12}, "2 values agree to 1e-12"),
    ],
)
def test_agreement_is_one_line(lhs, rhs, tolerance, result):
    verified = verify("eq-some-name", lhs, rhs, **tolerance, route="a grid")
    assert repr(verified) == f"verified eq-some-name: a grid; {result}"
    assert repr(verified) == repr(verify("eq-some-name", lhs, rhs, **tolerance, route="a grid"))


def test_html_links_to_the_ledger_and_is_escaped():
    page = verify("eq-a", 1.0, 1.0, atol=1e-12, route="E[x | x < 1] & <b>")._repr_html_()
    assert page.startswith('<p class="verified">') and page.endswith("</p>")
    assert 'href="ledger.html#eq-a"' in page
    assert "E[x | x &lt; 1] &amp; &lt;b&gt;" in page and "1 value agrees to 1e-12" in page


@pytest.mark.parametrize(
    ("lhs", "rhs", "tolerance"),
    [
        (1.0, 1.1, {"atol": 1e-2}),
        (100.0, 103.0, {"rtol": 0.02}),
        ([0.0, 1.0, 2.0], [0.0, 1.0, 2.1], {"atol": 1e-3}),
        ([1.0, -1.0], [-1.0, 1.0], {"atol": 1e-3}),  # signed errors must not cancel
        (math.nan, 1.0, {"atol": 1.0}),
        (1.0, math.nan, {"rtol": 1.0}),
        (math.nan, math.nan, {"atol": 1.0}),
        (1.0, math.inf, {"rtol": 0.1}),
        (math.inf, math.inf, {"rtol": 0.1}),
        (math.inf, 1.0, {"atol": 0.1}),
        ([1.0, math.nan], [1.0, 1.0], {"atol": 0.1}),
        (1 + 1j, 1.0, {"atol": 0.1}),  # the imaginary part counts, on either side
        (torch.ones(3), torch.full((3,), 1 + 1j), {"rtol": 0.1}),
        (np.array([1.0, 1 + 1j]), np.ones(2), {"atol": 0.1}),
        (1 + 1j, 1 - 1j, {"atol": 0.1}),
        (complex(0, math.nan), 0, {"atol": 0.1}),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_disagreement_names_the_equation(lhs, rhs, tolerance):
    with pytest.raises(VerificationError, match="^eq-some-name: .* by a grid") as caught:
        verify("eq-some-name", lhs, rhs, **tolerance, route="a grid")
    assert caught.value.label == "eq-some-name" and isinstance(caught.value, AssertionError)


def test_the_message_shows_the_worst_pair():
    with pytest.raises(VerificationError, match=r"3 against 3\.5 by hand \(allowed 1\.0e-01\)"):
        verify("eq-a", [1.0, 2.0, 3.0, 4.0], [1.0, 2.2, 3.5, 4.0], atol=0.1, route="hand")


def check(lhs=1.0, rhs=1.0, **tolerance):
    return verify("eq-a", lhs, rhs, **tolerance, route="hand")


BAD = [
    bad(
        "no tolerance", lambda: check(), "positive, finite atol or rtol, got 0.0 and 0.0: how close"
    ),
    bad("negative", lambda: check(atol=-1.0), "positive, finite atol or rtol, got -1.0"),
    bad("one negative", lambda: check(atol=-1.0, rtol=1.0), "positive, finite .*got -1.0 and 1.0"),
    bad("infinite", lambda: check(atol=math.inf), "positive, finite atol or rtol, got inf"),
    bad("NaN", lambda: check(rtol=math.nan), "positive, finite atol or rtol, got 0.0 and nan"),
    bad("empty", lambda: check([], [], atol=1.0), "eq-a: nothing to compare, both sides are empty"),
    bad("shapes", lambda: check([1, 2], [1, 2, 3], atol=1.0), "shape mismatch"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
