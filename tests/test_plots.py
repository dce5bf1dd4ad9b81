"""The matplotlib style: colours from the palette, and pictures that show what they are given."""

import io
import sys
import types

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from strategies import bad, check_bad

from ddpm_lite import plots
from ddpm_lite.live.palette import PALETTE

LIGHT, DARK = "#ffffff", "#14181e"  # the backgrounds of the book's pages


@pytest.fixture(autouse=True)
def restored():
    with plt.rc_context():
        yield
    plt.close("all")


def contrast(a: str, b: str) -> float:
    """The contrast ratio of WCAG 2, from 1 to 21."""

    def luminance(colour):
        linear = (
            ((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in to_rgb(colour)
        )
        return sum(f * c for f, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_colours_are_the_palettes_roles_and_legible_on_both_pages():
    """3:1 is what WCAG 2 asks of graphics; a picture cannot follow the page's theme."""
    assert list(plots.COLORS) == list(PALETTE) == ["data", "noise", "model", "truth", "other"]
    assert len(set(plots.COLORS.values())) == 5
    for role, colour in plots.COLORS.items():
        assert colour == PALETTE[role][0]
        assert min(contrast(colour, LIGHT), contrast(colour, DARK)) > 3, role


def test_style_is_transparent_grey_and_cycles_the_colours():
    plots.style()
    figure, (axes,) = plots.panels()
    assert figure.get_facecolor()[3] == axes.get_facecolor()[3] == 0
    lines = [axes.plot([0, 1])[0].get_color() for _ in range(5)]
    assert lines == list(plots.COLORS.values())
    assert axes.xaxis.label.get_color() == axes.title.get_color() == "#737373"
    assert contrast("#737373", LIGHT) > 4.5 and contrast("#737373", DARK) > 3.7


class Shell:
    """What `style` needs of Jupyter: a magic, and a table of formatters."""

    def __init__(self) -> None:
        self.calls, self.formats = [], {}
        png = types.SimpleNamespace(for_type=self.for_type)
        self.display_formatter = types.SimpleNamespace(formatters={"image/png": png})

    def run_line_magic(self, name, line):
        self.calls.append(f"%{name} {line}")

    def for_type(self, kind, function):
        self.calls.append("png")
        self.formats[kind] = function


def with_ipython(monkeypatch, shell):
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    plots.style()
    return shell


def test_pictures_in_jupyter_have_twice_the_pixels_in_256_colours(monkeypatch):
    shell = with_ipython(monkeypatch, Shell())
    assert shell.calls == [
        "%matplotlib inline",
        "png",
    ]  # in this order: the magic registers its own
    figure, (axes,) = plots.panels()
    axes.plot([0, 1, 0], label="up and down")
    axes.legend()
    content, size = shell.formats[Figure](figure)
    picture = Image.open(io.BytesIO(content))
    assert (picture.width // 2, picture.height // 2) == (size["width"], size["height"])
    assert 0.9 * 8 * 72 < size["width"] < 1.1 * 8 * 72
    assert len(picture.convert("RGBA").getcolors(10**6)) <= 256
    assert picture.convert("RGBA").getpixel((0, 0))[3] == 0  # transparent
    full = io.BytesIO()
    figure.savefig(full, format="png", dpi=144, bbox_inches="tight")
    exact = Image.open(full).convert("RGBA")
    assert exact.size == picture.size and len(content) < len(full.getvalue())
    page = Image.new("RGBA", exact.size, "white")
    shown = [Image.alpha_composite(page, p) for p in (exact, picture.convert("RGBA"))]
    levels = [torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).int() for p in shown]
    assert (levels[0] - levels[1]).abs().double().mean() < 1
    assert shell.formats[Figure](figure)[0] == content  # the same bytes each time


def test_style_works_outside_jupyter(monkeypatch):
    """In plain Python, in IPython without a display, and where IPython was never imported."""
    with_ipython(monkeypatch, None)
    with_ipython(monkeypatch, object())
    monkeypatch.delitem(sys.modules, "IPython")
    plots.style()
    assert plt.rcParams["figure.dpi"] == 72


def test_panels_are_a_row_of_axes():
    figure, axes = plots.panels(3, height=2.0, sharey=True)
    assert len(axes) == 3 and figure.get_size_inches().tolist() == [8, 2]
    axes[0].set_ylim(0, 7)
    assert axes[2].get_ylim() == (0, 7)


@pytest.mark.parametrize("rows", [1, 2])
def test_digits_shows_each_image_in_its_place(rows):
    images = torch.linspace(-1.5, 1.5, rows * 3 * 4 * 5).reshape(rows, 3, 4, 5)
    _, (axes,) = plots.panels()
    plots.digits(axes, images if rows > 1 else images[0], captions=["a", "b", "c"])
    (picture,) = axes.images
    canvas = torch.from_numpy(picture.get_array().filled(float("nan")))
    assert canvas.shape == (rows * 5, 3 * 6) and picture.get_clim() == (-1, 1)
    for r in range(rows):
        for c in range(3):
            shown = canvas[5 * r : 5 * r + 4, 6 * c : 6 * c + 5]
            assert torch.equal(shown, images[r, c].clamp(-1, 1))
    assert canvas.isnan().sum() == canvas.numel() - images.numel()  # the gaps
    captions = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert captions == {"a": 2.0, "b": 8.0, "c": 14.0}  # the middle columns
    assert not axes.axison


BAD_DIGITS = [
    bad(
        "bytes",
        lambda: torch.zeros(2, 3, 4, dtype=torch.uint8),
        "images must be floats .*got torch.uint8: images",
    ),
    bad(
        "whole",
        lambda: torch.zeros(2, 3, 4, dtype=torch.int64),
        "images must be floats .*got torch.int64",
    ),
    bad("one image", lambda: torch.zeros(3, 4), r"must be \[R, C, H, W\] or .*got \[3, 4\]"),
    bad("five axes", lambda: torch.zeros(1, 1, 1, 3, 4), r"must be .*got \[1, 1, 1, 3, 4\]"),
    bad("none", lambda: torch.zeros(0, 3, 4), r"must be .*got \[0, 3, 4\]"),
    bad("captions", lambda: torch.zeros(1, 3, 4), "2 captions for 1 columns"),
]


@pytest.mark.parametrize(("make", "message", "error"), BAD_DIGITS)
def test_digits_says_what_it_needs(make, message, error):
    _, (axes,) = plots.panels()
    check_bad(
        lambda: plots.digits(axes, make(), captions=["a", "b"]), f"digits: .*{message}", error
    )


@pytest.mark.parametrize("form", [torch.Tensor.bfloat16, torch.Tensor.half, torch.Tensor.numpy])
def test_digits_takes_any_floats(form):
    images = torch.tensor([[[-1, 0.5], [0.25, 1]]])
    _, (axes,) = plots.panels()
    plots.digits(axes, form(images))
    plots.digits(axes, images.requires_grad_())
    for picture in axes.images:
        assert picture.get_array()[:2, :2].tolist() == images[0].tolist()
