"""What a live figure can draw: controls, panels and marks.

A mark holds numbers (arrays, which may differ from frame to frame) and fixed text and style. In
labels, "_" lowers the letter or the {...} after it: "q(x_t | x_{t−1})". Every array is checked
here, where the author's own line stands in the traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddpm_lite.live.palette import PALETTE

Array = NDArray[np.float64]


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


@dataclass(frozen=True)
class Choice:
    """A drop-down list. values: strings or numbers; start: one of them (default: the first)."""

    values: Sequence[Any]
    label: str = ""
    start: Any = None
    kind: ClassVar[str] = "choice"


@dataclass(frozen=True)
class Panel:
    """One plot of a figure.

    xlim, ylim: the range shown (default: that of the marks over all frames). width: relative
    width. height: in pixels on a wide page. equal: one unit of x is as long as one of y.
    xscale, yscale: "linear" or "log" (curves, points and rules only).
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
        for name in ("xscale", "yscale"):
            if getattr(self, name) not in ("linear", "log"):
                raise ValueError(
                    f'Panel: {name} must be "linear" or "log", got {getattr(self, name)!r}'
                )
        for name in ("xlim", "ylim"):
            lim = getattr(self, name)
            if lim is not None and not (len(lim) == 2 and lim[0] < lim[1]):
                raise ValueError(f"Panel: {name} must be (low, high) with low < high, got {lim!r}")
            if lim is not None and lim[0] <= 0 and getattr(self, f"{name[0]}scale") == "log":
                raise ValueError(f"Panel: {name} must be positive on a log scale, got {lim!r}")


class Mark:
    """Base of all marks. `stored` names the number fields and the bits kept of each number."""

    kind: ClassVar[str]
    stored: ClassVar[dict[str, int]]

    def numbers(self, field: str) -> Array:
        """The array of one stored field."""
        values: Array = getattr(self, field)
        return values

    def style(self) -> dict[str, Any]:
        """Everything else: text and style, which must not change from frame to frame."""
        return {name: value for name, value in vars(self).items() if name not in self.stored}

    def _array(self, name: str, *ndims: int) -> Array:
        try:
            value = np.asarray(getattr(self, name), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{type(self).__name__}: {name} must be numbers ({error})") from None
        if value.ndim not in ndims:
            wanted = " or ".join(str(n) for n in ndims)
            raise ValueError(
                f"{type(self).__name__}: {name} must have {wanted} axes, got shape {value.shape}"
            )
        setattr(self, name, value)
        return value

    def _same(self, *names: str) -> None:
        shapes = {name: getattr(self, name).shape for name in names}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"{type(self).__name__}: shapes must be equal, got {shapes}")

    def _role(self) -> None:
        role = getattr(self, "role", "data")
        if role not in PALETTE:
            raise ValueError(
                f"{type(self).__name__}: role must be one of {', '.join(PALETTE)}, got {role!r}"
            )


@dataclass
class Curve(Mark):
    """A line. x: [n]; y: [n], or [k, n] for k lines of one style. NaN breaks the line.

    fill: shade down to y = 0. dash: True, False, or None (each further labelled line of a panel
    gets its own pattern). width: in pixels.
    """

    x: ArrayLike
    y: ArrayLike
    label: str = ""
    role: str = "data"
    fill: bool = False
    dash: bool | None = None
    width: float = 2
    kind: ClassVar[str] = "curve"
    stored: ClassVar[dict[str, int]] = {"x": 16, "y": 16}

    def __post_init__(self) -> None:
        self._role()
        x, y = self._array("x", 1), self._array("y", 1, 2)
        if x.shape[-1] != y.shape[-1]:
            raise ValueError(f"Curve: y must be [{len(x)}] or [k, {len(x)}] as x, got {y.shape}")


@dataclass
class Gaussians(Mark):
    """The density sum_k weights_k N(x; means_k, stds_k^2), drawn from its parameters alone.

    weights, means, stds: [k], or numbers for a single Gaussian. A std of 0 is drawn as a spike.
    """

    weights: ArrayLike
    means: ArrayLike
    stds: ArrayLike
    label: str = ""
    role: str = "truth"
    fill: bool = False
    dash: bool | None = None
    width: float = 2
    kind: ClassVar[str] = "gaussians"
    stored: ClassVar[dict[str, int]] = {"weights": 32, "means": 32, "stds": 32}

    def __post_init__(self) -> None:
        self._role()
        for name in self.stored:
            setattr(self, name, np.atleast_1d(np.asarray(getattr(self, name), dtype=np.float64)))
            self._array(name, 1)
        self._same("weights", "means", "stds")
        if not np.all(np.asarray(self.stds) >= 0):
            raise ValueError(f"Gaussians: stds must be at least 0, got {self.stds!r}")


@dataclass
class Histogram(Mark):
    """Bars. edges: [n + 1]; heights: [n]."""

    edges: ArrayLike
    heights: ArrayLike
    label: str = ""
    role: str = "data"
    kind: ClassVar[str] = "histogram"
    stored: ClassVar[dict[str, int]] = {"edges": 16, "heights": 16}

    def __post_init__(self) -> None:
        self._role()
        edges, heights = self._array("edges", 1), self._array("heights", 1)
        if len(edges) != len(heights) + 1:
            raise ValueError(
                f"Histogram: edges must be one more than heights, got {len(edges)} and "
                f"{len(heights)} (np.histogram returns heights, edges)"
            )


