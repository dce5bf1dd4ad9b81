"""Live figures: computed in Python, moved by the reader, in JupyterLab and on the static page.

`LiveFigure` and `NetworkFigure` are imported on first use: reading a stored figure
(`ddpm_lite.live.packing`) needs no widget library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddpm_lite.live.controls import Button, Choice, Pad, Panel, Point, Slider
from ddpm_lite.live.marks import (
    Arrows,
    Curve,
    Gaussians,
    Heatmap,
    Histogram,
    Images,
    Points,
    Readout,
    Rule,
)
from ddpm_lite.live.noise import normals
from ddpm_lite.live.packing import decode, frame_at, state_of

if TYPE_CHECKING:
    from ddpm_lite.live.figure import LiveFigure
    from ddpm_lite.live.network import NetworkFigure

__all__ = [
    "Arrows",
    "Button",
    "Choice",
    "Curve",
    "Gaussians",
    "Heatmap",
    "Histogram",
    "Images",
    "LiveFigure",
    "NetworkFigure",
    "Pad",
    "Panel",
    "Point",
    "Points",
    "Readout",
    "Rule",
    "Slider",
    "decode",
    "frame_at",
    "normals",
    "state_of",
]


def __getattr__(name: str) -> Any:
    if name == "LiveFigure":
        from ddpm_lite.live.figure import LiveFigure

        return LiveFigure
    if name == "NetworkFigure":
        from ddpm_lite.live.network import NetworkFigure

        return NetworkFigure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
