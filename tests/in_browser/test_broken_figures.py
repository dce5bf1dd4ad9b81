"""Figures that cannot be drawn, and numbers that are hard to draw, on a page of their own."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from drawn import check_drawn, look, points, put
from pages import ROOT, STATE, Opened, open_page, settle
from playwright.sync_api import BrowserContext, Page

from ddpm_lite.live import Curve, Gaussians, Histogram, Images, LiveFigure, Panel, Readout, Slider


def a_figure() -> str:
    """The HTML of a sound figure with two panels."""
    x = np.linspace(0, 1, 5)
    return LiveFigure(
        lambda k: {
            "line": [Curve(x, k * x, label="a line"), Readout("k", k, digits=2)],
            "picture": [Images(np.outer(x, x) / k)],
        },
        title="A figure",
        alt="A line that turns, and a picture.",
        panels={"line": Panel(), "picture": Panel()},
        k=Slider([1, 2, 3]),
    ).to_html()


BROKEN = {  # what Python refuses to store, put into a stored figure by hand
    "not JSON": ('"width":2}', '"width":NaN}'),
    "a label that is no text": ('"label":"a line"', '"label":3'),
    "too many digits": ('"digits":2', '"digits":101'),
    "an empty picture": ('"shape":[1,1,5,5]', '"shape":[1,1,0,0]'),
    "no numbers": ('"fields":{', '"field":{'),
    "no state": ('class="lf-state"', 'class="lost"'),
}


def open_figures(context: BrowserContext, folder: Path, *figures: str) -> Opened:
    """A page with these figures, the script and the stylesheet of the book's pages."""
    made = runpy.run_path(str(ROOT / "book" / "_ext" / "live_figures.py"))
    (folder / "live.js").write_text(made["script"](), encoding="utf-8")
    (folder / "live.css").write_text(made["stylesheet"](), encoding="utf-8")
    head = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="live.css">'
    body = "\n".join([head, *figures, '<script src="live.js" defer></script>'])
    (folder / "page.html").write_text(body, encoding="utf-8")
    return open_page(context, folder.as_uri(), "page.html")


def check_whole(page: Page, k: int, html: str, shown: int) -> None:
    """Assert that box k of the page holds a figure, the `shown`-th, and its still is gone."""
    box = page.locator(".lf-static").nth(k)
    assert box.locator(".lf").count() == 1 and box.locator("img, script").count() == 0
    check_drawn(json.loads(STATE.search(html)[1]), look(page, shown))


@pytest.mark.parametrize("how", BROKEN)
def test_a_figure_that_cannot_be_drawn_keeps_its_picture(how, desk, tmp_path):
    """And the figures after it on the page are drawn."""
    good = a_figure()
    bad = good.replace(*BROKEN[how])
    assert bad != good
    opened = open_figures(desk, tmp_path, good, bad, good)
    page, box = opened.page, opened.page.locator(".lf-static").nth(1)
    assert page.locator(".lf").count() == 2 and box.locator(".lf").count() == 0
    assert box.locator("img.lf-still").is_visible()
    check_whole(page, 0, good, 0)
    check_whole(page, 2, good, 1)
    (complaint,) = opened.complaints
    assert complaint.startswith("error: a live figure cannot be drawn, its picture stays:")
    page.close()


def test_a_hidden_figure_keeps_its_picture_until_it_is_drawn(desk, tmp_path):
    good = a_figure()
    bad = good.replace(*BROKEN["too many digits"])  # seen when it is drawn, not before
    opened = open_figures(desk, tmp_path, f'<div id="box" hidden>{bad}{good}</div>')
    page = opened.page
    assert page.locator(".lf-static > img.lf-still").count() == 2 and not opened.complaints
    page.locator("#box").evaluate("(box) => box.removeAttribute('hidden')")
    page.wait_for_function("() => document.querySelectorAll('img.lf-still').length === 1")
    settle(page)
    assert page.locator(".lf-static").nth(0).locator("img.lf-still").is_visible()
    check_whole(page, 1, good, 0)
    assert len(opened.complaints) == 1
    page.close()


def test_a_figure_that_fails_later_gets_its_picture_back(desk, tmp_path):
    good = a_figure()
    opened = open_figures(desk, tmp_path, good, good)
    page = opened.page
    page.evaluate(
        """() => {
          const right = Number.prototype.toFixed;
          Number.prototype.toFixed = () => { Number.prototype.toFixed = right; throw "late"; };
        }"""
    )
    put(page, 0, [2])
    assert page.locator(".lf-static").nth(0).locator("img.lf-still").is_visible()
    assert page.locator(".lf").count() == 1
    put(page, 0, [1])  # which is the second figure now
    check_whole(page, 1, good, 0)
    assert look(page, 0)["pos"] == [1]
    assert opened.complaints == ["error: a live figure cannot be drawn, its picture stays: late"]
    page.close()


def test_gaps_and_far_numbers_are_drawn(desk, tmp_path):
    """NaN hides a bar and a pixel; a line that leaves the plot keeps its slope; 16 bits or more."""
    t = np.linspace(0, 1, 200)
    figure = LiveFigure(
        lambda k: {
            "far": [Curve(t, 1e4 ** (1 - k * t)), Curve([0, 1], [0, 900 * k])],
            "offset": [Curve(1.7e9 + np.arange(10), 1e6 + 0.1 * np.sin(k * np.arange(10)))],
            "gaps": [Histogram(range(6), [1, np.nan, 2, k, np.nan]), Gaussians(np.nan, 0, 1)],
            "holes": [Images(np.where(np.eye(4) == 1, np.nan, k / 3))],
            "tiny": [Curve(t, 1e-13 * k * t), Readout("k", k * 1234.5678, digits=6)],
        },
        title="Far and small",
        alt="Lines that leave their plots, and gaps.",
        panels={
            name: Panel(ylim=(0, 1) if name == "far" else None)
            for name in ("far", "offset", "gaps", "holes", "tiny")
        },
        k=Slider([1, 2, 3]),
    )
    opened = open_figures(desk, tmp_path, figure.to_html())
    for pos in ([0], [2]):
        put(opened.page, 0, pos)
        check_drawn(figure.state, look(opened.page, 0))
    assert look(opened.page, 0)["readouts"] == ["3703.703400"]
    steep = look(opened.page, 0)["panels"][0]
    (_, end) = points(steep["marks"][1]["d"])
    share = steep["h"] / (steep["h"] - end[1])
    assert share < 0.01, "the steep line leaves the plot at its left end"
    assert opened.complaints == []
    opened.page.close()
