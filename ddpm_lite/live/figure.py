"""LiveFigure: every frame computed in Python, moved by sliders wherever it is shown."""

from __future__ import annotations

import html
import itertools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import traitlets

from ddpm_lite.live import checks, palette
from ddpm_lite.live.axes import minus
from ddpm_lite.live.checks import Array
from ddpm_lite.live.controls import Choice, Panel, Slider
from ddpm_lite.live.marks import Mark
from ddpm_lite.live.packing import frame_at
from ddpm_lite.live.panels import pack_panel
from ddpm_lite.live.scripts import module, stylesheet
from ddpm_lite.live.still import still_png

BUDGET = 300_000  # bytes of a figure's text/html, of which
STILL = 40_000  # are left to the still picture
MOST_FRAMES = 100_000

Frame = dict[str, list[Mark]] | list[Mark]


class LiveFigure(anywidget.AnyWidget):
    """A figure with controls, alive in Jupyter and on the static page.

    frame: called once for every point of the grid of the controls' values, by keyword; returns
    {panel: [marks]}, or [marks] if there is one panel. title: the caption. alt: what there is to
    see, for readers who cannot. panels: {name: Panel}. Every other keyword is a control, a Slider
    or a Choice. `pos` holds the positions of the controls (indices into their values) and may be
    observed, linked and set; `values` and `set` speak in values.

    Raises ValueError for frames that differ in more than numbers, and for a figure of more than
    300 kB; TypeError for a control that is not one.
    """

    _esm = module()
    _css = stylesheet(palette.css())
    _alone = False  # whether it may have neither a Slider nor a Choice
    spec = traitlets.Dict().tag(sync=True)
    pos = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self,
        frame: Callable[..., Frame],
        *,
        title: str,
        alt: str,
        panels: dict[str, Panel] | None = None,
        **controls: Slider | Choice,
    ) -> None:
        _check_controls(controls, self._alone)
        for name, words in (("title", title), ("alt", alt)):
            checks.text("LiveFigure", name, words)
        panels = _checked_panels(panels)
        self._names = list(controls)
        self._grid = [_values(name, control) for name, control in controls.items()]
        pairs = list(zip(controls.items(), self._grid, strict=True))
        start = [0 if c.start is None else _index(n, v, c.start) for (n, c), v in pairs]
        sizes = [len(values) for values in self._grid]
        texts = [_control(name, control, values) for (name, control), values in pairs]
        frames = self._frames(frame, panels)
        spec = {
            "title": title,
            "alt": alt,
            "controls": texts,
            "panels": [
                pack_panel(k, panel, [f.get(k, []) for f in frames], sizes, self._where)
                for k, panel in panels.items()
            ],
        }
        spec = self._finish(spec)
        _within_budget(spec)
        super().__init__(spec=spec, pos=start)

    def _finish(self, spec: dict[str, Any]) -> dict[str, Any]:
        """What a kind of figure adds to its spec."""
        return spec

    def _frames(
        self, frame: Callable[..., Frame], panels: dict[str, Panel]
    ) -> list[dict[str, list[Mark]]]:
        count = math.prod(len(values) for values in self._grid)
        if count > MOST_FRAMES:
            raise ValueError(
                f"LiveFigure: {count} frames; at most {MOST_FRAMES}: give the controls fewer values"
            )
        frames: list[dict[str, list[Mark]]] = []
        for combination in itertools.product(*self._grid):
            drawn = frame(**dict(zip(self._names, combination, strict=True)))
            frames.append(_drawn(drawn, panels))
        return frames

    def _where(self, i: int) -> str:
        """The control values of frame i, as text."""
        combination = next(itertools.islice(itertools.product(*self._grid), i, None))
        return ", ".join(f"{n}={v!r}" for n, v in zip(self._names, combination, strict=True))

    @traitlets.validate("pos")
    def _check_pos(self, proposal: Any) -> list[int]:
        pos = list(proposal["value"])
        sizes = [len(values) for values in self._grid]
        if len(pos) != len(sizes) or any(not 0 <= p < n for p, n in zip(pos, sizes, strict=True)):
            raise traitlets.TraitError(
                f"pos must be {len(sizes)} indices below {sizes}, got {pos}; "
                "use fig.set(name=value) to give values"
            )
        return pos

    @property
    def values(self) -> dict[str, Any]:
        """What is chosen now, by name: {"t": 250, "schedule": "cosine"}."""
        return {
            name: values[p]
            for name, values, p in zip(self._names, self._grid, self.pos, strict=True)
        }

    def set(self, **values: Any) -> None:
        """Move controls: fig.set(t=500). Raises ValueError for what is not on the control."""
        self.pos = self._pos(values)

    def frame_data(self, **values: Any) -> dict[str, list[dict[str, Array]]]:
        """The numbers that are drawn, {panel: [{field: array}]}, now or at the values given."""
        return frame_at(self.state, self._pos(values))

    def _pos(self, values: dict[str, Any]) -> list[int]:
        pos = list(self.pos)
        for name, value in values.items():
            if name not in self._names:
                raise ValueError(f"no control {name!r}; there are {', '.join(self._names)}")
            k = self._names.index(name)
            pos[k] = _index(name, self._grid[k], value)
        return pos

    @property
    def state(self) -> dict[str, Any]:
        """All that the page needs, as JSON-able data: what `decode` and `frame_at` read."""
        return {"spec": self.spec, "pos": list(self.pos)}

    def __repr__(self) -> str:
        return f"LiveFigure({self.spec.get('title')!r}, {', '.join(self._names)})"

    def to_html(self) -> str:
        """The figure for a static page: a still picture and the state; the script is the page's."""
        state = _json(self.state, sort_keys=True).replace("<", "\\u003c")
        title, alt = html.escape(self.spec["title"]), html.escape(self.spec["alt"])
        still = f"data:image/png;base64,{still_png(self.state)}"
        return (
            f'<div class="lf-static"><p class="lf-still-title"><b>{title}</b></p>'
            f'<img class="lf-still" alt="{alt}" src="{still}">'
            f'<script type="application/json" class="lf-state">{state}</script></div>'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, "text/plain": repr(self), "text/html": self.to_html()}, metadata


