"""The book's matplotlib style: one colour for one thing, legible on light and dark pages."""

from __future__ import annotations

import io
import sys

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, as_tensor

from .live.palette import PALETTE

COLORS = {role: light for role, (light, _) in PALETTE.items()}
"""Role -> colour: data, noise, model, truth, other; legible on light and on dark pages."""

_INK = "#737373"  # mid-grey: about 4.7:1 on white and 4:1 on the dark page


def style() -> None:
    """Set matplotlib up for the book: transparent, mid-grey ink, 72 dpi at twice the pixels."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and getattr(shell, "display_formatter", None) is not None:
        shell.run_line_magic("matplotlib", "inline")  # before ours: it registers its own PNG
        shell.display_formatter.formatters["image/png"].for_type(Figure, _png)
    plt.rcParams.update(
        {
            "figure.dpi": 72,
            "figure.figsize": (8, 3),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "axes.edgecolor": _INK,
            "axes.labelcolor": _INK,
            "axes.titlecolor": _INK,
            "axes.titlesize": 12,
            "axes.prop_cycle": plt.cycler(color=list(COLORS.values())),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 12,
            "image.interpolation": "nearest",
            "legend.frameon": False,
            "lines.linewidth": 2,
            "text.color": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
        }
    )


def _png(figure: Figure) -> tuple[bytes, dict[str, int]]:
    """The figure at twice its pixels in 256 colours: a third of the bytes, and looks the same."""
    full, few = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=2 * figure.dpi, bbox_inches="tight")
    picture = Image.open(full)
    picture.quantize(256, method=Image.Quantize.FASTOCTREE).save(few, "png", optimize=True)
    return few.getvalue(), {"width": picture.width // 2, "height": picture.height // 2}


def panels(count: int = 1, height: float = 3.0, **options) -> tuple[Figure, list[Axes]]:
    """A row of ``count`` axes, 8 inches wide in all; options go to plt.subplots."""
    figure, axes = plt.subplots(1, count, figsize=(8, height), squeeze=False, **options)
    return figure, list(axes[0])


def digits(axes: Axes, images: Tensor, captions: list[str] | None = None) -> None:
    """Draw images [R, C, H, W] (or one row [C, H, W]) in [-1, 1] as one grid, without axes.

    captions: texts above the columns, at most one each. Raises ValueError for whole numbers, such
    as pixels 0..255, for other shapes and for more captions.
    """
    images = as_tensor(images).detach().cpu()
    if not images.is_floating_point():
        raise ValueError(
            f"digits: images must be floats in [-1, 1], got {images.dtype}: "
            "images / 127.5 - 1 brings pixels 0..255 there"
        )
    if images.ndim not in (3, 4) or images.numel() == 0:
        raise ValueError(
            f"digits: images must be [R, C, H, W] or [C, H, W], got {list(images.shape)}"
        )
    images = images.reshape(-1, *images.shape[-3:])
    images = images if images.itemsize >= 4 else images.float()  # NumPy has no bfloat16
    rows, columns, height, width = images.shape
    if captions is not None and len(captions) > columns:
        raise ValueError(f"digits: {len(captions)} captions for {columns} columns")
    canvas = images.new_full((rows * (height + 1), columns * (width + 1)), float("nan"))
    for r in range(rows):
        for c in range(columns):
            top, left = r * (height + 1), c * (width + 1)
            canvas[top : top + height, left : left + width] = images[r, c]
    axes.imshow(canvas.clamp(-1, 1).numpy(), cmap="gray", vmin=-1, vmax=1)
    axes.set_axis_off()
    for c, caption in enumerate(captions or []):
        axes.text((c + 0.5) * (width + 1) - 1, -2, caption, ha="center", va="bottom")
