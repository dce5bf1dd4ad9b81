"""What surrounds the marks of a live figure: the controls, which move it, and its panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ddpm_lite.live import checks


@dataclass(frozen=True)
class Slider:
    """A range input over a list of numbers.

    values: the numbers, in the order of the track. start: one of them (default: the first).
    format: a format such as ".3f" for the number shown. play: True adds a button that runs to
    the end; "bounce" runs there and back until paused. seconds: the time of one run.
    """

    values: Sequence[float]
    label: str = ""
    unit: str = ""
    start: float | None = None
    play: bool | str = False
    format: str = ""
    seconds: float = 6.0
    kind: ClassVar[str] = "slider"

    def __post_init__(self) -> None:
        checks.fields(self)


@dataclass(frozen=True)
class Choice:
    """A drop-down list. values: strings or numbers; start: one of them (default: the first)."""

    values: Sequence[Any]
    label: str = ""
    start: Any = None
    kind: ClassVar[str] = "choice"

    def __post_init__(self) -> None:
        checks.fields(self)


@dataclass(frozen=True)
class Button:
    """Draws again, of a `NetworkFigure`: at each press its input is fresh standard normal noise.

    shape: of the noise. seed: of the first drawing; each press takes the next one, and
    `noise.normals(seed, shape)` is what the page makes of it.
    """

    shape: Sequence[int]
    label: str = "Draw again"
    seed: int = 1
    kind: ClassVar[str] = "button"

    def __post_init__(self) -> None:
        checks.fields(self)
        shape = [checks.number("Button", "a size of shape", n, 1, 1e6, int) for n in self.shape]
        object.__setattr__(self, "shape", shape)


@dataclass(frozen=True)
class Point:
    """A place in a panel, of a `NetworkFigure`: its input is the [x, y] that the reader drags.

    panel: the panel's name. start: (x, y) within its limits. step: what an arrow key moves.
    """

    panel: str
    start: tuple[float, float] = (0.0, 0.0)
    label: str = ""
    step: float = 0.1
    kind: ClassVar[str] = "point"

    def __post_init__(self) -> None:
        checks.fields(self)
        pair = checks.items(self.start)
        if pair is None or len(pair) != 2:
            raise ValueError(f"Point: start must be (x, y), got {self.start!r}")
        place = tuple(checks.number("Point", "start", v) for v in pair)
        object.__setattr__(self, "start", place)


@dataclass(frozen=True)
class Pad:
    """A square to draw on, of a `NetworkFigure`: white ink on black, by mouse, finger or keyboard.

    Gives the walk of a network the inputs ``known``, [size, size] in [-1, 1], and ``mask``, 1 on
    the ink and close to it.
    """

    size: int = 28
    label: str = "Draw here"
    kind: ClassVar[str] = "pad"

    def __post_init__(self) -> None:
        checks.fields(self)
        checks.number("Pad", "size", self.size, 4, 128, int)


@dataclass(frozen=True)
class Panel:
    """One plot of a figure.

    xlim, ylim: the range shown (default: that of the marks over all frames). width: relative
    width. height: in pixels on a wide page, 80 to 2000. equal: one unit of x is as long as one of
    y. xscale, yscale: "linear" or "log" (curves, points and rules only).
    """

    xlabel: str = ""
    ylabel: str = ""
    xlim: tuple[float, float] | None = None
    ylim: tuple[float, float] | None = None
    width: float = 1.0
    height: int = 260
    title: str = ""
    equal: bool = False
    xscale: str = "linear"
    yscale: str = "linear"

    def __post_init__(self) -> None:
        checks.fields(self)
        for name, scale in (("xlim", self.xscale), ("ylim", self.yscale)):
            lim = getattr(self, name)
            if lim is not None:
                lim = checks.limits("Panel", name, lim, log=scale == "log")
                object.__setattr__(self, name, lim)
