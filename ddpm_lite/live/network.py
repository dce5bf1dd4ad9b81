"""NetworkFigure: a live figure one of whose marks a network draws, in the reader's page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ddpm_lite.live import checks, stored
from ddpm_lite.live.checks import Array
from ddpm_lite.live.controls import Button, Choice, Pad, Panel, Point, Slider
from ddpm_lite.live.figure import Frame, LiveFigure
from ddpm_lite.live.packing import pack_field
from ddpm_lite.live.scripts import module

_DRAWS = {
    "images": "pixels",
    "points": "x",
    "curve": "y",
    "heatmap": "z",
}  # the field that the network gives
_WALK = {"table", "scale", "clip", "x"}  # what a walk takes beside the network's own inputs
_HANDS = (Button, Point, Pad)  # controls that the reader's page alone knows

Ask = Callable[..., Mapping[str, Any]]


class NetworkFigure(LiveFigure):
    """A live figure one of whose marks a network draws, in the reader's page, on a click.

    frame: as in `LiveFigure`; what it returns for the network's own mark stands there before the
    click, as Python's network draws it. ask: called as frame is; what goes into the network,
    {input: number or array}. With a ``"table"`` among them (rows as of `page.walk_table`) the
    network walks from noise x over these rows, with ``"scale"`` for the guidance and ``"clip"`` for
    the limit of x_0_hat (1 if none is given); else it is called once. network: its name, of
    `stored.names()`. into: the panel whose first mark it draws (Images, Points, whose x it is,
    Curve or Heatmap; default: the first panel).

    Controls are those of `LiveFigure`, and: a Button, a Point, a Pad. The keyword of a Button or a
    Point names the input that it gives. Raises as `LiveFigure` does, and ValueError for a network,
    an input or a panel that is not there.
    """

    _esm = module(network=True)
    _alone = True

    def __init__(
        self,
        frame: Callable[..., Frame],
        ask: Ask,
        *,
        network: str,
        title: str,
        alt: str,
        into: str | None = None,
        panels: dict[str, Panel] | None = None,
        **controls: Slider | Choice | Button | Point | Pad,
    ) -> None:
        self._hands = {k: c for k, c in controls.items() if isinstance(c, _HANDS)}
        self._asked = ask, checks.text("NetworkFigure", "network", network), into
        grid: dict[str, Any] = {k: c for k, c in controls.items() if k not in self._hands}
        super().__init__(frame, title=title, alt=alt, panels=panels, **grid)
        self.on_msg(_send_network)

    def _finish(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The figure's spec with what the page must know of the network."""
        ask, name, into = self._asked
        program = stored.program(name)
        panel = _panel(spec["panels"], into)
        points = {
            k: c.start if isinstance(c, Point) else 0.0
            for k, c in self._hands.items()
            if not isinstance(c, Pad)
        }
        asked = self._ask_all(ask)
        walks = "table" in asked
        _check_inputs({*asked, *points}, set(program["inputs"]), walks)
        _check_hands(self._hands, walks, spec["panels"])
        columns = asked.pop("table", None)
        return {
            **spec,
            "network": {
                "name": name,
                "megabytes": stored.megabytes(name),
                "panel": panel,
                "field": _DRAWS[spec["panels"][panel]["marks"][0]["kind"]],
                "controls": [_hand(k, c) for k, c in self._hands.items()],
                "columns": columns and columns[0],
                "table": columns and self._pack(columns[1], 64),
                "inputs": {k: self._pack(v, 32) for k, v in asked.items()},
            },
        }

    def _pack(self, values: Array, bits: int) -> dict[str, Any]:
        return pack_field(values, [len(values) for values in self._grid], bits)

    def _ask_all(self, ask: Ask) -> dict[str, Any]:
        """What goes into the network in each frame, {input: [F, *shape]}, and the tables."""
        frames = [
            _inputs(ask(**dict(zip(self._names, combination, strict=True))))
            for combination in itertools.product(*self._grid)
        ]
        names = set(frames[0])
        for i, inputs in enumerate(frames):
            if set(inputs) != names:
                raise ValueError(
                    f"NetworkFigure: ask must return the same inputs at each position; the first "
                    f"has {sorted(names)}, {self._where(i)} has {sorted(inputs)}"
                )
        asked: dict[str, Any] = {k: self._stack(k, frames) for k in sorted(names - {"table"})}
        if "table" in names:
            asked["table"] = _tables([inputs["table"] for inputs in frames])
        return asked

    def _stack(self, name: str, frames: list[dict[str, Any]]) -> Array:
        shapes = [inputs[name].shape for inputs in frames]
        other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
        if other is not None:
            raise ValueError(
                f"NetworkFigure: {name} must have the same shape at each position; the first has "
                f"{shapes[0]}, {self._where(other)} has {shapes[other]}"
            )
        return np.stack([inputs[name] for inputs in frames])

    def to_html(self) -> str:
        """The figure for a static page; the build finds there which network it needs."""
        name = self.spec["network"]["name"]
        html = super().to_html()
        return html.replace('class="lf-static"', f'class="lf-static" data-network="{name}"', 1)

    def __repr__(self) -> str:
        return f"NetworkFigure({self.spec.get('title')!r}, {self.spec['network']['name']!r})"