@dataclass
class Points(Mark):
    """Dots. x, y: [n] (one of them may be a number). size: radius in pixels."""

    x: ArrayLike
    y: ArrayLike
    label: str = ""
    role: str = "data"
    size: float = 2
    kind: ClassVar[str] = "points"
    stored: ClassVar[dict[str, int]] = {"x": 16, "y": 16}

    def __post_init__(self) -> None:
        self._role()
        x, y = self._array("x", 0, 1), self._array("y", 0, 1)
        if x.ndim != y.ndim or x.ndim == 0:
            n = max(x.size, y.size)
            self.x, self.y = (np.broadcast_to(v, n) if v.ndim == 0 else v for v in (x, y))
        self._same("x", "y")


@dataclass
class Images(Mark):
    """Grey pictures. pixels: [H, W], or [R, C, H, W] for a grid; vmin is black, vmax white.

    gap: pixels of the picture between two cells. captions: C texts, one under each column.
    rows: R texts, one at the left of each row. A panel with images holds nothing else.
    """

    pixels: ArrayLike
    vmin: float = -1
    vmax: float = 1
    gap: int = 1
    captions: Sequence[str] | None = None
    rows: Sequence[str] | None = None
    kind: ClassVar[str] = "images"
    stored: ClassVar[dict[str, int]] = {"pixels": 8}

    def __post_init__(self) -> None:
        pixels = self._array("pixels", 2, 4)
        if pixels.ndim == 2:
            self.pixels = pixels = pixels[None, None]
        for name, n, what in (("captions", 1, "columns"), ("rows", 0, "rows")):
            texts = getattr(self, name)
            if texts is not None:
                setattr(self, name, [str(text) for text in texts])
                if len(texts) != pixels.shape[n]:
                    raise ValueError(
                        f"Images: {name} must be {pixels.shape[n]} texts, one for each of the "
                        f"{what}, got {len(texts)}"
                    )


@dataclass
class Heatmap(Mark):
    """Coloured cells. z: [ny, nx]; x: [nx], y: [ny]: cell centres, evenly spaced and rising.

    z runs from vmin to vmax (clipped). diverging: two-sided colours with vmin = -vmax in mind.
    """

    z: ArrayLike
    x: ArrayLike
    y: ArrayLike
    vmin: float
    vmax: float
    diverging: bool = True
    label: str = ""
    kind: ClassVar[str] = "heatmap"
    stored: ClassVar[dict[str, int]] = {"z": 8, "x": 32, "y": 32}

    def __post_init__(self) -> None:
        z = self._array("z", 2)
        for name, n in (("x", z.shape[1]), ("y", z.shape[0])):
            centres = self._array(name, 1)
            steps = np.diff(centres)
            if len(centres) != n or n < 2 or not np.allclose(steps, steps[0]) or steps[0] <= 0:
                raise ValueError(
                    f"Heatmap: {name} must be {n} evenly spaced, rising cell centres for z of "
                    f"shape {z.shape}, got {len(centres)} numbers"
                )
        if not self.vmin < self.vmax:
            raise ValueError(f"Heatmap: vmin must be below vmax, got {self.vmin} and {self.vmax}")


@dataclass
class Arrows(Mark):
    """Arrows from (x, y) to (x + dx, y + dy), all [n], in the units of the axes."""

    x: ArrayLike
    y: ArrayLike
    dx: ArrayLike
    dy: ArrayLike
    role: str = "model"
    label: str = ""
    kind: ClassVar[str] = "arrows"
    stored: ClassVar[dict[str, int]] = {"x": 16, "y": 16, "dx": 16, "dy": 16}

    def __post_init__(self) -> None:
        self._role()
        for name in self.stored:
            setattr(self, name, np.ravel(np.asarray(getattr(self, name), dtype=np.float64)))
        self._same("x", "y", "dx", "dy")


@dataclass
class Rule(Mark):
    """A line across the panel: vertical at x, or horizontal at y (a number, or [n])."""

    x: InitVar[ArrayLike | None] = None
    y: InitVar[ArrayLike | None] = None
    label: str = ""
    role: str = "truth"
    dash: bool | None = None
    vertical: bool = field(init=False)
    at: ArrayLike = field(init=False)
    kind: ClassVar[str] = "rule"
    stored: ClassVar[dict[str, int]] = {"at": 32}

    def __post_init__(self, x: ArrayLike | None, y: ArrayLike | None) -> None:
        self._role()
        if (x is None) == (y is None):
            raise ValueError("Rule: give x (a vertical line) or y (a horizontal one), not both")
        self.vertical = y is None
        self.at = np.atleast_1d(np.asarray(x if self.vertical else y, dtype=np.float64))
        self._array("at", 1)


@dataclass
class Readout(Mark):
    """A number in words under the figure: `label value`, with `digits` decimals."""

    label: str
    value: Any
    digits: int = 3
    kind: ClassVar[str] = "readout"
    stored: ClassVar[dict[str, int]] = {"value": 32}

    def __post_init__(self) -> None:
        self.value = np.asarray(self.value, dtype=np.float64)
        if self.value.size != 1:
            raise ValueError(f"Readout: value must be one number, got shape {self.value.shape}")
        self.value = self.value.reshape(1)
