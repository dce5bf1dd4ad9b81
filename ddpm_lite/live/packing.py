"""From frames to the JSON state of a figure, and back.

A field (say the y of a curve) is one array over all frames. The controls along which it never
changes are dropped; the rest is quantised to 8 or 16 bits against [lo, hi] (the highest code
means NaN), or kept as float32 or float64, and written in base64. `decode` is the way back.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_lite.live.checks import Array, too_narrow

_DTYPES = {8: "<u1", 16: "<u2", 32: "<f4", 64: "<f8"}


def pack_field(
    values: Array,
    sizes: Sequence[int],
    bits: int,
    span: tuple[float, float] | None = None,
    scale: float = 0.0,
) -> dict[str, Any]:
    """One field over all frames, [F, *shape] with F the product of `sizes`, as JSON.

    span: the range [lo, hi] of the codes (default: that of the finite values); numbers beyond it
    are clipped. scale: how long the axis is on which they are drawn: what is rounding noise there
    is stored as a constant.
    """
    packed: dict[str, Any] = {"bits": bits, "shape": list(values.shape[1:])}
    if bits >= 32:
        codes: NDArray[Any] = values.astype(_DTYPES[bits])
    else:
        lo, hi = span or _span(values, scale)
        top = 2**bits - 2
        with np.errstate(invalid="ignore"):
            scaled = np.rint((values - lo) * (top / (hi - lo)))
        codes = np.where(np.isnan(scaled), top + 1, np.clip(scaled, 0, top)).astype(_DTYPES[bits])
        packed |= {"lo": lo, "hi": hi}
    codes = codes.reshape((*sizes, *values.shape[1:]))
    axes = list(range(len(sizes)))
    for axis in reversed(range(len(sizes))):
        first = codes.take([0], axis)
        if codes.shape[axis] == 1 or np.array_equal(
            codes, np.broadcast_to(first, codes.shape), equal_nan=bits >= 32
        ):
            codes = first.squeeze(axis)
            axes.remove(axis)
    data = base64.b64encode(np.ascontiguousarray(codes).tobytes()).decode("ascii")
    return packed | {"axes": axes, "data": data}


def _span(values: Array, scale: float) -> tuple[float, float]:
    """[lo, hi] of the finite values, rounded so that noise in the last bit changes no text."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if too_narrow(low, high, scale):  # a constant
        low = float(f"{low:.{9 if abs(low) <= 1e4 * scale or not scale else 15}g}")
        return low, low + (1.0 if abs(low) < 1e9 else abs(low))
    digits = 5 - math.floor(math.log10(high - low))
    return round(low, digits) + 0.0, round(high, digits) + 0.0


def unpack_field(packed: dict[str, Any], sizes: Sequence[int]) -> Array:
    """The numbers of one field: [sizes of its axes ..., *shape]."""
    codes = np.frombuffer(base64.b64decode(packed["data"]), dtype=_DTYPES[packed["bits"]])
    codes = codes.reshape(*(sizes[a] for a in packed["axes"]), *packed["shape"])
    values = codes.astype(np.float64)
    if packed["bits"] >= 32:
        return values
    top = 2 ** packed["bits"] - 2
    scaled = packed["lo"] + values * ((packed["hi"] - packed["lo"]) / top)
    return np.where(codes == top + 1, np.nan, scaled)


def state_of(text: str) -> dict[str, Any]:
    """The state in a figure's text/html output. Raises ValueError if there is none."""
    found = re.search(
        r'<script type="application/json" class="lf-state">(.*?)</script>', text, re.DOTALL
    )
    if found is None:
        raise ValueError("no live figure in this text (no <script class=lf-state>)")
    state: dict[str, Any] = json.loads(found[1])
    return state


def _sizes(state: dict[str, Any]) -> list[int]:
    return [len(control["values"]) for control in state["spec"]["controls"]]


def decode(state: dict[str, Any]) -> list[Array]:
    """All numbers of a figure: one array for each field, in the order panel, mark, field."""
    return [
        unpack_field(packed, _sizes(state))
        for panel in state["spec"]["panels"]
        for mark in panel["marks"]
        for packed in mark["fields"].values()
    ]


def frame_at(state: dict[str, Any], pos: Sequence[int]) -> dict[str, list[dict[str, Array]]]:
    """The numbers of one frame, {panel: [{field: array} for each mark]}, at positions `pos`."""
    sizes = _sizes(state)
    return {
        panel["name"]: [
            {
                name: unpack_field(packed, sizes)[tuple(pos[a] for a in packed["axes"])]
                for name, packed in mark["fields"].items()
            }
            for mark in panel["marks"]
        ]
        for panel in state["spec"]["panels"]
    }
