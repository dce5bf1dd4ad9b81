"""Every page of the built book in a real browser, with the network cut off.

A page is tested by existing (tests/pages.py finds them).
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from drawn import FIGURES, check_drawn, look
from pages import (
    ALIVE,
    BUILT,
    DESK,
    HTML,
    OTHERS,
    PAGES,
    PHONE,
    SOURCE,
    open_page,
    settle,
    toc_pages,
)

PAGE_BYTES, FIGURE_BYTES = 1_000_000, 300_000
FIGURE = re.compile(r'<div class="lf-static"[^>]*>.*?</script></div>', re.DOTALL)


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
    assert opened.page.locator(FIGURES).count() == len(opened.states)
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
    assert len(figures) == len(opened.states) + len(opened.networks)
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
        for place in INKED:
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


INKED = ("article p, article td, article li", ".lf-title", ".lf-control output", ".lf-go")

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
