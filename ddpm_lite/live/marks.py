"""What a live figure can draw: its marks.

A mark holds numbers (arrays, which may differ from frame to frame) and fixed text and style. In
labels, "_" lowers the letter or the {...} after it: "q(x_t | x_{t−1})". Arrays are copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ddpm_lite.live import checks
from ddpm_lite.live.checks import Array


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
        value = checks.numbers(type(self).__name__, name, getattr(self, name), *ndims)
        setattr(self, name, value)
        return value

    def _same(self, *names: str) -> None:
        shapes = {name: getattr(self, name).shape for name in names}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"{type(self).__name__}: shapes must be equal, got {shapes}")


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
        checks.fields(self)
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
        checks.fields(self)
        for name in self.stored:
            setattr(self, name, np.atleast_1d(self._array(name, 0, 1)))
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
        checks.fields(self)
        edges, heights = self._array("edges", 1), self._array("heights", 1)
        if len(edges) != len(heights) + 1:
            raise ValueError(
                f"Histogram: edges must be one more than heights, got {len(edges)} and "
                f"{len(heights)} (np.histogram returns heights, edges)"
            )
        if np.isnan(edges).any() or np.any(np.diff(edges) < 0):
            raise ValueError("Histogram: edges must rise (NaN heights leave a gap)")


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
        checks.fields(self)
        x, y = self._array("x", 0, 1), self._array("y", 0, 1)
        if x.ndim != y.ndim or x.ndim == 0:
            n = x.size if x.ndim else y.size
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
        checks.fields(self)
        pixels = self._array("pixels", 2, 4)
        if pixels.ndim == 2:
            self.pixels = pixels = pixels[None, None]
        if not pixels.size:
            raise ValueError(f"Images: pixels are none, got shape {pixels.shape}")
        for name, n, what in (("captions", 1, "columns"), ("rows", 0, "rows")):
            if getattr(self, name) is not None:
                count = pixels.shape[n]
                texts = checks.texts("Images", name, getattr(self, name), count, what)
                setattr(self, name, texts)
        _rising_range(self)


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
        checks.fields(self)
        z = self._array("z", 2)
        for name, n in (("x", z.shape[1]), ("y", z.shape[0])):
            centres = self._array(name, 1)
            steps = np.diff(centres)
            even = len(centres) == n > 1 and np.allclose(steps, steps[0], rtol=1e-3, atol=0)
            if not even or steps[0] <= 0:
                raise ValueError(
                    f"Heatmap: {name} must be {n} evenly spaced, rising cell centres for z of "
                    f"shape {z.shape}, got {len(centres)} numbers"
                )
        _rising_range(self)


def _rising_range(mark: Images | Heatmap) -> None:
    if not mark.vmin < mark.vmax:
        raise ValueError(
            f"{type(mark).__name__}: vmin must be below vmax, got {mark.vmin} and {mark.vmax}"
        )


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
        checks.fields(self)
        for name in self.stored:
            setattr(self, name, np.ravel(self._array(name)))
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
        checks.fields(self)
        if (x is None) == (y is None):
            raise ValueError("Rule: give x (a vertical line) or y (a horizontal one), not both")
        name, at = ("y", y) if x is None else ("x", x)
        self.vertical = name == "x"
        self.at = np.atleast_1d(checks.numbers("Rule", name, at, 0, 1))


@dataclass
class Readout(Mark):
    """A number in words under the figure: `label value`, with `digits` decimals."""

    label: str
    value: Any
    digits: int = 3
    kind: ClassVar[str] = "readout"
    stored: ClassVar[dict[str, int]] = {"value": 32}

    def __post_init__(self) -> None:
        checks.fields(self)
        value = self._array("value")
        if value.size != 1:
            raise ValueError(f"Readout: value must be one number, got shape {value.shape}")
        self.value = value.reshape(1)
