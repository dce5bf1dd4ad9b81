"""Live figures: what is refused, and that the message names the field."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from figures import TEXT, X, small

from ddpm_lite.live import (
    Arrows,
    Button,
    Choice,
    Curve,
    Gaussians,
    Heatmap,
    Histogram,
    Images,
    LiveFigure,
    Pad,
    Panel,
    Point,
    Points,
    Readout,
    Rule,
    Slider,
    checks,
)

ONE = np.zeros((2, 2))
WRONG_MARKS = [
    (lambda: Curve(X, X[1:]), r"Curve: y must be \[21\] or \[k, 21\] as x, got \(20,\)"),
    (lambda: Curve(ONE, ONE), r"Curve: x must have 1 axes, got shape \(2, 2\)"),
    (lambda: Curve(X, ["a"] * 21), "Curve: y must be numbers"),
    (lambda: Curve(X, X, role="blue"), "role must be one of data, noise, .*, got 'blue'"),
    (lambda: Gaussians([1], [0, 1], [1, 1]), r"Gaussians: shapes must be equal"),
    (lambda: Gaussians(1, 0, -1), r"stds must be at least 0"),
    (lambda: Gaussians(1, 0, np.nan), r"stds must be at least 0"),
    (lambda: Histogram([1, 2], [1, 2]), r"edges must be one more than heights, got 2 and 2"),
    (lambda: Points(X, X[1:]), r"Points: shapes must be equal, got .*\(21,\).*\(20,\)"),
    (lambda: Images(np.zeros((2, 3, 4))), r"Images: pixels must have 2 or 4 axes"),
    (lambda: Images(ONE, captions=["a", "b"]), r"captions must be 1 texts.*got 2"),
    (lambda: Images(ONE, rows=[]), r"rows must be 1 texts.*got 0"),
    (lambda: Heatmap(ONE, [0, 1, 2], [0, 1], 0, 1), r"x must be 2 evenly spaced.*got 3 numbers"),
    (lambda: Heatmap(np.zeros((2, 3)), [0, 1, 5], [0, 1], 0, 1), r"x must be 3 evenly spaced"),
    (lambda: Heatmap(ONE, [0, 1], [1, 0], 0, 1), r"y must be 2 evenly spaced, rising"),
    (lambda: Heatmap(ONE, [0, 1], [0, 1], 1, 1), r"vmin must be below vmax, got 1 and 1"),
    (lambda: Arrows([0], [0], [1, 2], [0]), r"Arrows: shapes must be equal"),
    (lambda: Rule(), r"give x .* or y .*, not both"),
    (lambda: Rule(x=1, y=1), r"give x .* or y .*, not both"),
    (lambda: Readout("r", [1, 2]), r"value must be one number, got shape \(2,\)"),
    (lambda: Curve(X, X * 1j), r"Curve: y must be numbers \(got complex128\)"),
    (lambda: Arrows(0, 0, ["a"], 0), r"Arrows: dx must be numbers"),
    (lambda: Rule(x="1"), r"Rule: x must be numbers"),
    (lambda: Gaussians(1, 1j, 1), r"Gaussians: means must be numbers"),
    (lambda: Readout("r", 1j), r"Readout: value must be numbers"),
    (lambda: Points([1, 10**400], 0), r"Points: x must be numbers"),
    (lambda: Points([1, 2], 1e305), r"Points: y must be within 1e\+300, got numbers up to 1e\+305"),
    (lambda: Curve(X, torch.ones(21, requires_grad=True)), r"Curve: y must be numbers \(.*detach"),
    (lambda: Histogram([0, 2, 1], [1, 2]), r"Histogram: edges must rise"),
    (lambda: Histogram([0, np.nan], [1]), r"Histogram: edges must rise"),
    (lambda: Images(np.zeros((0, 0))), r"Images: pixels are none, got shape \(1, 1, 0, 0\)"),
    (lambda: Images(np.zeros((0, 1, 2, 2))), r"Images: pixels are none"),
    (lambda: Images(ONE, vmin=1), r"Images: vmin must be below vmax, got 1 and 1"),
    (lambda: Images(ONE, captions="a"), r"captions must be 1 texts.*got 'a'"),
    (lambda: Images(ONE, rows=5), r"rows must be 1 texts.*got 5"),
    (lambda: Heatmap(ONE, [0, 1e-9], [0, 1], -math.inf, 1), r"Heatmap: vmin must be a number"),
    (lambda: Heatmap(np.zeros((2, 3)), [0, 1e-9, 5e-9], [0, 1], 0, 1), r"x must be 3 evenly"),
    (lambda: Panel(xscale="sqrt"), r'xscale must be "linear" or "log", got \'sqrt\''),
    (lambda: Panel(ylim=(1, 0)), r"ylim must be \(low, high\) with low < high"),
    (lambda: Panel(xlim=(0, 1), xscale="log"), r"xlim must be positive on a log scale"),
    (lambda: Panel(xlim=(0, math.inf)), r"Panel: xlim must be a number from -1e\+300 .*got inf"),
    (lambda: Panel(ylim=(math.nan, 1)), r"Panel: ylim must be a number .*got nan"),
    (lambda: Panel(ylim=5), r"ylim must be \(low, high\) with low < high, got 5"),
    (lambda: Panel(ylim=(0, 1, 2)), r"ylim must be \(low, high\) with low < high"),
    (lambda: Panel(xlim="ab"), r"xlim must be a number .*got 'a'"),
    (lambda: Panel(xlim=(0, 5e-324)), r"xlim is too narrow"),
    (lambda: Panel(xlim=(1e20, 1e20 + 20000)), r"xlim is too narrow"),
    (lambda: Panel(height=10**6), r"Panel: height must be a number from 80 to 2000, got 1000000"),
    (lambda: Slider([1], play="loop"), r'Slider: play must be True, False or "bounce", got .loop'),
]


@pytest.mark.parametrize(("make", "message"), WRONG_MARKS)
def test_wrong_marks(make, message):
    with pytest.raises(ValueError, match=message):
        make()


SOUND = [
    (Slider, {"values": [1, 2]}),
    (Choice, {"values": ["a", "b"]}),
    (Button, {"shape": [4, 28, 28]}),
    (Point, {"panel": "plane"}),
    (Pad, {}),
    (Panel, {}),
    (Curve, {"x": X, "y": X}),
    (Gaussians, {"weights": 1, "means": 0, "stds": 1}),
    (Histogram, {"edges": [0, 1], "heights": [1]}),
    (Points, {"x": X, "y": X}),
    (Images, {"pixels": ONE}),
    (Heatmap, {"z": ONE, "x": [0, 1], "y": [0, 1], "vmin": 0, "vmax": 1}),
    (Arrows, {"x": X, "y": X, "dx": X, "dy": X}),
    (Rule, {"x": 1}),
    (Readout, {"label": "r", "value": 1}),
]
STYLED = [
    pytest.param(kind, sound, field.name, id=f"{kind.__name__}.{field.name}")
    for kind, sound in SOUND
    for field in dataclasses.fields(kind)
    if field.name in checks.FIELDS
]


@pytest.mark.parametrize(("kind", "sound", "field"), STYLED)
@pytest.mark.parametrize("wrong", [object(), math.nan, math.inf, 1e301, [1], {}, "\ud800", 1j])
def test_text_and_style_of_another_type_are_refused_by_name(kind, sound, field, wrong):
    with pytest.raises(
        ValueError, match=f"^{kind.__name__}: {field} (must be|is no valid Unicode)"
    ):
        kind(**{**sound, field: wrong})


def test_no_field_goes_unchecked():
    elsewhere = {"values", "start", "xlim", "ylim", "captions", "rows", "vertical"}
    elsewhere |= {"shape", "panel"}
    for kind, _ in SOUND:
        names = {field.name for field in dataclasses.fields(kind)}
        assert names <= {*checks.FIELDS, *getattr(kind, "stored", ()), *elsewhere}


@pytest.mark.parametrize("scalar", [np.float32, np.float64, np.int64, np.array, torch.tensor])
def test_scalars_of_numpy_and_torch_are_numbers(scalar):
    def drawn(two, true):
        panel = Panel(width=two, height=two * 100, ylim=(two, two * 2), equal=true)
        control = Slider([1, 3], seconds=two, play=true, start=two / two)
        marks = [Points(X, X, size=two), Curve(X, X, width=two, fill=true, dash=true)]
        return LiveFigure(lambda k: marks, **TEXT, panels={"main": panel}, k=control).to_html()

    assert drawn(scalar(2), scalar(1) == 1) == drawn(scalar(2).item(), True)


def test_no_label_is_an_empty_text():
    with pytest.raises(ValueError, match=r"Curve: label must be text \(\"\" for none\), got None"):
        Curve(X, X, label=None)


def test_a_mark_keeps_its_own_numbers():
    """An author may draw every frame into one array."""
    buffer = np.zeros(21)

    def frame(k):
        buffer[:] = k
        return [Curve(X, buffer), Gaussians(1, 0, buffer[:1]), Points(buffer, 0), Rule(x=buffer)]

    for k in (1, 2, 3):
        curve, bell, points, rule = small(frame).frame_data(k=k)["main"]
        for found in (curve["y"], bell["stds"], points["x"], rule["at"]):
            np.testing.assert_allclose(found, k, atol=1e-4)


def test_json_never_holds_a_nan():
    """A mark that was changed after its door: no text, rather than one that stops a page."""
    mark = Points(X, X)
    mark.size = math.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        small(lambda k: [mark])
    fig = small(lambda k: [Points(X, X)])
    fig.spec["panels"][0]["xlim"][0] = -math.inf
    with pytest.raises(ValueError, match="not JSON compliant"):
        fig.to_html()


def lines(n):
    return [Curve(X, X)] * n


WRONG_FRAMES = [
    (lambda k: lines(k), r"same marks .* \['Curve'\], k=2 has \['Curve', 'Curve'\]"),
    (
        lambda k: [Curve(X[k:], X[k:])],
        r"mark 0 \(Curve\): x must have the same shape.*\(20,\), k=2 has \(19,\)",
    ),
    (
        lambda k: [Curve(X, X, label=f"k = {k}")],
        r"label must be the same in every frame, and is not at k=2 \(a Readout",
    ),
    (lambda k: [Curve(X, X / (k - 2))], r"y is infinite at k=2; give NaN"),
    (lambda k: [Images(ONE), Curve(X, X)], r"Images must be alone in their panel"),
    (lambda k: {"up": lines(1)}, r"frame returned panel 'up'; panels are 'main'"),
    (lambda k: {"main": lines(1) if k < 3 else []}, r"same marks"),
    (lambda k: None, r"frame must return a list of marks for panel 'main', got None"),
    (lambda k: Curve(X, X), r"frame must return a list of marks for panel 'main', got Curve"),
    (lambda k: ["Curve"], r"frame must return a list of marks .*got \['Curve'\]"),
    (lambda k: {3: lines(1)}, r"frame returned panel 3; panels are 'main'"),
]


@pytest.mark.parametrize(("frame", "message"), WRONG_FRAMES)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_wrong_frames(frame, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small(frame)


WRONG_TEXTS = [
    ({"title": 3}, r"LiveFigure: title must be text .*got 3"),
    ({"alt": None}, r"LiveFigure: alt must be text .*got None"),
    ({"title": "\ud800"}, r"LiveFigure: title is no valid Unicode"),
    ({"panels": [Panel()]}, r"LiveFigure: panels must be \{.name.: Panel"),
    ({"panels": {"a": None}}, r"LiveFigure: panels must be \{.name.: Panel"),
    ({"panels": {1: Panel()}}, r"LiveFigure: a panel's name must be text .*got 1"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_TEXTS)
def test_wrong_texts_and_panels(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small(lambda k: lines(1), **change)


def test_a_list_of_marks_needs_one_panel():
    with pytest.raises(ValueError, match="with several panels, frame must return"):
        small(lambda k: lines(1), panels={"a": Panel(), "b": Panel()})


@pytest.mark.parametrize("mark", [Gaussians(1, 0, 1), Histogram([1, 2], [1]), Images(ONE)])
def test_what_a_log_panel_cannot_hold(mark):
    with pytest.raises(ValueError, match=f"{type(mark).__name__} cannot be drawn on a log scale"):
        small(lambda k: [mark], panels={"main": Panel(yscale="log")})


WRONG_CONTROLS = [
    ({"k": [1, 2]}, TypeError, "k must be a Slider or a Choice, got list"),
    ({"k": Slider([])}, ValueError, "k has no values"),
    ({"k": Slider(["a"])}, ValueError, "values of slider k must be numbers; use a Choice"),
    ({"k": Slider([1, 1])}, ValueError, "k has a value twice"),
    ({"k": Slider([1, 2], start=3)}, ValueError, "k=3 is not a value of the control; it has 1, 2"),
    ({"k": Slider([1, 2], start=ONE[0])}, ValueError, "k=array.* is not a value of the control"),
    ({"k": Slider(5)}, ValueError, "the values of k must be a list of numbers or texts"),
    ({"k": Choice([[1], [2]])}, ValueError, "the values of k must be a list .*unhashable"),
    ({"k": Choice(["\ud800"])}, ValueError, "Choice: a value is no valid Unicode"),
    ({"k": Slider(ONE)}, ValueError, "the values of k must be a list"),
    ({"k": Slider([1, math.nan])}, ValueError, "values of slider k must be numbers"),
    (
        {"k": Slider([0.5], format="d")},
        ValueError,
        "format 'd' does not fit the values of slider k",
    ),
]


@pytest.mark.parametrize(("control", "error", "message"), WRONG_CONTROLS)
def test_wrong_controls(control, error, message):
    with pytest.raises(error, match=message):
        small(lambda k: lines(1), **control)


def test_a_figure_needs_a_control():
    with pytest.raises(TypeError, match="at least one control"):
        LiveFigure(lambda: lines(1), **TEXT)


def test_budget():
    n = np.arange(5000)
    with pytest.raises(ValueError, match=r"\d+ kB of numbers, at most 260.*main/0 curve.y \d+ kB"):
        small(lambda k: [Curve(n, np.sin(k * n))], k=Slider(range(40)))
    fits = small(lambda k: [Curve(n, np.sin(n))], k=Slider(range(40)))
    assert len(fits.to_html()) < 100_000, "one curve for all positions"
    with pytest.raises(ValueError, match="1000000 frames; at most 100000"):
        many = Slider(range(1000))
        LiveFigure(lambda a, b: lines(1), **TEXT, a=many, b=many)


def test_four_sliders_of_parameters_cost_kilobytes():
    fig = LiveFigure(
        lambda a, b, c, d: [Gaussians([0.5, 0.5], [-a, a], [b, b]), Gaussians(c, d, 1)],
        **TEXT,
        **{name: Slider(np.linspace(0.1, 1, 8)) for name in "abcd"},
    )
    assert len(json.dumps(fig.state)) < 5_000