def _check_controls(controls: dict[str, Any], alone: bool) -> None:
    if not controls and not alone:
        raise TypeError("LiveFigure: give at least one control, such as t=Slider(range(10))")
    for name, control in controls.items():
        if not isinstance(control, Slider | Choice):
            raise TypeError(
                f"LiveFigure: {name} must be a Slider or a Choice, got {type(control).__name__}"
            )


def _checked_panels(panels: Any) -> dict[str, Panel]:
    panels = {"main": Panel()} if panels is None or panels == {} else panels
    named = isinstance(panels, dict) and all(isinstance(p, Panel) for p in panels.values())
    if not named:
        raise TypeError(f'LiveFigure: panels must be {{"name": Panel(...), ...}}, got {panels!r}')
    return {checks.text("LiveFigure", "a panel's name", k): p for k, p in panels.items()}


def _drawn(drawn: Any, panels: dict[str, Panel]) -> dict[str, list[Mark]]:
    """What `frame` returned, as {panel: [marks]}."""
    if not isinstance(drawn, dict):
        if len(panels) > 1:
            raise ValueError("LiveFigure: with several panels, frame must return {panel: [marks]}")
        drawn = {next(iter(panels)): drawn}
    unknown = set(drawn) - set(panels)
    if unknown:
        raise ValueError(
            f"LiveFigure: frame returned panel {min(map(repr, unknown))}; "
            f"panels are {', '.join(map(repr, panels))}"
        )
    listed = {}
    for name, marks in drawn.items():
        found = checks.items(marks)
        if found is None or not all(isinstance(mark, Mark) for mark in found):
            raise TypeError(
                f"LiveFigure: frame must return a list of marks for panel {name!r}, got {marks!r}"
            )
        listed[name] = found
    return listed


def _values(name: str, control: Slider | Choice) -> list[Any]:
    try:
        values = [checks.plain(v) for v in control.values]
        once = len(set(values)) == len(values)
    except TypeError as error:
        raise ValueError(
            f"LiveFigure: the values of {name} must be a list of numbers or texts ({error})"
        ) from None
    if not values:
        raise ValueError(f"LiveFigure: {name} has no values")
    if isinstance(control, Slider) and not all(
        isinstance(v, int | float) and not math.isnan(v) for v in values
    ):
        raise ValueError(f"LiveFigure: the values of slider {name} must be numbers; use a Choice")
    if not once:
        raise ValueError(f"LiveFigure: {name} has a value twice")
    return values


def _index(name: str, values: Sequence[Any], value: Any) -> int:
    value = checks.plain(value)
    for i, v in enumerate(values):
        same = v == value
        if isinstance(v, float) and isinstance(value, int | float):
            same = same or math.isclose(v, value, rel_tol=1e-9, abs_tol=1e-12)
        if same is True:  # an array is no value, and compares as one
            return i
    shown = ", ".join(map(repr, values if len(values) < 12 else [*values[:5], "...", values[-1]]))
    raise ValueError(f"{name}={value!r} is not a value of the control; it has {shown}")


def _control(name: str, control: Slider | Choice, values: Sequence[Any]) -> dict[str, Any]:
    plain = {"name": name, "label": control.label or name, "kind": control.kind}
    if isinstance(control, Choice):
        return plain | {"values": [checks.text("Choice", "a value", str(v)) for v in values]}
    style = control.format
    try:
        text = [minus(format(v, style or ("d" if isinstance(v, int) else ".4g"))) for v in values]
    except ValueError as error:
        raise ValueError(
            f"LiveFigure: format {style!r} does not fit the values of slider {name} ({error})"
        ) from None
    play = {"play": control.play, "seconds": control.seconds} if control.play else {}
    return plain | {"values": text, "unit": control.unit} | play


def _json(data: Any, **options: Any) -> str:
    """JSON as a browser reads it: a NaN would stop the script of the whole page."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False, **options)


def _within_budget(spec: dict[str, Any]) -> None:
    """Raise ValueError, naming the heaviest fields, if the figure is too big for a page."""
    size = len(_json(spec).encode())
    if size <= BUDGET - STILL:
        return
    heavy = sorted(
        (
            (len(packed["data"]), f"{panel['name']}/{j} {mark['kind']}.{field}")
            for panel in spec["panels"]
            for j, mark in enumerate(panel["marks"])
            for field, packed in mark["fields"].items()
        ),
        reverse=True,
    )
    most = ", ".join(f"{text} {n / 1000:.0f} kB" for n, text in heavy[:3])
    raise ValueError(
        f"LiveFigure: {size / 1000:.0f} kB of numbers, at most {(BUDGET - STILL) / 1000:.0f}. The "
        f"heaviest: {most}. Give the controls fewer values or the marks fewer points, draw "
        "densities with Gaussians, keep random numbers the same in every frame."
    )
