"""Figures that a network draws: what is stored of them, and what is refused."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toys

from ddpm_lite.live import (
    Button,
    Curve,
    Pad,
    Panel,
    Point,
    Rule,
    Slider,
    normals,
    state_of,
    stored,
)
from ddpm_lite.live.packing import frame_at, unpack_field

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = runpy.run_path(str(ROOT / "book" / "_ext" / "live_figures.py"))


@pytest.fixture(autouse=True)
def networks(monkeypatch, tmp_path):
    toys.install(monkeypatch, tmp_path)


# ---- the noise -----------------------------------------------------------------------------------


def test_noise_is_standard_normal_and_streams_are_independent():
    """Moments, the distribution function, and the correlations of neighbours and of streams."""
    n = 200_000
    a, b, c = normals(1, n), normals(1, n, stream=1), normals(2, n)
    for x in (a, b, c):
        near = 5 / np.sqrt(n)
        assert abs(x.mean()) < near and abs((x**2).mean() - 1) < near * np.sqrt(2)
        assert abs((x**4).mean() - 3) < near * np.sqrt(96)
        assert abs((x < 1).mean() - 0.841345) < near / 2
        assert abs((x[1:] * x[:-1]).mean()) < near
    assert abs((a * b).mean()) < 5 / np.sqrt(n) and abs((a * c).mean()) < 5 / np.sqrt(n)


def test_noise_is_a_function_of_its_seed_and_shape_is_only_shape():
    assert np.array_equal(normals(7, (2, 3)).ravel(), normals(7, 6))
    assert np.array_equal(normals(7, 6)[:4], normals(7, 4))
    assert not np.array_equal(normals(7, 6), normals(8, 6))


@pytest.mark.parametrize("wrong", [-1, 2**32, 1.5, None])
def test_a_seed_has_32_bits(wrong):
    with pytest.raises(ValueError, match="normals: seed must be a whole number from 0 to"):
        normals(wrong, 3)


# ---- what is stored ------------------------------------------------------------------------------


def test_the_inputs_at_each_position_are_stored():
    figure = toys.walk()
    spec = state_of(figure.to_html())["spec"]
    asked = spec["network"]
    assert asked["name"] == "toy-walk" and asked["panel"] == 0 and asked["field"] == "pixels"
    assert asked["inputs"]["scale"]["axes"] == [0] and asked["table"]["axes"] == [1]
    assert unpack_field(asked["inputs"]["scale"], [2, 2]).tolist() == [1, 2]
    assert unpack_field(asked["inputs"]["y"], [2, 2]).tolist() == toys.LABELS.tolist()
    tables = unpack_field(asked["table"], [2, 2])
    for rows, steps in zip(tables, (5, 200), strict=True):
        wanted = [[row[c] for c in asked["columns"]] for row in toys.table(steps)]
        assert np.array_equal(rows[:steps], wanted) and np.isnan(rows[steps:]).all()
    assert asked["controls"] == [
        {"kind": "button", "name": "x", "label": "Draw again", "seed": 3, "count": 4 * 784}
    ]


def test_it_is_a_live_figure_with_a_still_of_its_start():
    figure = toys.line()
    html = figure.to_html()
    assert 'class="lf-static" data-network="toy-line"' in html and 'class="lf-still"' in html
    assert figure.values == {"t": 50} and repr(figure) == "NetworkFigure('A title', 'toy-line')"
    (curve,) = frame_at(state_of(html), figure.pos)["main"]
    assert np.abs(curve["y"] - toys.X).max() < 1e-4
    figure.set(t=70)
    assert figure.values == {"t": 70}


def test_points_and_pads_are_told_to_the_page():
    (point,) = toys.plane().spec["network"]["controls"]
    assert point["kind"] == "point" and point["start"] == [1, -2] and point["panel"] == "plane"
    assert [c["kind"] for c in toys.pad().spec["network"]["controls"]] == ["button", "pad"]
    assert toys.plane().spec["network"]["panel"] == 1


def test_the_budget_counts_the_inputs():
    with pytest.raises(ValueError, match=r"\d+ kB of numbers, at most 260"):
        toys.line(t=Slider(np.linspace(0, 1, 4000)))


def test_python_sends_the_network_when_it_is_asked(monkeypatch):
    figure, sent = toys.line(), []
    monkeypatch.setattr(figure, "send", lambda *message: sent.append(message))
    figure._handle_custom_msg({"network": "another"}, [])
    figure._handle_custom_msg("network", [])
    assert sent == []
    figure._handle_custom_msg({"network": "toy-line"}, [])
    ((content, buffers),) = sent
    assert content["network"] == "toy-line" and "function makeNetwork" in content["source"]
    assert buffers == [stored.weights("toy-line"), b"none"]
    json.dumps(content)


# ---- what is refused -----------------------------------------------------------------------------

PICTURE = {"into": "picture", "panels": {"plane": Panel(), "picture": Panel()}}
WRONG = [
    (
        lambda: toys.walk(network="toy"),
        r"no network 'toy' for pages; there are toy-line",
    ),
    (lambda: toys.walk(network=3), r"network must be text"),
    (lambda: toys.line(into="side"), r"into='side' is no panel; there are \['main'\]"),
    (
        lambda: toys.plane(Rule(x=1), into="plane"),
        r"first mark of panel 'plane' must be Images, Points, a Curve",
    ),
    (lambda: toys.line(network="toy-plane"), r"does not take t, x_t; its inputs are z"),
    (lambda: toys.plane(z=Slider([1, 2])), r"unexpected keyword"),
    (lambda: toys.plane(network="toy-line"), r"does not take z; its inputs are t, x_t"),
    (lambda: toys.walk(x=Slider([1])), r"unexpected keyword"),
    (lambda: toys.pad(x=Button((4,)), z=Button((4,))), r"does not take z"),
    (lambda: toys.pad(y=Button((4,))), r"one Button at most, got x, y"),
    (lambda: toys.plane(pad=Pad()), r"pad is a Pad, which only a walk can complete"),
    (lambda: toys.plane(z=Point("picture")), r"panel of z must be one with axes, of \['plane'\]"),
    (lambda: Point("plane", 3), r"Point: start must be \(x, y\), got 3"),
    (lambda: Point("plane", (0, np.nan)), r"Point: start must be a number"),
    (lambda: Button((4, 0)), r"Button: a size of shape must be a whole number from 1"),
    (lambda: Pad(size=2), r"Pad: size must be a whole number from 4 to 128, got 2"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_wrong_figures(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


WRONG_ASKS = [
    (lambda t: [1], r"ask must return \{input: numbers\}, got \[1\]"),
    (lambda t: {"x_t": toys.X, "t": "now"}, r"NetworkFigure: t must be numbers"),
    (lambda t: {"x_t": toys.X}, r"the network needs t; its inputs are t, x_t"),
    (lambda t: {"x_t": toys.X[: t + 1], "t": 1}, r"x_t must have the same shape at each position"),
    (lambda t: {"x_t": toys.X, **({"t": t} if t else {})}, r"the same inputs at each position"),
    (lambda t: {"x_t": 1, "t": 1, "table": [1]}, r"table must be rows as `page.walk_table`"),
    (lambda t: {"y": 1, "t": 1, "table": toys.table(2)}, r"does not take y"),
    (lambda t: {"table": toys.table(2)}, r"a walk starts from x=Button\(shape=...\), its noise"),
]


@pytest.mark.parametrize(("ask", "message"), WRONG_ASKS)
def test_wrong_asks(ask, message):
    with pytest.raises((ValueError, TypeError), match=message):
        toys.NetworkFigure(
            lambda t: [Curve(toys.X, toys.X)],
            ask,
            network="toy-line",
            t=Slider([0, 1, 2]),
            **toys.WORDS,
        )


def test_the_network_s_own_mark_comes_first():
    with pytest.raises(ValueError, match="first mark of panel 'main' must be Images"):
        toys.NetworkFigure(lambda: [], lambda: {}, network="toy-plane", **toys.WORDS)


# ---- what the book's build writes ----------------------------------------------------------------


def test_the_scripts_of_the_networks_that_pages_have_and_no_others(monkeypatch):
    monkeypatch.setitem(EXTENSION["networks"].__globals__, "runpy", FakeRunpy)
    files = EXTENSION["networks"](["<p>nothing</p>", toys.line().to_html()])
    assert set(files) == {"runner.js", "toy-line.js"}
    assert EXTENSION["networks"](["<p>nothing</p>"]) == {}
    told = re.search(r'\["toy-line"\]=(.*);\n$', files["toy-line.js"])[1]
    assert json.loads(told)["program"] == stored.program("toy-line")
    assert "</script" not in files["runner.js"]


class FakeRunpy:
    """The build reads the file; here its folders are the test's."""

    @staticmethod
    def run_path(path):
        assert Path(path) == Path(stored.__file__)
        return vars(stored)


def test_scripts_of_an_earlier_build_go(tmp_path):
    folder = tmp_path / "networks"
    EXTENSION["write_networks"](folder, {})
    assert not folder.exists()
    EXTENSION["write_networks"](folder, {"old.js": "1", "kept.js": "1"})
    EXTENSION["write_networks"](folder, {"kept.js": "2"})
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"kept.js": "2"}


def test_the_build_reads_what_is_stored_without_the_package():
    code = (
        "import runpy, sys\n"
        "m = runpy.run_path('ddpm_lite/live/stored.py')\n"
        "for name in m['names'](): m['script'](name)\n"
        "assert not {'ddpm_lite', 'numpy', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
