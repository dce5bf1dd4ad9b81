"""Limits and ticks of a panel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ddpm_lite.live.checks import Array, too_narrow
from ddpm_lite.live.controls import Panel
from ddpm_lite.live.marks import Mark


def limits(
    panel: Panel, marks: Sequence[Mark], stacks: Sequence[dict[str, Array]]
) -> tuple[list[float], list[float]]:
    """The panel's limits: as given, or those of the marks over all frames with a margin."""
    parts = [_extent(mark, stack) for mark, stack in zip(marks, stacks, strict=True)]
    xs, ys = ([part for extent in parts for part in extent[i]] for i in (0, 1))
    kinds = {mark.kind for mark in marks}
    tight = "heatmap" in kinds
    x_tight = bool(kinds & {"heatmap", "curve", "gaussians", "histogram"})
    return (
        _lim(panel.xlim, xs, panel.xscale, x_tight),
        _lim(panel.ylim, ys, panel.yscale, tight),
    )


def _extent(mark: Mark, v: dict[str, Array]) -> tuple[list[Array], list[Array]]:
    """Arrays that hold the extremes of a mark in x and in y, over all frames."""
    zero = [np.zeros(1)]  # where bars and fills stand
    if mark.kind in ("curve", "points"):
        return [v["x"]], [v["y"]] + (zero if getattr(mark, "fill", False) else [])
    if mark.kind == "arrows":
        return [v["x"], v["x"] + v["dx"]], [v["y"], v["y"] + v["dy"]]
    if mark.kind == "histogram":
        return [v["edges"]], [v["heights"], *zero]
    if mark.kind == "heatmap":
        halves = {k: (v[k][:, 1:2] - v[k][:, :1]) / 2 for k in ("x", "y")}
        return [v["x"] - halves["x"], v["x"] + halves["x"]], [
            v["y"] - halves["y"],
            v["y"] + halves["y"],
        ]
    if mark.kind == "gaussians":
        w, m, s = v["weights"], v["means"], np.maximum(v["stds"], 1e-9)
        z = (m[:, :, None] - m[:, None]) / s[:, None]
        peaks = (w[:, None] * np.exp(-0.5 * z**2) / s[:, None]).sum(-1) / math.sqrt(2 * math.pi)
        return [m - 4 * s, m + 4 * s], [peaks, *zero]
    return [], []


def _lim(
    given: tuple[float, float] | None, arrays: Sequence[Array], scale: str, tight: bool
) -> list[float]:
    if given is not None:
        low, high = (math.log10(v) if scale == "log" else float(v) for v in given)
    else:
        values = np.concatenate([np.zeros(0), *(a.ravel() for a in arrays)])
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        if too_narrow(low, high):  # a constant
            around = 0.5 if abs(low) < 1e6 else 0.5 * abs(low)
            low, high = low - around, high + around
        if not tight:
            margin = 0.05 * (high - low)
            low = low if low == 0 else low - margin
            high = high + margin
    shared = math.floor(math.log10(max(abs(low), abs(high)) / (high - low)))
    digits = 6 + max(0, shared)  # six that tell the limits apart
    return [float(f"{low:.{digits}g}"), float(f"{high:.{digits}g}")]


def ticks(lim: Sequence[float], log: bool = False, count: int = 5) -> list[list[Any]]:
    """About `count` round numbers within lim, as [position, text]; powers of ten if `log`."""
    low, high = lim
    return _decades(low, high, count) if log else _steps(low, high, count)


def _decades(low: float, high: float, count: int) -> list[list[Any]]:
    every = max(1, math.ceil((high - low) / count))
    powers = range(math.floor(low), math.ceil(high) + 1)
    digits = (1,) if high - low > 2 else (1, 2, 5)
    decades = [(p + math.log10(d), p, d) for p in powers if p % every == 0 for d in digits]
    return [
        [v, _power(p) if d == 1 else f"{d * 10.0**p:g}"]
        for v, p, d in decades
        if low - 1e-9 <= v <= high + 1e-9
    ]


def _steps(low: float, high: float, count: int) -> list[list[Any]]:
    raw = (high - low) / count
    power = math.floor(math.log10(raw))
    m = min((1, 2, 2.5, 5, 10), key=lambda m: abs(math.log(m * 10.0**power / raw)))
    step, decimals = m * 10.0**power, max(0, (m == 2.5) - power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    numbers = [round(k * step, decimals) + 0.0 for k in range(first, last + 1)]
    longest = max((len(f"{v:.{decimals}f}") for v in numbers), default=0)
    if longest <= 14:
        return [[v, minus(f"{v:.{decimals}f}")] for v in numbers]
    most = max(abs(v) for v in numbers)
    decimals = max(0, math.floor(math.log10(most)) - power + (m == 2.5))
    return [[v, minus(f"{v:.{decimals}e}") if v else "0"] for v in numbers]


def _power(p: int) -> str:
    if -2 <= p <= 3:
        return f"{10.0**p:g}"
    return "10" + str(p).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def minus(text: str) -> str:
    """The text with a true minus sign."""
    return text.replace("-", "−")