def _send_network(figure: NetworkFigure, content: Any, buffers: Any) -> None:
    """The network for a page of JupyterLab, which asks for it on the reader's click."""
    name = figure.spec["network"]["name"]
    if isinstance(content, dict) and content.get("network") == name:
        parts = {"network": name, "program": stored.program(name), "source": stored.source()}
        figure.send(parts, [stored.weights(name), stored.KERNEL.read_bytes()])


def _inputs(asked: Any) -> dict[str, Any]:
    """What `ask` returned, as arrays; a table as it is."""
    if not isinstance(asked, Mapping) or not all(isinstance(k, str) for k in asked):
        raise TypeError(f"NetworkFigure: ask must return {{input: numbers}}, got {asked!r}")
    return {
        k: v if k == "table" else checks.numbers("NetworkFigure", k, v) for k, v in asked.items()
    }


def _tables(tables: list[Any]) -> tuple[list[str], Array]:
    """The columns of the walks' tables, and their numbers [F, rows, columns], NaN where shorter."""
    rows = [checks.items(table) or [] for table in tables]
    if not all(r and all(isinstance(row, Mapping) for row in r) for r in rows):
        raise ValueError("NetworkFigure: table must be rows as `page.walk_table` makes them")
    columns = list(rows[0][0])
    longest = max(len(r) for r in rows)
    numbers = np.full((len(rows), longest, len(columns)), math.nan)
    for i, r in enumerate(rows):
        numbers[i, : len(r)] = [[float(row[c]) for c in columns] for row in r]
    return columns, numbers


def _panel(panels: list[dict[str, Any]], into: str | None) -> int:
    """Where the panel is that the network draws in."""
    names = [panel["name"] for panel in panels]
    if into is not None and into not in names:
        raise ValueError(f"NetworkFigure: into={into!r} is no panel; there are {names}")
    index = names.index(into) if into is not None else 0
    marks = [mark["kind"] for mark in panels[index]["marks"]]
    if not marks or marks[0] not in _DRAWS:
        raise ValueError(
            f"NetworkFigure: the first mark of panel {names[index]!r} must be Images, Points, "
            f"a Curve or a Heatmap, which the network draws; its marks are {marks}"
        )
    return index


def _check_inputs(given: set[str], needed: set[str], walks: bool) -> None:
    """Raise ValueError for an input that the network lacks, or has not."""
    extra = given - needed - (_WALK if walks else set())
    missing = needed - given - ({"t", "x_t"} if walks else set())
    for names, what in ((extra, "does not take"), (missing, "needs")):
        if names:
            raise ValueError(
                f"NetworkFigure: the network {what} {', '.join(sorted(names))}; its inputs are "
                f"{', '.join(sorted(needed))} (a walk's x is a Button's noise)"
            )


def _check_hands(hands: dict[str, Any], walks: bool, panels: list[dict[str, Any]]) -> None:
    """Raise ValueError for buttons, points and pads that a figure cannot have."""
    buttons = [k for k, c in hands.items() if isinstance(c, Button)]
    if len(buttons) > 1:
        raise ValueError(f"NetworkFigure: one Button at most, got {', '.join(buttons)}")
    if walks and buttons != ["x"]:
        raise ValueError("NetworkFigure: a walk starts from x=Button(shape=...), its noise")
    plots = [p["name"] for p in panels if all(m["kind"] != "images" for m in p["marks"])]
    for name, control in hands.items():
        if isinstance(control, Point) and control.panel not in plots:
            raise ValueError(
                f"NetworkFigure: the panel of {name} must be one with axes, of {plots}, "
                f"got {control.panel!r}"
            )
        if isinstance(control, Pad) and not walks:
            raise ValueError(f"NetworkFigure: {name} is a Pad, which only a walk can complete")


def _hand(name: str, control: Any) -> dict[str, Any]:
    """A Button, a Point or a Pad, as the page knows it."""
    told = {"kind": control.kind, "name": name, **vars(control), "label": control.label or name}
    if isinstance(control, Button):
        told["count"] = math.prod(told.pop("shape"))
    if isinstance(control, Point):
        told["start"] = list(control.start)
    return told
