"""The still picture of a live figure, for print, for GitHub and for pages without JavaScript."""

from __future__ import annotations

import base64
import io
import math
import re
from typing import Any

import numpy as np

from ddpm_lite.live.checks import Array
from ddpm_lite.live.packing import frame_at
from ddpm_lite.live.palette import MAPS, PALETTE

GREY = "#737373"  # legible on white and on black
COLOURS = 64
DASHES = ("solid", (0, (4, 2)), (0, (1.2, 1.6)), (0, (5, 1.8, 1.2, 1.8)))


def mixture_on(x: Array, weights: Array, means: Array, stds: Array) -> Array:
    """The density sum_k w_k N(x; m_k, s_k^2) at x: [n]. The JavaScript has this formula too."""
    z = (x[:, None] - means) / stds
    density: Array = (weights * np.exp(-0.5 * z**2) / (stds * math.sqrt(2 * math.pi))).sum(-1)
    return density


def mixture_grid(xlim: list[float], means: Array, stds: Array) -> Array:
    """Where a mixture is drawn: evenly over the panel, and densely about each component."""
    grid = [np.linspace(xlim[0], xlim[1], 241)]
    grid += [m + s * np.linspace(-4, 4, 33) for m, s in zip(means, stds, strict=True)]
    x = np.sort(np.concatenate(grid))
    return x[(x >= xlim[0]) & (x <= xlim[1])]


def as_written(text: str) -> str:
    """Matplotlib's spelling of a text that holds no mathematics."""
    return text.replace("$", r"\$")


def mathtext(text: str) -> str:
    """Matplotlib's spelling of a label with subscripts: "x_{t−1}" as in the page.

    What matplotlib cannot lower stays as it is written.
    """
    from matplotlib.mathtext import MathTextParser

    safe = as_written(text)
    lowered = re.sub(r"_(?:\{([^}]*)\}|(\w)(?!\w))", r"$_{\\mathregular{\1\2}}$", safe)
    try:
        MathTextParser("path").parse(lowered)
    except ValueError:
        return safe
    return lowered


def readable(value: float, digits: int) -> str:
    """The text of a readout. The JavaScript has this rule too."""
    tiny = value != 0 and abs(value) < 0.5 * 10.0**-digits
    return f"{value:.1e}" if tiny or abs(value) >= 1e6 else f"{value:.{digits}f}"


