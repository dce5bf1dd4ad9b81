"""Figures that a network draws: the pad, and all that may be missing.

The networks are those of tests/toys.py, so that each number on the page has a formula here.
"""

from __future__ import annotations

import numpy as np
import pytest
import toys
from drawn import check_greys, greys, pixels
from pages import open_page
from playwright.sync_api import Page, expect
from toy_pages import begin, button, wait, write_page

from ddpm_lite.live import normals

# ---- the pad -------------------------------------------------------------------------------------


def ink(page: Page) -> np.ndarray:
    """What is on the pad, [28, 28] grey levels."""
    url = page.locator(".lf-pad canvas").evaluate("(c) => c.toDataURL()")
    return pixels({"png": url})[..., 0]


def check_completed(page: Page) -> None:
    """Assert that all pictures have the ink of the pad, and what the network drew elsewhere."""
    drawn = ink(page)
    assert drawn.max() > 250
    wait(page, "idle")
    for picture in greys(page):
        assert np.abs(picture - drawn)[drawn > 0].max() <= 1
        assert (picture != drawn).mean() > 0.5


@pytest.fixture
def padded(open_figures) -> Page:
    page = open_figures(toys.pad())
    begin(page)
    assert ink(page).max() == 0
    return page


def test_the_pad_by_mouse(padded):
    page, box = padded, padded.locator(".lf-pad canvas").bounding_box()
    size = box["width"] / 28
    page.mouse.move(box["x"] + 5.5 * size, box["y"] + 8.5 * size)
    page.mouse.down()
    page.mouse.move(box["x"] + 20.5 * size, box["y"] + 8.5 * size)
    page.mouse.up()
    drawn = ink(page)
    assert (drawn[8, 5:21] == 255).all() and drawn[8, 23:].max() == drawn[12:].max() == 0
    check_completed(page)
    page.get_by_role("button", name="Clear").click()
    assert ink(page).max() == 0
    wait(page, "idle")
    check_greys(page, toys.walked(normals(1, (4, 28, 28)), 5, 1.0, 1))


def test_the_pad_by_keyboard(padded):
    page, pad = padded, padded.locator(".lf-pad canvas")
    assert "Arrow keys" in pad.get_attribute("aria-label")
    pad.focus()
    for key in ("ArrowUp", "ArrowLeft", "Space", "ArrowDown", "ArrowDown", "Enter", "ArrowRight"):
        page.keyboard.press(key)
    assert pad.get_attribute("data-pen") == "up"
    button(page).focus()  # the cursor goes with the focus
    drawn = ink(page)
    assert (drawn[13:16, 13] == 255).all() and drawn[10].max() == 0
    check_completed(page)
    pad.press("Delete")
    button(page).focus()
    assert ink(page).max() == 0


def test_the_pad_by_touch(networks, browser, tmp_path):
    write_page(tmp_path, toys.pad())
    with browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True) as context:
        page = open_page(context, tmp_path.as_uri(), "page.html").page
        begin(page)
        pad = page.locator(".lf-pad canvas")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
        check_completed(page)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


# ---- what may be missing -------------------------------------------------------------------------

SORRY = "The network cannot draw here: {}. The picture that Python drew stays."


def fails(page: Page, why: str) -> None:
    """Assert that the click ends in this sentence, and the still and the button stay."""
    button(page).click()
    expect(page.locator(".lf-says")).to_have_text(SORRY.format(why))
    wait(page, "asleep")
    check_greys(page, np.zeros((4, 784)))
    expect(button(page)).to_have_text("Draw in this page (0.0 MB)")


def test_a_download_that_fails_can_be_tried_again(open_figures, tmp_path):
    page = open_figures(toys.walk())
    script = tmp_path / "_static" / "networks" / "toy-walk.js"
    text = script.read_text(encoding="utf-8")
    script.unlink()
    fails(page, "networks/toy-walk.js did not come")
    script.write_text(text[: len(text) // 2], encoding="utf-8")
    fails(page, "networks/toy-walk.js is damaged")
    script.write_text(text, encoding="utf-8")
    begin(page)
    check_greys(page, toys.walked(normals(3, (4, 28, 28)), 5, 2.0, 3))


def test_a_program_that_the_runner_does_not_know(open_figures, tmp_path):
    page = open_figures(toys.walk())
    script = tmp_path / "_static" / "networks" / "toy-walk.js"
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace('{"inputs"', '{"broken":1,"inputs"'), encoding="utf-8")
    fails(page, "a program of another version")


def test_a_runner_that_does_not_run(open_figures, tmp_path):
    page = open_figures(toys.walk())
    script = tmp_path / "_static" / "networks" / "runner.js"
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace("function makeNetwork", "function ("), encoding="utf-8")
    button(page).click()
    expect(page.locator(".lf-says")).to_contain_text("The network cannot draw here: ")
    wait(page, "asleep")


def test_a_drawing_that_fails(open_figures, tmp_path):
    page = open_figures(toys.walk())
    script = tmp_path / "_static" / "networks" / "runner.js"
    text = script.read_text(encoding="utf-8")
    wrong = text.replace(
        "return Float32Array.from(x_t", "throw new Error('no memory'); return (x_t"
    )
    assert wrong != text
    script.write_text(wrong, encoding="utf-8")
    button(page).click()
    expect(page.locator(".lf-says")).to_have_text(SORRY.format("no memory"))
    wait(page, "asleep")
    check_greys(page, np.zeros((4, 784)))


def test_a_browser_without_workers(open_figures):
    page = open_figures(toys.walk())
    page.evaluate("() => { delete globalThis.Worker; }")
    fails(page, "this browser has no workers")


def test_loading_can_be_stopped(open_figures):
    page = open_figures(toys.walk())
    page.evaluate(
        "() => { const right = Node.prototype.append; window.held = [];"
        " document.head.append = (script) => held.push(script);"
        " window.go = () => { delete document.head.append; document.head.append(...held); }; }"
    )
    button(page).click()
    wait(page, "loading")
    expect(button(page)).to_have_text("Stop")
    button(page).click()
    wait(page, "asleep")
    page.evaluate(
        "async () => { go(); await globalThis[Symbol.for('ddpm_lite.engine')].load('toy-walk'); }"
    )
    wait(page, "asleep")  # what comes after all does not begin to draw
    check_greys(page, np.zeros((4, 784)))
    begin(page)
    check_greys(page, toys.walked(normals(3, (4, 28, 28)), 5, 2.0, 3))


def test_paper_has_the_pictures_and_no_buttons(open_figures):
    page = open_figures(toys.walk(), toys.pad())
    page.emulate_media(media="print")
    for part in (".lf-go", ".lf-pad", ".lf-small"):
        for found in page.locator(part).all():
            expect(found).to_be_hidden()
    expect(page.locator(".lf-sheet canvas").first).to_be_visible()
