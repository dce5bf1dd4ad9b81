"""Live figures: limits, ticks, and numbers kept as finely as their axis shows them."""

from __future__ import annotations

import numpy as np
import pytest
from figures import small
from hypothesis import assume, given
from hypothesis import strategies as st

from ddpm_lite.live import Arrows, Curve, Gaussians, Heatmap, Panel, Points, Readout, Rule
from ddpm_lite.live.axes import ticks
from ddpm_lite.live.still import readable


@given(low=st.floats(-1e4, 1e4), span=st.floats(1e-3, 1e4))
def test_ticks_are_round_even_and_inside(low, span):
    high = low + span
    assume(high - low > 1e-6 * abs(low))
    found = ticks([low, high])
    at = np.array([v for v, _ in found])
    assert 3 <= len(at) <= 9
    assert at.min() >= low - 1e-6 * span and at.max() <= high + 1e-6 * span
    steps = np.diff(at)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
    digits = f"{steps[0]:.1e}"
    assert digits[:3] in ("1.0", "2.0", "2.5", "5.0")
    for v, text in found:
        assert float(text.replace("−", "-")) == pytest.approx(v, abs=1e-9)
    assert len({text for _, text in found}) == len(found)


def test_ticks_of_a_log_axis():
    assert ticks([-4, 1], log=True) == [
        [-4, "10⁻⁴"],
        [-3, "10⁻³"],
        [-2, "0.01"],
        [-1, "0.1"],
        [0, "1"],
        [1, "10"],
    ]
    assert [text for _, text in ticks([0, 1], log=True)] == ["1", "2", "5", "10"]


def test_limits_hold_what_is_drawn():
    fig = small(
        lambda k: {
            "p": [Gaussians([0.5, 0.5], [-k, k], 2 * [0.5])],
            "a": [Arrows([0], [0], [k], [-k])],
            "h": [Heatmap(np.zeros((3, 3)), [0, 1, 2], [5, 6, 7], 0, 1)],
        },
        panels={"p": Panel(), "a": Panel(), "h": Panel(ylim=(0, 10))},
    )
    p, a, h = fig.spec["panels"]
    top = 0.5 / (0.5 * np.sqrt(2 * np.pi))
    assert p["xlim"] == [-5, 5] and p["ylim"][0] == 0 and top < p["ylim"][1] < 1.3 * top
    assert a["xlim"][1] > 3 and a["ylim"][0] < -3
    assert (h["xlim"], h["ylim"]) == ([-0.5, 2.5], [0, 10])


# ---- numbers that are large, small, or close to each other ---------------------------------------

HARD = {
    "clock times": 1.7e9 + np.arange(10),
    "a narrow band": 1e6 + 0.1 * np.sin(np.arange(10)),
    "digits seven and eight": np.arange(1234567.0, 1234578),
    "after ten digits": 1e10 + np.arange(10),
    "large and constant": np.full(5, 1e20),
    "large": 1e20 * np.arange(5),
    "tiny": 1e-13 * np.arange(5),
    "tiny and constant": np.full(5, 1e-15),
    "the largest": np.array([-1e300, 1e300]),
}


def read(text):
    return float(text.replace("−", "-"))


@pytest.mark.parametrize("values", HARD.values(), ids=HARD)
def test_limits_hold_all_numbers_and_few_others(values):
    panel = small(lambda k: [Points(values, values)]).spec["panels"][0]
    for axis in "xy":
        low, high = panel[f"{axis}lim"]
        assert low <= values.min() and values.max() < high
        spread = np.ptp(values) or max(1, values.max())
        assert high - low < 1.2 * spread
        found = panel[f"{axis}ticks"]
        at = [v for v, _ in found]
        assert 3 <= len(found) <= 9 and low <= min(at) and max(at) <= high
        assert len({text for _, text in found}) == len(found)
        for v, text in found:
            assert abs(read(text) - v) < 1e-3 * (high - low) and len(text) < 20


