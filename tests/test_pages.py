"""Every page of the built book in a real browser, with the network cut off.

A page is tested by existing (tests/pages.py finds them). What a figure must show is read from the
page itself (tests/drawn.py). The last tests need no book: they put figures that cannot be drawn on
a page of their own.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import check_drawn, drawing, look, points
from pages import (
    ALIVE,
    BUILT,
    DESK,
    HTML,
    OTHERS,
    PAGES,
    PHONE,
    ROOT,
    SOURCE,
    STATE,
    Opened,
    browser,  # noqa: F401
    desk,  # noqa: F401
    open_page,
    opened,  # noqa: F401
    settle,
    site,  # noqa: F401
    toc_pages,
)
from playwright.sync_api import BrowserContext, Page, TimeoutError, expect

from ddpm_lite.live import Curve, Gaussians, Histogram, Images, LiveFigure, Panel, Readout, Slider

PAGE_BYTES, FIGURE_BYTES = 1_000_000, 300_000
FIGURE = re.compile(r'<div class="lf-static">.*?</script></div>', re.DOTALL)

# ---- every page ----------------------------------------------------------------------------------


def test_the_book_is_built():
    assert BUILT, f"no pages in {HTML}: run `make book` first"
    absent = [name for name in toc_pages() if name not in BUILT]
    assert not absent, f"in _toc.yml but not built: {absent}; run `make book` first"
    assert ALIVE, "no page has a live figure"


def test_nothing_leaves_and_nothing_complains(opened):
    settle(opened.page)
    assert opened.left == []
    assert opened.missing == []
    assert opened.complaints == []


@pytest.mark.parametrize("name", [*ALIVE[:2], *(name for name in PAGES if name not in ALIVE)])
def test_over_http(name, desk, site):
    """From the disk every page is opened; http differs by how it finds scripts, not by the page."""
    opened = open_page(desk, site, name)
    settle(opened.page)
    assert (opened.left, opened.missing, opened.complaints) == ([], [], [])
    assert opened.page.locator(".lf").count() == len(opened.states)
    for state, seen in zip(opened.states, look(opened.page), strict=True):
        check_drawn(state, seen)
    opened.page.close()


@pytest.mark.parametrize("name", OTHERS)
def test_the_builders_own_pages_ask_nobody(name, desk):
    """Search, the index of names; and a redirect leads to a page."""
    text = (HTML / name).read_text(encoding="utf-8")
    target = re.search(r'http-equiv="refresh" content="0; *url=([^"]+)"', text, re.IGNORECASE)
    if target:
        assert (HTML / name).parent.joinpath(target[1]).exists()
        return
    opened = open_page(desk, HTML.as_uri(), name)
    assert opened.left == []
    opened.page.close()


def test_weights(opened):
    source = SOURCE[opened.name]
    assert len(source.encode()) <= PAGE_BYTES
    figures = [len(text.encode()) for text in FIGURE.findall(source)]
    assert len(figures) == len(opened.states)
    assert max(figures, default=0) <= FIGURE_BYTES


def test_pictures_have_words(opened):
    """Each picture of the text says what it shows."""
    silent = opened.page.locator("article img:not([alt]), article img[alt='']")
    assert silent.evaluate_all("(all) => all.map((e) => e.src.slice(0, 80))") == []


def test_light_and_dark(opened):
    """Text stays legible in both themes, on the page and in the figures."""
    page = opened.page
    colours = {}
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_function("(t) => document.documentElement.dataset.theme === t", arg=theme)
        settle(page)
        for place in ("article p, article td, article li", ".lf-title", ".lf-control output"):
            seen = page.locator(place).evaluate_all(INK)
            assert all(contrast(*pair) >= 4.5 for pair in seen), (theme, place, seen)
        colours[theme] = (
            page.locator("body").evaluate("(e) => getComputedStyle(e).backgroundColor"),
            page.locator(".lf path.lf-line").evaluate_all(
                "(a) => a.map((e) => getComputedStyle(e).stroke)"
            ),
        )
        for state, seen in zip(opened.states, look(page), strict=True):
            check_drawn(state, seen)  # heat maps have the theme's colours
    page.emulate_media(color_scheme="light")
    assert colours["light"][0] != colours["dark"][0]
    assert all(a != b for a, b in zip(colours["light"][1], colours["dark"][1], strict=True))


# the colour of the text, and that of the nearest painted box behind it
INK = """(all) => all.slice(0, 12).map((e) => {
  const ink = getComputedStyle(e).color;
  let behind = e, paper = "";
  while (behind) {
    paper = getComputedStyle(behind).backgroundColor;
    if (!/, 0\\)$|transparent/.test(paper)) break;
    behind = behind.parentElement;
  }
  return [ink, behind ? paper : "rgb(255, 255, 255)"];
})"""


def contrast(ink: str, paper: str) -> float:
    """The contrast ratio of two CSS colours (WCAG)."""

    def luminance(colour: str) -> float:
        rgb = np.array(re.findall(r"[\d.]+", colour)[:3], dtype=float) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(ink), luminance(paper)))
    return (high + 0.05) / (low + 0.05)


def test_on_a_phone(opened):
    page = opened.page
    page.set_viewport_size(PHONE)
    settle(page)
    width = page.evaluate("() => document.documentElement.scrollWidth")
    beyond = page.evaluate(BEYOND, PHONE["width"]) if width > PHONE["width"] else []
    figures = page.locator(".lf").evaluate_all(
        "(all) => all.map((e) => [e.scrollWidth - e.clientWidth, e.getBoundingClientRect().right])"
    )
    drawn = look(page)
    page.set_viewport_size(DESK)
    settle(page)
    assert width <= PHONE["width"], beyond
    assert all(inside <= 1 and right <= PHONE["width"] for inside, right in figures)
    for state, seen in zip(opened.states, drawn, strict=True):
        check_drawn(state, seen)


BEYOND = """(width) => [...document.querySelectorAll("main *")]
  .filter((e) => e.getBoundingClientRect().right > width + 1)
  .slice(0, 5).map((e) => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`)"""


# ---- every live figure ---------------------------------------------------------------------------


def test_figures_show_python_s_numbers(opened):
    drawn = look(opened.page)
    assert len(drawn) == len(opened.states)
    for state, seen in zip(opened.states, drawn, strict=True):
        assert seen["pos"] == state["pos"], "a figure opens at its start"
        check_drawn(state, seen)


def without_marks(text: str) -> str:
    """A label as it is read: "x_{t−1}" shows as x with t−1 below."""
    return re.sub(r"_(?:\{([^}]*)\}|(\w)(?!\w))", r"\1\2", text)


def put(page: Page, k: int, pos: list[int]) -> None:
    """Put the controls of figure k to the given positions."""
    page.locator(".lf").nth(k).evaluate(
        """(lf, pos) => lf.querySelectorAll(".lf-control :is(input, select)").forEach((c, i) => {
          c.value = pos[i]; c.dispatchEvent(new Event("input")); })""",
        pos,
    )


def changes_something(page: Page, k: int, i: int, state: dict[str, Any]) -> bool:
    """Whether control i of figure k changes the drawing with the other controls half-way.

    At the start it may rightly change nothing: at t = 0 all schedules are alike.
    """
    middle = [len(control["values"]) // 2 for control in state["spec"]["controls"]]
    drawn = set()
    for at in range(len(state["spec"]["controls"][i]["values"])):
        middle[i] = at
        put(page, k, middle)
        drawn.add(drawing(look(page, k)))
        if len(drawn) > 1:
            return True
    return False


def controls(opened: Opened, kind: str) -> Iterator[tuple[int, int, dict[str, Any], Any]]:
    """(figure, control, state, element) of every control of a kind, each figure at its start."""
    for k, state in enumerate(opened.states):
        for i, control in enumerate(state["spec"]["controls"]):
            if control["kind"] == kind and len(control["values"]) > 1:
                put(opened.page, k, state["pos"])
                figure = opened.page.locator(".lf").nth(k)
                yield k, i, state, figure.locator(".lf-control").nth(i).locator("input, select")


def test_sliders_by_keyboard(opened):
    page = opened.page
    for k, i, state, slider in controls(opened, "slider"):
        control, start = state["spec"]["controls"][i], state["pos"][i]
        last = len(control["values"]) - 1
        before, changed = look(page, k), False
        slider.focus()
        other = "ArrowLeft" if start == last else "ArrowRight"
        for key, at in ((other, start + (1 if start < last else -1)), ("End", last), ("Home", 0)):
            page.keyboard.press(key)
            seen = look(page, k)
            assert seen["pos"][i] == at, f"{control['label']}: {key}"
            unit = f" {control['unit']}" if control["unit"] else ""
            assert seen["said"][i] == f"{control['label']} {control['values'][at]}{unit}"
            check_drawn(state, seen)
            changed |= drawing(seen) != drawing(before)
        changed = changed or changes_something(page, k, i, state)
        assert changed, f"{state['spec']['title']!r}: {control['label']!r} changes nothing"
        assert slider.get_attribute("aria-label") == control["label"]


def test_sliders_by_mouse(opened):
    page = opened.page
    for k, i, state, slider in controls(opened, "slider"):
        last = len(state["spec"]["controls"][i]["values"]) - 1
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        y = box["y"] + box["height"] / 2
        shown = []
        for part in (0.03, 0.97):
            page.mouse.click(box["x"] + part * box["width"], y)
            shown.append(look(page, k))
        page.mouse.down()  # at the right end: drag to the middle
        page.mouse.move(box["x"] + 0.5 * box["width"], y, steps=2)
        page.mouse.up()
        shown.append(look(page, k))
        at = [seen["pos"][i] for seen in shown]
        assert at[0] <= 0.1 * last + 1 and at[1] >= 0.9 * last - 1 and at[0] < at[1]
        assert abs(at[2] - last / 2) <= 0.1 * last + 1, "dragging"
        for seen in shown:
            check_drawn(state, seen)


def test_choices(opened):
    page = opened.page
    for k, i, state, choice in controls(opened, "choice"):
        control, start = state["spec"]["controls"][i], state["pos"][i]
        before, changed = look(page, k), False
        for at, text in enumerate(control["values"]):
            choice.select_option(label=text)
            seen = look(page, k)
            assert (seen["pos"][i], seen["said"][i]) == (at, text)
            check_drawn(state, seen)
            changed |= drawing(seen) != drawing(before)
        changed = changed or changes_something(page, k, i, state)
        assert changed, f"{state['spec']['title']!r}: {control['label']!r} changes nothing"
        put(page, k, state["pos"])
        choice.focus()
        page.keyboard.type(control["values"][(start + 1) % len(control["values"])][:12])
        page.keyboard.press("Enter")
        assert choice.get_attribute("aria-label") == control["label"]
        page.wait_for_function(
            "([e, at]) => e.selectedIndex !== at", arg=[choice.element_handle(), start]
        )
        check_drawn(state, look(page, k))


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_play(opened, motion):
    """Play moves its slider until it is paused; with less motion, from stored frame to frame."""
    page = opened.page
    page.emulate_media(reduced_motion=motion)
    for k, i, state, slider in controls(opened, "slider"):
        control = state["spec"]["controls"][i]
        if not control.get("play"):
            continue
        figure = page.locator(".lf").nth(k)
        button = figure.get_by_role("button", name=f"Play {control['label']}", exact=True)
        before = look(page, k)
        button.click()
        pause = figure.get_by_role("button", name=f"Pause {control['label']}", exact=True)
        page.wait_for_function(
            "([e, at]) => Number(e.value) !== at", arg=[slider.element_handle(), before["pos"][i]]
        )
        if motion == "reduce":
            check_drawn(state, look(page, k))
        try:
            pause.click(timeout=3000)
        except TimeoutError:  # a short run has ended
            assert slider.evaluate("(e) => e.value === e.max")
        expect(button).to_have_count(1)
        stopped = look(page, k)
        settle(page)
        assert look(page, k) == stopped
        check_drawn(state, stopped)
        put(page, k, state["pos"])
    page.emulate_media(reduced_motion="no-preference")


def test_figures_are_independent_and_named(opened):
    page = opened.page
    names = page.locator(".lf").evaluate_all("(all) => all.map((e) => e.ariaLabel)")
    assert names == [state["spec"]["title"] for state in opened.states]
    shown = page.locator(".lf-title").all_text_contents()
    assert shown == [without_marks(name) for name in names]
    described = page.locator(".lf .lf-alt").all_text_contents()
    assert described == [state["spec"]["alt"] for state in opened.states]
    assert all(len(text) > 20 for text in described)
    ids = page.evaluate("() => [...document.querySelectorAll('.lf [id]')].length")
    assert ids == 0, "a figure has no ids, so two of them cannot clash"
    for k, state in enumerate(opened.states):
        put(page, k, state["pos"])
    if len(opened.states) > 1:
        others = [drawing(seen) for seen in look(page)][1:]
        page.locator(".lf").nth(0).locator("input, select").first.focus()
        page.keyboard.press("End")
        page.keyboard.press("Home")
        assert [drawing(seen) for seen in look(page)][1:] == others


@pytest.mark.parametrize("name", ALIVE)
def test_without_javascript(name, browser):
    """A still picture with its words stands where the figure would be."""
    with browser.new_context(viewport=DESK, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{HTML.as_uri()}/{name}")
        stills = page.locator("img.lf-still")
        assert stills.count() == len(STATE.findall(SOURCE[name]))
        for still in stills.all():
            box = still.bounding_box()
            assert box["width"] > 200 and box["height"] > 80
            assert still.get_attribute("alt")


# ---- figures that cannot be drawn ----------------------------------------------------------------


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
