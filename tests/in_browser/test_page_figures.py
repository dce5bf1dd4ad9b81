"""Every live figure of the book in a real browser: what it draws, by keyboard, mouse and play.

What a figure must show is read from the page itself (tests/drawn.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from drawn import FIGURES, check_drawn, drawing, look, put
from pages import ALIVE, DESK, HTML, SOURCE, STATE, Opened, settle
from playwright.sync_api import Page, expect


def test_figures_show_python_s_numbers(opened):
    drawn = look(opened.page)
    assert len(drawn) == len(opened.states)
    for state, seen in zip(opened.states, drawn, strict=True):
        assert seen["pos"] == state["pos"], "a figure opens at its start"
        check_drawn(state, seen)


def without_marks(text: str) -> str:
    """A label as it is read: "x_{t−1}" shows as x with t−1 below."""
    return re.sub(r"_(?:\{([^}]*)\}|(\w)(?!\w))", r"\1\2", text)


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
                figure = opened.page.locator(FIGURES).nth(k)
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
        figure = page.locator(FIGURES).nth(k)
        button = figure.get_by_role("button", name=f"Play {control['label']}", exact=True)
        before = look(page, k)
        button.click()
        pause = figure.get_by_role("button", name=f"Pause {control['label']}", exact=True)
        page.wait_for_function(
            "([e, at]) => Number(e.value) !== at", arg=[slider.element_handle(), before["pos"][i]]
        )
        if motion == "reduce":
            check_drawn(state, look(page, k))
        if not pause.evaluate_all(PRESS):  # a short run has ended
            assert slider.evaluate("(e) => e.value === e.max")
        expect(button).to_have_count(1)
        stopped = look(page, k)
        settle(page)
        assert look(page, k) == stopped
        check_drawn(state, stopped)
        put(page, k, state["pos"])
    page.emulate_media(reduced_motion="no-preference")


# A run may end between looking and pressing: then the button plays again. So both at once.
PRESS = """(all) => {
  const button = all.find((e) => e.getAttribute("aria-label").startsWith("Pause"));
  button?.click();
  return Boolean(button);
}"""


def test_figures_are_independent_and_named(opened):
    page = opened.page
    names = page.locator(FIGURES).evaluate_all("(all) => all.map((e) => e.ariaLabel)")
    assert names == [state["spec"]["title"] for state in opened.states]
    shown = page.locator(f"{FIGURES} .lf-title").all_text_contents()
    assert shown == [without_marks(name) for name in names]
    described = page.locator(f"{FIGURES} .lf-alt").all_text_contents()
    assert described == [state["spec"]["alt"] for state in opened.states]
    assert all(len(text) > 20 for text in described)
    ids = page.evaluate("() => [...document.querySelectorAll('.lf [id]')].length")
    assert ids == 0, "a figure has no ids, so two of them cannot clash"
    for k, state in enumerate(opened.states):
        put(page, k, state["pos"])
    if len(opened.states) > 1:
        others = [drawing(seen) for seen in look(page)][1:]
        page.locator(FIGURES).nth(0).locator("input, select").first.focus()
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
