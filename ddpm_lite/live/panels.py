"""From the marks of every frame to the panels of a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ddpm_lite.live.axes import limits, ticks
from ddpm_lite.live.checks import Array
from ddpm_lite.live.controls import Panel
from ddpm_lite.live.marks import Curve, Gaussians, Heatmap, Images, Mark, Points, Readout, Rule
from ddpm_lite.live.packing import pack_field
from ddpm_lite.live.still import readable

_ON_LOG = (Curve, Points, Rule, Readout)  # what a panel with a log scale can hold
_FINE = 4096  # a panel's range is told apart in so many steps at least: a fifth of a pixel
_AXIS = {"x": 0, "edges": 0, "dx": 0, "means": 0, "y": 1, "heights": 1, "dy": 1}  # of each field


def pack_panel(
    name: str,
    panel: Panel,
    frames: Sequence[Sequence[Mark]],
    sizes: Sequence[int],
    where: Callable[[int], str],
) -> dict[str, Any]:
    """One panel with its marks packed. frames: its marks in each frame; where(i) names frame i.

    Raises ValueError where marks, shapes or texts of a frame are not those of the first one.
    """
    first = frames[0]
    _check_kinds(name, frames, where)
    _check_together(name, panel, first)
    stacks = []
    for j, column in enumerate(zip(*frames, strict=True)):
        text = f"panel {name!r}, mark {j} ({type(first[j]).__name__})"
        _check_style(column, text, where)
        stacks.append({f: _stack(column, f, panel, text, where) for f in column[0].stored})
    xlim, ylim = limits(panel, first, stacks)
    return {
        "name": name,
        "title": panel.title,
        "xlabel": panel.xlabel,
        "ylabel": panel.ylabel,
        "width": panel.width,
        "height": panel.height,
        "equal": panel.equal,
        "xlim": xlim,
        "ylim": ylim,
        "xticks": ticks(xlim, log=panel.xscale == "log"),
        "yticks": ticks(ylim, log=panel.yscale == "log"),
        "marks": [
            {
                "kind": mark.kind,
                **{k: v for k, v in mark.style().items() if v is not None},
                "dash": _dash(first, mark),
                "fields": {f: _pack(mark, f, v, sizes, (xlim, ylim)) for f, v in stack.items()},
            }
            for mark, stack in zip(first, stacks, strict=True)
        ],
    }


def _pack(
    mark: Mark, field: str, values: Array, sizes: Sequence[int], lims: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """One field of one mark, in as many bits as its axis asks for."""
    bits = mark.stored[field]
    if isinstance(mark, Images | Heatmap) and field in ("pixels", "z"):
        return pack_field(values, sizes, bits, (float(mark.vmin), float(mark.vmax)))
    if isinstance(mark, Readout):
        return pack_field(values, sizes, bits if _reads_alike(values, mark.digits) else 64)
    axis = int(not mark.vertical) if isinstance(mark, Rule) else _AXIS.get(field)
    if axis is None:
        return pack_field(values, sizes, bits)
    low, high = lims[axis]
    return pack_field(values, sizes, _bits(values, bits, low, high), scale=high - low)


def _bits(values: Array, bits: int, low: float, high: float) -> int:
    """The bits that keep the numbers fine between low and high, however far the others are."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return bits
    least, most, step = finite.min(), finite.max(), (high - low) / _FINE
    if bits == 16 and most / 65534 - least / 65534 <= step:
        return 16
    held = max(-least, most) < 1e38 and max(abs(low), abs(high)) * 2**-24 <= step
    return 32 if held else 64


def _reads_alike(values: Array, digits: int) -> bool:
    """Whether a readout kept as float32 shows the same text, but for ties of the last digit."""
    with np.errstate(over="ignore"):
        kept = values.astype(np.float32)
    tie = 0.01 * 10.0**-digits
    pairs = zip(values.ravel().tolist(), kept.ravel().tolist(), strict=True)
    return all(abs(v - w) <= tie or readable(v, digits) == readable(w, digits) for v, w in pairs)


def _check_kinds(name: str, frames: Sequence[Sequence[Mark]], where: Callable[[int], str]) -> None:
    """Raise ValueError if a frame has other marks than the first."""
    kinds = [type(mark).__name__ for mark in frames[0]]
    for i, marks in enumerate(frames):
        if [type(mark).__name__ for mark in marks] != kinds:
            raise ValueError(
                f"panel {name!r}: every frame must have the same marks in the same order; the "
                f"first has {kinds}, {where(i)} has {[type(m).__name__ for m in marks]} "
                "(draw NaN to hide a mark)"
            )


def _check_together(name: str, panel: Panel, marks: Sequence[Mark]) -> None:
    """Raise ValueError for marks that one panel cannot hold."""
    drawn = [mark for mark in marks if not isinstance(mark, Readout)]
    if any(isinstance(mark, Images) for mark in drawn) and len(drawn) > 1:
        raise ValueError(
            f"panel {name!r}: Images must be alone in their panel (besides Readouts); several "
            "pictures make a grid [R, C, H, W]"
        )
    for mark in marks:
        if "log" in (panel.xscale, panel.yscale) and not isinstance(mark, _ON_LOG):
            raise ValueError(
                f"panel {name!r}: {type(mark).__name__} cannot be drawn on a log scale; "
                "Curve, Points and Rule can"
            )


def _check_style(column: Sequence[Mark], text: str, where: Callable[[int], str]) -> None:
    style = column[0].style()
    for i, mark in enumerate(column):
        if mark.style() != style:
            changed = [k for k, v in mark.style().items() if v != style[k]]
            raise ValueError(
                f"{text}: {', '.join(changed)} must be the same in every frame, and is not at "
                f"{where(i)} (a Readout shows a number that changes)"
            )


def _stack(
    column: Sequence[Mark], field: str, panel: Panel, text: str, where: Callable[[int], str]
) -> Array:
    """One field of one mark over all frames, [F, *shape]; log10 of it on a log scale."""
    arrays = [mark.numbers(field) for mark in column]
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{text}: {field} must have the same shape in every frame; the first has "
                f"{arrays[0].shape}, {where(i)} has {array.shape} (pad with NaN)"
            )
    values = np.stack(arrays)
    if np.isinf(values).any():
        i = int(np.argwhere(np.isinf(values))[0][0])
        raise ValueError(f"{text}: {field} is infinite at {where(i)}; give NaN to leave a gap")
    mark = column[0]
    axis = ("x" if mark.vertical else "y") if isinstance(mark, Rule) else field
    if {"x": panel.xscale, "y": panel.yscale}.get(axis) == "log":
        values = np.log10(np.where(values > 0, values, np.nan))
    return values


def _dash(marks: Sequence[Mark], mark: Mark) -> int:
    """The dash pattern of a mark, 0 to 3: as it wishes, else the next for each labelled line."""
    if not isinstance(mark, Curve | Gaussians | Rule):
        return 0
    if mark.dash is not None:
        return int(mark.dash)
    lines = [m for m in marks if isinstance(m, Curve | Gaussians | Rule) and m.dash is None]
    outlined = [m for m in lines if m.label and (isinstance(m, Rule) or not m.fill)]
    return next((i % 4 for i, m in enumerate(outlined) if m is mark), 0)
