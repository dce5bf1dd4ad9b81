"""Formulas and code of every page in a real browser: drawn, copied, by keyboard, in print."""

from __future__ import annotations

import sys

import pytest
from fontTools.ttLib import TTFont
from pages import (
    PAGES,
    ROOT,
    SOURCE,
    browser,  # noqa: F401
    desk,  # noqa: F401
    opened,  # noqa: F401
)

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


def test_formulas_are_drawn_in_the_books_font(opened):
    """All of them, from the file beside the page; none is left as TeX."""
    page = opened.page
    count = page.locator("math").count()
    assert count == SOURCE[opened.name].count("<math data-tex=")
    if count:
        fonts = page.evaluate("() => [...document.fonts].map((f) => [f.family, f.status])")
        assert ["STIX Two Math", "loaded"] in [[name.strip('"'), how] for name, how in fonts]
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
