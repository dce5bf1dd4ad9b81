"""Live figures: computed in Python, moved by the reader, in JupyterLab and on the static page.

`LiveFigure` is imported on first use: reading a stored figure (`ddpm_lite.live.packing`) needs
no widget library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddpm_lite.live.controls import Choice, Panel, Slider
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
from ddpm_lite.live.packing import decode, frame_at, state_of

if TYPE_CHECKING:
    from ddpm_lite.live.figure import LiveFigure

__all__ = [
    "Arrows",
    "Choice",
    "Curve",
    "Gaussians",
    "Heatmap",
    "Histogram",
    "Images",
    "LiveFigure",
    "Panel",
    "Points",
    "Readout",
    "Rule",
    "Slider",
    "decode",
    "frame_at",
    "state_of",
]


def __getattr__(name: str) -> Any:
    if name == "LiveFigure":
        from ddpm_lite.live.figure import LiveFigure

        return LiveFigure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
