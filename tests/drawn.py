"""What a live figure in a browser draws, against the numbers that its page stores.

The numbers are decoded here once more from the page's own JSON, independently of ddpm_lite and of
the script that draws them.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page

FIGURES = ".lf:not([data-network])"  # a network's figure has tests of its own
LOOK = """(all, k) => all.filter((_, i) => k === null || i === k).map((lf) => ({
  pos: [...lf.querySelectorAll(".lf-control :is(input, select)")].map((c) => Number(c.value)),
  said: [...lf.querySelectorAll(".lf-control :is(input, select)")].map(
    (c) => c.getAttribute("aria-valuetext") ?? c.selectedOptions[0].textContent),
  readouts: [...lf.querySelectorAll(".lf-readout output")].map((o) => o.textContent),
  panels: [...lf.querySelectorAll(".lf-panel")].map((panel) => {
    const svg = panel.querySelector(".lf-svg"), inner = panel.querySelector(".lf-inner");
    const box = inner?.getBoundingClientRect(), number = (k) => Number(inner.getAttribute(k));
    const [, , width] = svg?.getAttribute("viewBox").split(" ").map(Number) ?? [];
    return {
      w: inner && number("width"), h: inner && number("height"),
      scale: svg && svg.getBoundingClientRect().width / width,
      marks: [...panel.querySelectorAll("[data-mark]")].map((m) => {
        const at = m.getBoundingClientRect(), o = svg?.getBoundingClientRect();
        return m.tagName === "CANVAS"
          ? { mark: +m.dataset.mark, png: m.toDataURL(), box: svg && [
              at.left - o.left - number("x"), at.top - o.top - number("y"), at.width, at.height] }
          : { mark: +m.dataset.mark, d: m.querySelector(".lf-line").getAttribute("d") };
      }),
    };
  }),
  maps: Object.fromEntries(["diverging", "sequential"].map(
    (name) => [name, getComputedStyle(lf).getPropertyValue("--lf-" + name).trim().split(",")])),
}))"""


def look(page: Page, k: int | None = None) -> Any:
    """What figure k shows now (all figures: k = None)."""
    seen = page.locator(FIGURES).evaluate_all(LOOK, k)
    return seen if k is None else seen[0]


def drawing(seen: dict[str, Any]) -> str:
    """Everything drawn in a figure, to see whether it changed."""
    return json.dumps([seen["panels"], seen["readouts"]])


def numbers(packed: dict[str, Any], sizes: list[int], pos: list[int]) -> np.ndarray:
    """One field at one position, decoded from the JSON of the page."""
    dtype = {8: "<u1", 16: "<u2", 32: "<f4", 64: "<f8"}[packed["bits"]]
    shape = [sizes[a] for a in packed["axes"]] + packed["shape"]
    codes = np.frombuffer(base64.b64decode(packed["data"]), dtype).reshape(shape)
    codes = codes[tuple(pos[a] for a in packed["axes"])].astype(float)
    if packed["bits"] >= 32:
        return codes
    top = 2 ** packed["bits"] - 2
    values = packed["lo"] + codes / top * (packed["hi"] - packed["lo"])
    return np.where(codes > top, np.nan, values)


def check_drawn(state: dict[str, Any], seen: dict[str, Any]) -> None:
    """Assert that a figure shows the numbers stored for its position, to one pixel."""
    spec, pos = state["spec"], seen["pos"]
    sizes = [len(control["values"]) for control in spec["controls"]]
    readouts = iter(seen["readouts"])
    for panel, drawn in zip(spec["panels"], seen["panels"], strict=True):
        if drawn["scale"] is not None:
            assert abs(drawn["scale"] - 1) < 0.01, "a unit of the drawing is one pixel"
        shown = {m["mark"]: m for m in drawn["marks"]}
        plotted = [m for m in panel["marks"] if m["kind"] != "readout"]
        assert len(shown) == len(plotted)
        for i, mark in enumerate(plotted):
            v = {name: numbers(f, sizes, pos) for name, f in mark["fields"].items()}
            where = (
                f"{spec['title']!r}, panel {panel['name']!r}, mark {i} ({mark['kind']}) at {pos}"
            )
            CHECKS[mark["kind"]](mark, v, shown[i], Scale(panel, drawn), seen["maps"], where)
        for mark in panel["marks"]:
            if mark["kind"] == "readout":
                value = numbers(mark["fields"]["value"], sizes, pos)[0]
                text = float(next(readouts).replace("−", "-"))
                near = 0.51 * 10.0 ** -mark["digits"] if abs(value) < 1e6 else 0
                small = 0 < abs(value) < 0.5 * 10.0 ** -mark["digits"]
                assert math.isclose(text, value, rel_tol=0.06 * (small or not near), abs_tol=near)


class Scale:
    """From the units of the axes to pixels of the plot."""

    def __init__(self, panel: dict[str, Any], drawn: dict[str, Any]) -> None:
        self.panel, self.w, self.h = panel, drawn["w"], drawn["h"]

    def x(self, x: Any) -> Any:
        low, high = self.panel["xlim"]
        return np.clip((np.asarray(x) - low) / (high - low) * self.w, -1e5, 1e5)

    def y(self, y: Any) -> Any:
        low, high = self.panel["ylim"]
        return np.clip(self.h - (np.asarray(y) - low) / (high - low) * self.h, -1e5, 1e5)


def points(d: str) -> np.ndarray:
    """The M and L points of a path, [n, 2]."""
    found = re.findall(r"[ML](-?[\d.]+)[ ,](-?[\d.]+)", d)
    return np.array(found, dtype=float).reshape(-1, 2)


def near(drawn: np.ndarray, wanted: np.ndarray, where: str) -> None:
    assert drawn.shape == wanted.shape, f"{where}: {len(drawn)} points drawn, not {len(wanted)}"
    if wanted.size:
        off = np.abs(drawn - wanted).max()
        assert off <= 1, f"{where}: {off:.1f} pixels off"


def check_curve(mark, v, shown, s, maps, where):
    xy = [np.stack([s.x(v["x"]), s.y(y)], 1) for y in np.atleast_2d(v["y"])]
    wanted = np.concatenate(xy)
    near(points(shown["d"]), wanted[~np.isnan(wanted).any(1)], where)


def check_gaussians(mark, v, shown, s, maps, where):
    drawn = points(shown["d"])
    if np.isnan(v["weights"] + v["means"]).any():
        assert not len(drawn), f"{where}: NaN hides it"
        return
    low, high = s.panel["xlim"]
    x = low + drawn[:, 0] / s.w * (high - low)
    stds = np.maximum(v["stds"], 1e-4 * (high - low))
    # half a pixel to both sides: on a narrow peak the density changes much within a pixel
    at = x + np.linspace(-0.5, 0.5, 101)[:, None] * (high - low) / s.w
    z = (at[..., None] - v["means"]) / stds
    density = (v["weights"] / stds * np.exp(-(z**2) / 2)).sum(-1) / math.sqrt(2 * math.pi)
    y = s.y(density)
    assert len(drawn) >= 241 and abs(drawn[0, 0]) < 1 and abs(drawn[-1, 0] - s.w) < 1, where
    below, above = y.min(0) - 1, y.max(0) + 1
    inside = (drawn[:, 1] >= below) & (drawn[:, 1] <= above)
    assert inside.all(), f"{where}: off at x = {x[~inside][:3]}"
    peaks = (v["means"] > low) & (v["means"] < high)
    for mean in s.x(v["means"][peaks]):
        assert np.abs(drawn[:, 0] - mean).min() < 1, f"{where}: a peak is missing"


def check_histogram(mark, v, shown, s, maps, where):
    tops = np.array(re.findall(r"V(-?[\d.]+)H", shown["d"]), dtype=float)
    rights = np.array(re.findall(r"H(-?[\d.]+)", shown["d"]), dtype=float)
    bars = ~np.isnan(v["heights"])
    near(tops, s.y(v["heights"][bars]), where)
    near(rights, s.x(v["edges"][1:][bars]), where)


def check_points(mark, v, shown, s, maps, where):
    wanted = np.stack([s.x(v["x"]), s.y(v["y"])], 1)
    near(points(shown["d"]), wanted[~np.isnan(wanted).any(1)], where)


def check_arrows(mark, v, shown, s, maps, where):
    tails = np.stack([s.x(v["x"]), s.y(v["y"])], 1)
    heads = np.stack([s.x(v["x"] + v["dx"]), s.y(v["y"] + v["dy"])], 1)
    length = np.hypot(*(heads - tails).T)
    drawn = points(shown["d"]).reshape(-1, 5, 2)  # shaft: 2 points; head: 3
    if not (np.abs(length - 0.5) < 0.02).any():  # shorter ones are left out
        near(drawn[:, 0], tails[length > 0.5], where)
        near(drawn[:, 1], heads[length > 0.5], where)


def check_rule(mark, v, shown, s, maps, where):
    pattern = r"M(-?[\d.]+) 0V" if mark["vertical"] else r"M0 (-?[\d.]+)H"
    drawn = np.array(re.findall(pattern, shown["d"]), dtype=float)
    at = v["at"][~np.isnan(v["at"])]
    near(drawn, s.x(at) if mark["vertical"] else s.y(at), where)


def pixels(shown: dict[str, Any]) -> np.ndarray:
    png = base64.b64decode(shown["png"].split(",")[1])
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), dtype=int)


def greys(page: Page, k: int = 0) -> np.ndarray:
    """The row of pictures that the k-th figure with pictures shows, [n, 28, 28], as grey levels."""
    url = page.locator(".lf .lf-sheet canvas").nth(k).evaluate("(c) => c.toDataURL()")
    sheet = pixels({"png": url})[..., 0]
    assert (sheet.shape[1] + 1) % 29 == 0
    return np.stack([sheet[:, 29 * c :][:, :28] for c in range((sheet.shape[1] + 1) // 29)])


def check_greys(page: Page, wanted: np.ndarray, k: int = 0) -> None:
    """Assert that they are these pictures in [-1, 1], to one grey level."""
    level = np.clip((wanted.reshape(-1, 28, 28) + 1) * 127.5, 0, 255)
    assert np.abs(greys(page, k) - level).max() <= 1


def check_images(mark, v, shown, s, maps, where):
    drawn, gap = pixels(shown), mark["gap"]
    rows, columns, h, w = v["pixels"].shape
    assert drawn.shape[:2] == (rows * (h + gap) - gap, columns * (w + gap) - gap), where
    grey = np.clip((v["pixels"] - mark["vmin"]) / (mark["vmax"] - mark["vmin"]), 0, 1) * 255
    for r in range(rows):
        for c in range(columns):
            cell = drawn[r * (h + gap) :, c * (w + gap) :][:h, :w]
            hole = np.isnan(grey[r, c])
            assert (cell[..., 3] == np.where(hole, 0, 255)).all(), f"{where}: {r}, {c} has holes"
            off = np.abs(cell[..., :3] - grey[r, c, ..., None])[~hole]
            assert off.max(initial=0) <= 1, f"{where}: {r}, {c}"


def check_heatmap(mark, v, shown, s, maps, where):
    drawn = pixels(shown)[::-1]  # the first row of z is at the bottom
    stops = maps["diverging" if mark["diverging"] else "sequential"]
    stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in stops])
    part = np.clip((v["z"] - mark["vmin"]) / (mark["vmax"] - mark["vmin"]), 0, 1)
    at = part * (len(stops) - 1)
    low = np.minimum(at.astype(int), len(stops) - 2)
    colour = stops[low] + (at - low)[..., None] * (stops[low + 1] - stops[low])
    assert np.abs(drawn[..., :3] - colour).max() <= 2, f"{where}: a colour is wrong"
    x, y = v["x"], v["y"]
    dx, dy = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2
    left, right = s.x([x[0] - dx, x[-1] + dx])
    bottom, top = s.y([y[0] - dy, y[-1] + dy])
    near(np.array(shown["box"]), np.array([left, top, right - left, bottom - top]), where)


CHECKS = {
    "curve": check_curve,
    "gaussians": check_gaussians,
    "histogram": check_histogram,
    "points": check_points,
    "images": check_images,
    "heatmap": check_heatmap,
    "arrows": check_arrows,
    "rule": check_rule,
}


def put(page: Page, k: int, pos: list[int]) -> None:
    """Put the controls of figure k to the given positions."""
    page.locator(FIGURES).nth(k).evaluate(
        """(lf, pos) => lf.querySelectorAll(".lf-control :is(input, select)").forEach((c, i) => {
          c.value = pos[i]; c.dispatchEvent(new Event("input")); })""",
        pos,
    )
