"""Small live figures for the tests."""

from __future__ import annotations

import numpy as np

from ddpm_lite.live import (
    Choice,
    Curve,
    Gaussians,
    LiveFigure,
    Panel,
    Points,
    Readout,
    Rule,
    Slider,
)

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
