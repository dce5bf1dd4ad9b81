"""How a page comes to life: figures wake when they come near; what is out of sight waits."""

from __future__ import annotations

import re

import pytest
from pages import (
    ALIVE,
    DESK,
    HTML,
    PAGES,
    SOURCE,
    STATE,
    browser,  # noqa: F401
)
from playwright.sync_api import Page

CHAPTERS = [name for name in ALIVE if re.search(r"/\d\d-", name)]
LONG = [name for name in CHAPTERS if len(STATE.findall(SOURCE[name])) > 1][-2:]


@pytest.fixture(params=LONG)
def fresh(request, browser):
    """A page as the reader opens it."""
    with browser.new_context(viewport=DESK) as context:
        page = context.new_page()
        page.goto(f"{HTML.as_uri()}/{request.param}")
        yield page


def awake(page: Page) -> list[bool]:
    return page.locator(".lf-static").evaluate_all(
        "(all) => all.map((e) => Boolean(e.querySelector('.lf')))"
    )


def test_a_figure_wakes_when_it_comes_near(fresh):
    boxes = fresh.locator(".lf-static")
    boxes.first.scroll_into_view_if_needed()
    boxes.first.locator(".lf").wait_for()
    assert not awake(fresh)[-1]
    assert boxes.last.locator("img.lf-still").count() == 1
    boxes.last.evaluate("(box) => box.scrollIntoView({ behavior: 'instant' })")
    boxes.last.locator(".lf").wait_for()
    assert boxes.last.locator("img.lf-still").count() == 0


def test_a_link_into_what_was_out_of_sight_leads_there(fresh):
    """And stays there while the sections above get their true heights."""
    target = fresh.locator("article section section").last
    name = target.get_attribute("id")
    fresh.evaluate("(id) => { location.hash = id; }", name)
    fresh.wait_for_function(
        "(id) => { const box = document.getElementById(id).getBoundingClientRect();"
        " return box.top >= -2 && box.top < innerHeight; }",
        arg=name,
    )


def test_search_in_the_page_finds_what_is_out_of_sight(fresh):
    word = fresh.locator("article section section h2").last.text_content().split()[1]
    assert fresh.evaluate(
        "(word) => { getSelection().removeAllRanges(); return find(word); }", word
    )


def test_paper_has_all_sections(fresh):
    fresh.emulate_media(media="print")
    seen = fresh.locator("article > section > section").evaluate_all(
        "(all) => all.map((e) => getComputedStyle(e).contentVisibility)"
    )
    assert set(seen) == {"visible"}


@pytest.mark.parametrize("name", PAGES)
def test_no_script_holds_the_page_up(name):
    """Scripts that are files are deferred; but one sets names for a line in the page."""
    tags = [tag.split(">")[0] for tag in SOURCE[name].split("<script")[1:]]
    held = [tag for tag in tags if "src=" in tag and " defer" not in tag]
    assert all("documentation_options.js" in tag for tag in held), held
    assert "fontawesome.js" not in SOURCE[name] and "MathJax" not in SOURCE[name]


def test_the_contents_mark_the_section_in_view(fresh):
    links = fresh.locator("#pst-page-toc-nav a.nav-link")
    last = links.last.get_attribute("href")
    fresh.locator(last).evaluate("(e) => e.scrollIntoView({ behavior: 'instant' })")
    fresh.wait_for_function(
        "() => document.querySelector('#pst-page-toc-nav .active[aria-current]') !== null"
    )
    current = fresh.locator("#pst-page-toc-nav .active")
    assert current.count() == 1