@pytest.mark.parametrize("values", HARD.values(), ids=HARD)
def test_numbers_come_back_finely_however_large_they_are(values):
    fig = small(lambda k: [Points(values, values), Curve(values, values), Rule(x=values)])
    low, high = fig.spec["panels"][0]["xlim"]
    points, curve, rule = fig.frame_data()["main"]
    for found in (points["x"], points["y"], curve["y"], rule["at"]):
        assert np.abs(found - values).max() < (high - low) / 4096
    assert len(np.unique(points["x"])) == len(np.unique(values)), "not drawn as a constant"


@given(
    far=st.floats(1, 1e30),
    low=st.floats(-1e9, 1e9),
    span=st.floats(1e-3, 1e9),
    seed=st.integers(0, 99),
)
def test_what_is_inside_given_limits_is_fine_however_far_the_rest_is(far, low, span, seed):
    high = low + span
    assume(high - low > 1e-6 * abs(low))
    inside = low + span * np.random.default_rng(seed).random(20)
    y = np.concatenate([inside, [low - far * span, high + far * span]])
    fig = small(lambda k: [Curve(range(22), y)], panels={"main": Panel(ylim=(low, high))})
    found = fig.frame_data()["main"][0]["y"]
    assert np.abs(found - y)[:20].max() <= span / 4096
    assert found[20] < low + 1e-6 * span and found[21] > high - 1e-6 * span


def test_a_curve_that_starts_far_above_its_panel():
    """A signal-to-noise ratio under ylim=(0, 1): 16 bits over all of it leave 7 heights."""
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    snr = alpha_bar / (1 - alpha_bar)
    panels = {"main": Panel(ylim=(0, 1))}
    fig = small(lambda k: [Curve(range(1000), snr)], panels=panels)
    found = fig.frame_data()["main"][0]["y"]
    assert np.abs(found - snr)[snr < 1].max() < 1e-4
    assert fig.spec["panels"][0]["marks"][0]["fields"]["y"]["bits"] == 32
    near = small(lambda k: [Curve(range(1000), np.minimum(snr, 10))], panels=panels)
    assert near.spec["panels"][0]["marks"][0]["fields"]["y"]["bits"] == 16, "no more than it needs"


def test_rounding_noise_is_a_constant_beside_what_is_drawn():
    noise = 1e-17 * np.random.default_rng(0).normal(size=(4, 21))
    fig = small(lambda k: [Curve(range(21), noise[k]), Curve(range(21), np.linspace(0, k, 21))])
    flat, rising = (mark["fields"]["y"]["axes"] for mark in fig.spec["panels"][0]["marks"])
    assert (flat, rising) == ([], [0])


@pytest.mark.parametrize(
    ("value", "digits", "bits"),
    [
        (1234.5678, 6, 64),
        (24221.32715552543, 3, 64),
        (1e39, 3, 64),
        (123.456789, 3, 32),
        (0.25, 1, 32),  # a tie of the last digit is no reason
        (1234567.89, 3, 32),  # shown as 1.2e+6
        (np.nan, 3, 32),
    ],
)
def test_a_readout_shows_the_digits_of_its_number(value, digits, bits):
    fig = small(lambda k: [Readout("r", value, digits=digits)])
    found = fig.frame_data()["main"][0]["value"][0]
    assert readable(found, digits) == readable(value, digits)
    assert fig.spec["panels"][0]["marks"][0]["fields"]["value"]["bits"] == bits


def test_readable():
    assert [readable(v, 2) for v in (0, 0.004, 0.006, -1.5, 999999, 1e6, 2.5e39)] == [
        "0.00",
        "4.0e-03",
        "0.01",
        "-1.50",
        "999999.00",
        "1.0e+06",
        "2.5e+39",
    ]


def test_ticks_at_the_end_of_the_floats():
    found = ticks([np.log10(2e299), 300], log=True)
    assert [text for _, text in found] == ["2e+299", "5e+299", "10³⁰⁰"]
    assert [text for _, text in ticks([307.5, 308.2], log=True)] == ["5e+307", "10³⁰⁸"]


def test_a_log_panel_takes_given_limits():
    fig = small(
        lambda k: [Curve([1e5, 1e6], [1, k])], panels={"main": Panel(xlim=(1e5, 1e6), xscale="log")}
    )
    assert fig.spec["panels"][0]["xlim"] == [5, 6]
