"""Formulas and code of every page in a real browser: drawn, copied, by keyboard, in print."""

from __future__ import annotations

import re
import sys

import pytest
from fontTools.ttLib import TTFont
from pages import (
    DESK,
    PAGES,
    PHONE,
    ROOT,
    SOURCE,
    settle,
)
from playwright.sync_api import Page

sys.path.insert(0, str(ROOT / "tools"))

import math_font

# ---- formulas ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def font() -> set[str]:
    return {chr(code) for code in TTFont(math_font.FONT).getBestCmap()}


@pytest.mark.parametrize("name", PAGES)
def test_the_font_has_every_character_of_the_formulas(name, font):
    missing = math_font.characters(SOURCE[name]) - font
    assert not missing, f"build the book, then run tools/math_font.py: {sorted(missing)}"


LOADED = """() => [...document.fonts].some(
  (font) => font.family.includes("STIX Two Math") && font.status === "loaded")"""


def test_formulas_are_drawn_in_the_books_font(opened):
    """All of them, from the file beside the page; none is left as TeX."""
    page = opened.page
    count = page.locator("math").count()
    assert count == SOURCE[opened.name].count("<math data-tex=")
    if count:
        page.locator("article math").first.evaluate("(e) => e.scrollIntoView()")
        page.wait_for_function(LOADED)  # a font is asked for when a formula comes into sight
    assert r"\(" not in page.locator("article").inner_text()


COPY = """(ends) => {
  const formulas = document.querySelectorAll("article p math"), range = document.createRange();
  const formula = formulas[0], paragraph = formula.closest("p");
  if (ends === "inside") range.selectNodeContents(formula.querySelector("*"));
  else range.selectNodeContents(paragraph);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  const clipboardData = new DataTransfer();
  document.dispatchEvent(new ClipboardEvent("copy", { clipboardData, cancelable: true }));
  const text = clipboardData.getData("text/plain");
  getSelection().removeAllRanges();
  return [text, formula.dataset.tex, paragraph.querySelectorAll("math").length];
}"""


def test_a_copied_formula_is_its_tex(opened):
    """Alone, as a part of itself, and within its paragraph."""
    if not opened.page.locator("article p math").count():
        return
    text, tex, _ = opened.page.evaluate(COPY, "inside")
    assert text.strip() == f"${tex}$"
    text, tex, count = opened.page.evaluate(COPY, "around")
    assert f"${tex}$" in text and text.count("$") == 2 * count


WIDE = """() => [...document.querySelectorAll(".formula")]
  .filter((box) => box.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
  .filter((box) => box.scrollWidth > box.clientWidth + 1)
  .map((box) => [box.querySelector("math").dataset.tex, box.tabIndex, box.ariaLabel])"""


BROKEN_ROWS = ".formula.broken > math > mtable > mtr:has(> mtd:nth-child(4) > *)"
UNDER = """(rows) => rows.filter((row) => row.checkVisibility()).map((row) => {
  const [reason, line] = [row.children[3], row.children[1]].map((e) => e.getBoundingClientRect());
  return reason.top >= line.bottom - 4;
})"""


def wide(page: Page, width: int) -> list[list]:
    """The formulas that scroll on a screen of this width, with what the keyboard makes of them."""
    page.set_viewport_size({"width": width, "height": 900})
    settle(page)
    settle(page)  # formulas follow a frame later
    return page.evaluate(WIDE)


def test_no_formula_scrolls_on_a_desk_or_a_phone_and_where_one_does_the_keyboard_reaches_it(opened):
    """With all folds open. As axe's scrollable-region-focusable."""
    page = opened.page
    folds = page.locator("details:not([open])").element_handles()
    page.evaluate("(folds) => folds.forEach((fold) => { fold.open = true; })", folds)
    on_desk = [wide(page, width) for width in (1024, 1200, 1280)]
    broken_on_desk = page.locator(".formula.broken").count()
    on_phone = wide(page, PHONE["width"])
    under = page.locator(BROKEN_ROWS).evaluate_all(UNDER)
    on_a_watch = wide(page, 200)
    page.evaluate("(folds) => folds.forEach((fold) => { fold.open = false; })", folds)
    page.set_viewport_size(DESK)
    settle(page)
    assert on_desk == [[], [], []] and broken_on_desk == 0 and on_phone == []
    assert all(under), "a reason stands under its line, where the lines are broken"
    assert all(tab == 0 and label for _, tab, label in on_a_watch), on_a_watch


# ---- hidden code ---------------------------------------------------------------------------------

PLACES = """(all) => all.map((toggle) => {
  const box = toggle.querySelector("summary").getBoundingClientRect();
  const cell = toggle.closest(".cell"), output = cell.querySelector(".cell_output");
  const around = cell.getBoundingClientRect();
  return {
    height: box.height,
    share: box.width / around.width,
    right: around.right - box.right,
    under: output ? box.top - output.getBoundingClientRect().bottom : 0,
    follows: !output || Boolean(output.compareDocumentPosition(toggle) & 4),
  };
})"""


def test_hidden_code_is_one_slim_word_under_its_figure(opened):
    """On the right, below the output on the screen and after it in reading order."""
    assert opened.page.locator("details.hide").count() == 0
    for place in opened.page.locator("details.code-toggle").evaluate_all(PLACES):
        assert place["height"] <= 30 and place["share"] <= 0.2 and 0 <= place["right"] <= 2
        assert place["under"] >= -1 and place["follows"]


def test_hidden_code_by_keyboard_and_in_print(opened):
    page = opened.page
    toggles = page.locator("details.code-toggle")
    if not toggles.count():
        return
    first, summary = toggles.first, toggles.first.locator("summary")
    assert re.match(r"code\b", summary.inner_text())
    page.emulate_media(media="print")
    assert not first.is_visible(), "a closed toggle is no use on paper"
    page.emulate_media(media="screen")
    summary.focus()
    page.keyboard.press("Enter")
    assert first.locator("pre").first.is_visible()
    page.emulate_media(media="print")
    assert first.locator("pre").first.is_visible() and not summary.is_visible()
    page.emulate_media(media="screen")
    summary.focus()  # which it lost on paper
    page.keyboard.press("Enter")
    assert not first.locator("pre").first.is_visible()