def still_png(state: dict[str, Any]) -> str:
    """The frame at state["pos"], drawn by matplotlib: PNG in base64."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    panels = state["spec"]["panels"]
    frame = frame_at(state, state["pos"])
    height = max(p["height"] for p in panels) / 90
    figure = Figure(figsize=(7.2, height + 0.3), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1, len(panels), width_ratios=[p["width"] for p in panels])
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(grid[0, i])
        _draw_panel(axes, panel, frame[panel["name"]])
    full, out = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", transparent=True)
    few = Image.open(full).quantize(COLOURS, method=Image.Quantize.FASTOCTREE)  # a third the size
    few.save(out, format="png", optimize=True)
    return base64.b64encode(out.getvalue()).decode("ascii")


def _draw_panel(axes: Any, panel: dict[str, Any], frame: list[dict[str, Array]]) -> None:
    axes.set(xlim=panel["xlim"], ylim=panel["ylim"])
    axes.set_xlabel(mathtext(panel["xlabel"]), color=GREY)
    axes.set_ylabel(mathtext(panel["ylabel"]), color=GREY)
    axes.set_title(mathtext(panel["title"]), color=GREY, fontsize=10)
    axes.set_xticks([p for p, _ in panel["xticks"]], [text for _, text in panel["xticks"]])
    axes.set_yticks([p for p, _ in panel["yticks"]], [text for _, text in panel["yticks"]])
    axes.tick_params(colors=GREY, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)
    if panel["equal"]:
        axes.set_aspect("equal")
    for mark, v in zip(panel["marks"], frame, strict=True):
        _DRAW[mark["kind"]](axes, mark, v, DASHES[mark.get("dash", 0)])
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            [mathtext(label) for label in labels],
            fontsize=8,
            frameon=False,
            labelcolor=GREY,
        )


def _curve(axes: Any, mark: dict[str, Any], v: dict[str, Array], dash: Any) -> None:
    colour, label = PALETTE[mark["role"]][0], mark["label"] or None
    for k, y in enumerate(np.atleast_2d(v["y"])):
        if mark["fill"]:
            axes.fill_between(v["x"], y, color=colour, alpha=0.18, linewidth=0)
        width = mark["width"] * 0.8
        axes.plot(
            v["x"], y, color=colour, linewidth=width, linestyle=dash, label=None if k else label
        )


def _gaussians(axes: Any, mark: dict[str, Any], v: dict[str, Array], dash: Any) -> None:
    low, high = axes.get_xlim()
    stds = np.maximum(v["stds"], 1e-4 * (high - low))
    x = mixture_grid([low, high], v["means"], stds)
    _curve(axes, mark, {"x": x, "y": mixture_on(x, v["weights"], v["means"], stds)}, dash)


def _histogram(axes: Any, mark: dict[str, Any], v: dict[str, Array], dash: Any) -> None:
    colour = PALETTE[mark["role"]][0]
    axes.stairs(
        v["heights"], v["edges"], fill=True, color=colour, alpha=0.35, label=mark["label"] or None
    )


def _points(axes: Any, mark: dict[str, Any], v: dict[str, Array], dash: Any) -> None:
    axes.plot(
        v["x"],
        v["y"],
        "o",
        color=PALETTE[mark["role"]][0],
        alpha=0.6,
        markeredgewidth=0,
        markersize=1.6 * mark["size"],
        label=mark["label"] or None,
    )


def _arrows(axes: Any, mark: dict[str, Any], v: dict[str, Array], dash: Any) -> None:
    axes.quiver(
        v["x"],
        v["y"],
        v["dx"],
        v["dy"],
        color=PALETTE[mark["role"]][0],
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.004,
        label=mark["label"] or None,
    )


def _rule(axes: Any, mark: dict[str, Any], v: dict[str, Array], dash: Any) -> None:
    line = axes.axvline if mark["vertical"] else axes.axhline
    for k, at in enumerate(v["at"]):
        line(
            at,
            color=PALETTE[mark["role"]][0],
            linewidth=1.2,
            linestyle=dash,
            label=None if k else mark["label"] or None,
        )


def _heatmap(axes: Any, mark: dict[str, Any], v: dict[str, Array], dash: Any) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    name = "diverging" if mark["diverging"] else "sequential"
    colours = LinearSegmentedColormap.from_list(name, MAPS[name][0])
    axes.pcolormesh(
        v["x"],
        v["y"],
        v["z"],
        cmap=colours,
        vmin=mark["vmin"],
        vmax=mark["vmax"],
        shading="nearest",
        zorder=0,
    )


def _images(axes: Any, mark: dict[str, Any], v: dict[str, Array], dash: Any) -> None:
    pixels, gap = v["pixels"], mark["gap"]
    rows, columns, h, w = pixels.shape
    framed = np.pad(pixels, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    sheet = framed.transpose(0, 2, 1, 3).reshape(rows * (h + gap), columns * (w + gap))
    axes.imshow(
        sheet,
        cmap="gray",
        vmin=mark["vmin"],
        vmax=mark["vmax"],
        interpolation="nearest",
        extent=(0, sheet.shape[1], sheet.shape[0], 0),
    )
    axes.set(xlim=(0, sheet.shape[1]), ylim=(sheet.shape[0], 0))
    x = [c * (w + gap) + w / 2 for c in range(columns)]
    y = [r * (h + gap) + h / 2 for r in range(rows)]
    axes.set_xticks(x, [as_written(text) for text in mark.get("captions", [""] * columns)])
    axes.set_yticks(y, [as_written(text) for text in mark.get("rows", [""] * rows)])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _readout(axes: Any, mark: dict[str, Any], v: dict[str, Array], dash: Any) -> None:
    text = f"{mathtext(mark['label'])} {readable(v['value'][0], mark['digits'])}"
    axes.set_title((axes.get_title() + "   " + text).strip(), color=GREY, fontsize=9)


_DRAW = {
    "curve": _curve,
    "gaussians": _gaussians,
    "histogram": _histogram,
    "points": _points,
    "images": _images,
    "heatmap": _heatmap,
    "arrows": _arrows,
    "rule": _rule,
    "readout": _readout,
}
