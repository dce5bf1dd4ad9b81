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
)
from playwright.sync_api import Page

HREFS = "(links) => links.map((link) => link.href)"
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


@pytest.mark.parametrize("name", LONG)
def test_what_waits_runs_after_the_first_figure(name, browser):
    """Menus, search and copy buttons work, and their scripts were asked for last."""
    asked: list[str] = []
    with browser.new_context(viewport=DESK) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{HTML.as_uri()}/{name}")
        page.locator("html[data-settled]").wait_for()
        names = [found[1] for url in asked if (found := re.search(r"([\w.-]+)\.js\b", url))]
        first = [name for name in names if name in ("live", "formulas", "contents", "later")]
        assert names[-1] == "pydata-sphinx-theme" and {"bootstrap", "copybutton"} < {*names}
        assert max(map(names.index, first)) < min(
            names.index(n) for n in ("bootstrap", "copybutton")
        )
        assert page.locator("button.copybtn").count() > 0
        page.locator("button.search-button__button:visible").first.click()
        assert page.locator("dialog#pst-search-dialog[open]").count() == 1


def test_search_finds_a_chapter(desk, site):
    page = desk.new_page()
    page.goto(f"{site}/search.html?q=posterior+variance")
    found = page.locator("#search-results li a")
    found.first.wait_for()
    assert any("08-posterior" in (link or "") for link in found.evaluate_all(HREFS))
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_no_script_holds_the_page_up(name):
    """Ours are deferred, the theme's left to later.js; one sets names for a line in the page."""
    tags = [tag.split(">")[0] for tag in SOURCE[name].split("<script")[1:]]
    files = [tag for tag in tags if "src=" in tag and 'type="later"' not in tag]
    held = [tag for tag in files if " defer" not in tag]
    assert all("documentation_options.js" in tag for tag in held), held
    ours = "documentation_options|live|formulas|contents|later|searchtools|language_data"
    assert all(re.search(rf"_static/({ours})\.js", tag) for tag in files), files
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
