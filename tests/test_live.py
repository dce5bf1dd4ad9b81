"""Live figures, the Python side: what is stored, the still picture, and the controls."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import traitlets
from figures import X, figure, small, wave
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.mathtext import MathTextParser
from PIL import Image

from ddpm_lite.live import (
    Arrows,
    Curve,
    Gaussians,
    Heatmap,
    Histogram,
    Images,
    Panel,
    Points,
    Readout,
    Rule,
    Slider,
    decode,
    frame_at,
    state_of,
)
from ddpm_lite.live.packing import pack_field, unpack_field
from ddpm_lite.live.still import mathtext

# ---- packing -------------------------------------------------------------------------------------

FIELDS = hnp.arrays(
    np.float64,
    st.tuples(st.just(6), st.integers(0, 5), st.integers(1, 3)),
    elements=st.floats(-1e6, 1e6) | st.just(np.nan),
)


@given(values=FIELDS, bits=st.sampled_from([8, 16, 32, 64]))
def test_packing_gives_the_numbers_back(values, bits):
    sizes = [2, 3]
    packed = json.loads(json.dumps(pack_field(values, sizes, bits)))
    found = unpack_field(packed, sizes)
    dropped = [a for a in (0, 1) if a not in packed["axes"]]
    found = np.broadcast_to(np.expand_dims(found, dropped), (2, 3, *values.shape[1:]))
    wanted = values.reshape(found.shape)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    if bits >= 32:
        kept = np.float32 if bits == 32 else np.float64
        np.testing.assert_array_equal(found, wanted.astype(kept))
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


TEX = "ab1_{}$\\^%#~&\"'<> −θ"  # letters, and what mathematics is written with


def test_labels_have_subscripts_and_dollars():
    assert mathtext("q(x_{t−1} | x_t)") == (r"q(x$_{\mathregular{t−1}}$ | x$_{\mathregular{t}}$)")
    assert mathtext("x_start costs 5 $") == r"x_start costs 5 \$"
    assert mathtext(r"$\foo$ x_{\foo}") == r"\$\foo\$ x_{\foo}", "not mathematics: as it is written"


@given(before=st.text(TEX), low=st.text(TEX), after=st.text(TEX))
@example(before="", low=r"\foo", after="")
def test_any_label_can_be_drawn(before, low, after):
    for label in (f"{before}_{{{low}}}{after}", before + low + after):
        MathTextParser("path").parse(mathtext(label))


@pytest.mark.parametrize("text", [r"$\foo$", "$x^{$", "x_{a^}", r"x_{\foo} $"])
def test_any_text_can_stand_anywhere(text):
    marks = [Curve(X, X, label=text), Readout(text, 1)]
    words = {"title": text, "xlabel": text, "ylabel": text}
    fig = small(
        lambda k: {"a": marks, "b": [Images(np.eye(4) / k, captions=[text], rows=[text])]},
        panels={"a": Panel(**words), "b": Panel(**words)},
    )
    assert still(fig).shape[1] == 720


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
