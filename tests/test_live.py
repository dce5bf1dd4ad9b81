"""Live figures, the Python side: what is stored, what it costs, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import traitlets
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ddpm_lite.live import (
    Arrows,
    Choice,
    Curve,
    Gaussians,
    Heatmap,
    Histogram,
    Images,
    LiveFigure,
    Panel,
    Points,
    Readout,
    Rule,
    Slider,
    decode,
    frame_at,
    state_of,
)
from ddpm_lite.live.axes import ticks
from ddpm_lite.live.packing import pack_field, unpack_field
from ddpm_lite.live.palette import MAPS, PALETTE
from ddpm_lite.live.still import mathtext

ROOT = Path(__file__).resolve().parents[1]
X = np.linspace(-1, 1, 21)
TEXT = {"title": "A title", "alt": "What there is to see."}


def wave(k, kind):
    """A curve that moves with both controls, and three that move with one or none."""
    f = {"sin": np.sin, "cos": np.cos}[kind]
    return {
        "main": [
            Curve(X, f(k * X), label="both"),
            Curve(X, k * X, label="slider"),
            Points(X, np.abs(X) + (kind == "cos"), label="choice"),
            Curve(X, X**2),
        ],
        "side": [Gaussians([0.5, 0.5], [-k, k], [1, 2]), Rule(x=k), Readout("k", k)],
    }


def figure(frame=wave, **changes):
    controls = {"k": Slider(range(1, 6), start=3, unit="Hz"), "kind": Choice(["sin", "cos"])}
    panels = {"main": Panel("x", "y"), "side": Panel()}
    return LiveFigure(frame, **{**TEXT, "panels": panels, **controls, **changes})


def small(marks, **changes):
    """A figure of one panel and one slider; marks(k) gives the frame."""
    return LiveFigure(marks, **{**TEXT, "k": Slider([1, 2, 3]), **changes})


# ---- packing -------------------------------------------------------------------------------------

FIELDS = hnp.arrays(
    np.float64,
    st.tuples(st.just(6), st.integers(0, 5), st.integers(1, 3)),
    elements=st.floats(-1e6, 1e6) | st.just(np.nan),
)


@given(values=FIELDS, bits=st.sampled_from([8, 16, 32]))
def test_packing_gives_the_numbers_back(values, bits):
    sizes = [2, 3]
    packed = json.loads(json.dumps(pack_field(values, sizes, bits)))
    found = unpack_field(packed, sizes)
    dropped = [a for a in (0, 1) if a not in packed["axes"]]
    found = np.broadcast_to(np.expand_dims(found, dropped), (2, 3, *values.shape[1:]))
    wanted = values.reshape(found.shape)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    if bits == 32:
        np.testing.assert_array_equal(found, wanted.astype(np.float32))
    elif not np.isnan(wanted).all() and wanted.size:
        spread = np.nanmax(wanted) - np.nanmin(wanted)
        step = spread / (2**bits - 2) + 1e-5 * spread + 1e-8 * np.nanmax(np.abs(wanted)) + 1e-12
        assert np.nanmax(np.abs(found - wanted)) <= step


def test_what_does_not_change_along_a_control_is_stored_once():
    marks = figure().spec["panels"][0]["marks"]
    assert [mark["fields"]["y"]["axes"] for mark in marks] == [[0, 1], [0], [1], []]
    assert all(mark["fields"]["x"]["axes"] == [] for mark in marks)
    bytes_of = [len(base64.b64decode(mark["fields"]["y"]["data"])) for mark in marks]
    assert bytes_of == [2 * 21 * n for n in (10, 5, 2, 1)]


def test_noise_in_the_last_bit_changes_nothing():
    values = np.random.default_rng(0).normal(size=(4, 50))
    values[:, :25] = 0.1  # constant columns too
    nudged = values * (1 + np.random.default_rng(1).choice([-1, 0, 1], values.shape) * 2.2e-16)
    assert pack_field(values, [4], 16) == pack_field(nudged, [4], 16)
    constant = np.full((4, 3), 0.3)
    packed = pack_field(constant * (1 + 1e-15 * np.arange(3)), [4], 16)
    assert packed == pack_field(constant, [4], 16)
    assert packed["axes"] == []


def test_every_frame_comes_back():
    fig = figure()
    for k in range(1, 6):
        for kind in ("sin", "cos"):
            wanted, found = wave(k, kind), fig.frame_data(k=k, kind=kind)
            assert list(found) == ["main", "side"]
            for name, marks in wanted.items():
                for mark, fields in zip(marks, found[name], strict=True):
                    for field, values in fields.items():
                        np.testing.assert_allclose(values, mark.numbers(field), atol=1e-4)


def test_the_stored_text_holds_the_state():
    awkward = {"title": 'a < b & "c" </script> &lt; ᾱ', "alt": "<b>&amp;</b>"}
    fig = small(lambda k: [Curve(X, k * X, label="<i>")], **awkward)
    text = fig.to_html()
    state = state_of(text)
    assert state == json.loads(json.dumps(fig.state))
    assert state["spec"]["title"] == awkward["title"]
    assert text.count("<script") == text.count("</script>") == 1
    assert "<b>&amp;</b>" not in text and "<i>" not in text
    assert [a.shape for a in decode(state)] == [(21,), (3, 21)]
    drawn = frame_at(state, [2])["main"][0]
    np.testing.assert_allclose(drawn["y"], 3 * drawn["x"], atol=1e-4)
    with pytest.raises(ValueError, match="no live figure"):
        state_of("<p>nothing</p>")


def test_two_figures_of_one_function_are_the_same_bytes():
    assert figure().to_html() == figure().to_html()
    data, _ = figure()._repr_mimebundle_()
    assert data["text/html"] == figure().to_html()
    assert data["text/plain"] == repr(figure()) == "LiveFigure('A title', k, kind)"


def test_log_scale_stores_the_logarithm():
    fig = small(
        lambda k: [Curve([1, 10, 100], [k, 0, 1e-3]), Rule(y=k), Readout("k", k)],
        panels={"main": Panel(yscale="log", ylim=(1e-4, 10))},
    )
    drawn = fig.frame_data(k=2)["main"]
    np.testing.assert_allclose(drawn[0]["y"], [np.log10(2), np.nan, -3], atol=1e-4)
    np.testing.assert_allclose(drawn[1]["at"], np.log10(2), rtol=1e-6)
    assert fig.spec["panels"][0]["ylim"] == [-4, 1]
    np.testing.assert_allclose(drawn[0]["x"], [1, 10, 100], atol=1e-2)


# ---- the picture ---------------------------------------------------------------------------------


def still(fig):
    png = re.search(r'src="data:image/png;base64,([^"]+)"', fig.to_html())[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"))


def all_marks(k):
    z = np.outer(X, X) * k
    return {
        "a": [
            Heatmap(z, X, X, -3, 3, label="z"),
            Arrows(X, X, 0.1 * k * X, -X),
            Rule(y=[0, k / 3], label="rules"),
        ],
        "b": [
            Curve(X, np.stack([k * X, X]), label="lines"),
            Curve(X, X, fill=True),
            Gaussians(1, 0, k),
            Histogram(X, X[1:] ** 2),
            Points(X, 0.5, label="points"),
            Readout("k", k),
        ],
        "c": [Images(z[None, None], captions=["one"], rows=["row"])],
    }


def test_still_picture_shows_every_mark_at_the_start():
    panels = {"a": Panel(title="a", equal=True), "b": Panel("x", "y", width=2), "c": Panel()}
    fig = small(all_marks, panels=panels)
    first = still(fig)
    assert first.shape[1] == 720
    assert (first[..., 3] == 0).mean() > 0.3, "transparent, for light and dark pages"
    fig.set(k=3)
    assert (still(fig) != first).any(), "it shows the position that is chosen"
    for name in ("a", "b", "c"):  # and every panel is drawn
        alone = small(lambda k, n=name: {n: all_marks(k)[n]}, panels={name: Panel()})
        assert (still(alone)[..., 3] > 0).mean() > 0.02


def test_labels_have_subscripts_and_dollars():
    assert mathtext("q(x_{t−1} | x_t)") == (r"q(x$_{\mathregular{t−1}}$ | x$_{\mathregular{t}}$)")
    assert mathtext("x_start costs 5 $") == r"x_start costs 5 \$"


def test_dashes_tell_labelled_lines_apart():
    marks = [
        Curve(X, X, label="a"),
        Curve(X, X),
        Gaussians(1, 0, 1, label="b"),
        Curve(X, X, label="filled", fill=True),
        Curve(X, X, label="plain", dash=False),
        Curve(X, X, label="dashed", dash=True),
        Rule(x=0, label="c"),
    ]
    drawn = small(lambda k: [*marks, Points(X, k * X)]).spec["panels"][0]["marks"]
    assert [mark["dash"] for mark in drawn] == [0, 0, 1, 0, 0, 1, 2, 0]


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


# ---- controls ------------------------------------------------------------------------------------


def test_values_positions_and_set():
    fig = figure()
    assert (fig.values, fig.pos) == ({"k": 3, "kind": "sin"}, [2, 0])
    seen = []
    fig.observe(lambda change: seen.append(fig.values["k"]), "pos")
    fig.set(k=5, kind="cos")
    assert (fig.pos, seen) == ([4, 1], [5])
    fig.pos = [0, 1]
    assert fig.values == {"k": 1, "kind": "cos"}
    with pytest.raises(ValueError, match=r"k=9 is not a value of the control; it has 1, 2, 3, 4"):
        fig.set(k=9)
    with pytest.raises(ValueError, match="no control 'q'; there are k, kind"):
        fig.set(q=1)
    for wrong in ([5, 0], [-1, 0], [0], [0, 0, 0]):
        with pytest.raises(traitlets.TraitError, match=r"indices below \[5, 2\]"):
            fig.pos = wrong
    assert fig.pos == [0, 1]


def test_figures_can_be_linked():
    one, two = figure(), figure()
    traitlets.link((one, "pos"), (two, "pos"))
    one.set(k=5)
    assert two.values["k"] == 5


def test_text_of_controls():
    fig = small(
        lambda k, j: [Curve(X, k * j * X)],
        k=Slider(np.linspace(-1, 1, 3), label="κ", unit="nats", format=".2f", play="bounce"),
        j=Slider(np.arange(3) / 10, start=0.3 - 0.2),
    )
    k, j = fig.spec["controls"]
    assert k["values"] == ["−1.00", "0.00", "1.00"]
    assert (k["label"], k["unit"], k["play"]) == ("κ", "nats", "bounce")
    assert (j["label"], j["values"]) == ("j", ["0", "0.1", "0.2"])
    assert "play" not in j
    assert fig.values == {"k": -1.0, "j": 0.1}
    assert all(type(v) is float for v in fig.values.values())


# ---- what is refused -----------------------------------------------------------------------------

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
    (lambda: Panel(xscale="sqrt"), r'xscale must be "linear" or "log", got \'sqrt\''),
    (lambda: Panel(ylim=(1, 0)), r"ylim must be \(low, high\) with low < high"),
    (lambda: Panel(xlim=(0, 1), xscale="log"), r"xlim must be positive on a log scale"),
]


@pytest.mark.parametrize(("make", "message"), WRONG_MARKS)
def test_wrong_marks(make, message):
    with pytest.raises(ValueError, match=message):
        make()


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
]


@pytest.mark.parametrize(("frame", "message"), WRONG_FRAMES)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_wrong_frames(frame, message):
    with pytest.raises(ValueError, match=message):
        small(frame)


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


# ---- the script, the stylesheet and the palette of the pages -------


def test_reading_a_figure_needs_neither_widgets_nor_torch():
    code = (
        "import sys, ddpm_lite.live.packing, ddpm_lite.live\n"
        "heavy = {'torch', 'anywidget', 'ipywidgets', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import ddpm_lite.live as live\n"
        "assert live.LiveFigure.__name__ == 'LiveFigure' and 'torch' not in sys.modules\n"
        "try: live.Nothing\n"
        "except AttributeError as error: assert 'Nothing' in str(error)\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_pages_script_is_classic_and_made_without_the_package():
    code = (
        "import runpy, sys\n"
        "m = runpy.run_path('book/_ext/live_figures.py')\n"
        "script, css = m['script'](), m['stylesheet']()\n"
        "assert not {'ddpm_lite', 'numpy', 'anywidget'} & set(sys.modules)\n"
        "print(script.count('export '), script.count('import '), script.count('render({ model'))\n"
        "print(css.count('{') - css.count('}'), '--lf-truth' in css)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == ["0", "0", "2", "0", "True"]


def test_stylesheet_of_the_widget_is_that_of_the_page():
    extension = runpy.run_path(str(ROOT / "book" / "_ext" / "live_figures.py"))
    assert extension["stylesheet"]() == figure()._css


def linear(colour):
    """A hex colour as linear RGB."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("role", PALETTE)
def test_colours_stand_out(role):
    """WCAG asks 3 to 1 of lines that carry meaning; pictures keep the light page's colours."""
    light, dark = PALETTE[role]
    assert contrast(light, "#ffffff") >= 3
    assert contrast(light, "#14181e") >= 3
    assert contrast(dark, "#1b2027") >= 3


TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
EYES = {  # what the commonest kinds of colour blindness see (Machado et al. 2009), linear RGB
    "all": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
}


def lab(rgb):
    """CIE Lab of linear RGB: a distance of 2 is just seen, one of 15 is plain."""
    white = TO_XYZ @ [1, 1, 1]
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ np.clip(rgb, 0, 1) / white, 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("page", [0, 1])
def test_roles_can_be_told_apart(eyes, page):
    seen = [lab(EYES[eyes] @ linear(colours[page])) for colours in PALETTE.values()]
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert np.linalg.norm(one - other) > 15


def test_maps_have_as_many_stops_on_both_pages():
    for light, dark in MAPS.values():
        assert len(light) == len(dark)
        for stops in (light, dark):
            assert all(re.fullmatch("#[0-9a-f]{6}", stop) for stop in stops)
