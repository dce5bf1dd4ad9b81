"""Figures that a network draws: the click, the pad, the point, stop, and all that may be missing.

The networks are those of tests/toys.py, so that each number on the page has a formula here.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toys
from drawn import check_greys, greys, pixels, points
from pages import ROOT, Opened, open_page
from playwright.sync_api import BrowserContext, Locator, Page, expect

from ddpm_lite.live import NetworkFigure, normals, stored

HEAD = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="_static/live.css">'
TAIL = '<script src="_static/live.js" defer></script>'
EXTENSION = runpy.run_path(str(ROOT / "book" / "_ext" / "live_figures.py"))


@pytest.fixture(autouse=True)
def networks(monkeypatch, tmp_path_factory) -> None:
    toys.install(monkeypatch, tmp_path_factory.mktemp("toys"))


def write_page(folder: Path, *figures: NetworkFigure) -> None:
    """A page with these figures, and beside it what the book's pages have."""
    static = folder / "_static"
    (static / "networks").mkdir(parents=True)
    (static / "live.js").write_text(EXTENSION["script"](), encoding="utf-8")
    (static / "live.css").write_text(EXTENSION["stylesheet"](), encoding="utf-8")
    names = {figure.spec["network"]["name"] for figure in figures}
    scripts = {f"{name}.js": stored.script(name) for name in names}
    for name, text in {"runner.js": stored.runner_script(), **scripts}.items():
        (static / "networks" / name).write_text(text, encoding="utf-8")
    body = "\n".join([HEAD, *(figure.to_html() for figure in figures), TAIL])
    (folder / "page.html").write_text(body, encoding="utf-8")


@pytest.fixture
def open_figures(desk: BrowserContext, tmp_path: Path) -> Iterator:
    """Opens a page with these figures; init: a script that runs before the page's own."""
    opened: list[Opened] = []

    def make(*figures: NetworkFigure) -> Page:
        write_page(tmp_path, *figures)
        opened.append(open_page(desk, tmp_path.as_uri(), "page.html"))
        return opened[0].page

    yield make
    for page in opened:
        assert page.left == [], "no request leaves"
        page.page.close()


def button(page: Page, k: int = 0) -> Locator:
    return page.locator(".lf-go").nth(k)


def wait(page: Page, state: str, k: int = 0) -> None:
    """Until the network of figure k sleeps, loads, is idle or runs."""
    expect(page.locator(".lf").nth(k)).to_have_attribute("data-network", state, timeout=20_000)


def begin(page: Page, k: int = 0) -> None:
    button(page, k).click()
    wait(page, "idle", k)


def test_before_the_click_nothing_is_fetched_and_the_still_is_shown(open_figures):
    page = open_figures(toys.walk(), toys.pad())
    assert page.evaluate("() => globalThis.ddpmNetworks") is None
    assert page.locator("script[src]").count() == 1
    check_greys(page, np.zeros((4, 784)))
    expect(button(page)).to_have_text("Draw in this page (0.0 MB)")
    assert page.locator(".lf").first.locator("input").all()[0].is_disabled()
    assert page.locator(".lf-pad canvas").get_attribute("tabindex") is None


def test_a_walk_is_python_s_from_the_same_noise(open_figures):
    """At the start's seed, at the next one, and at other values of the controls."""
    page = open_figures(toys.walk())
    begin(page)
    check_greys(page, toys.walked(normals(3, (4, 28, 28)), 5, 2.0, 3))
    expect(page.locator(".lf-says")).to_have_text(re.compile(r"^5 steps in \d\.\d s$"))
    expect(button(page)).to_have_text("Draw again")
    button(page).click()
    wait(page, "idle")
    check_greys(page, toys.walked(normals(4, (4, 28, 28)), 5, 2.0, 4))
    scale, steps = page.locator(".lf input").all()
    scale.press("Home")
    wait(page, "idle")
    check_greys(page, toys.walked(normals(4, (4, 28, 28)), 5, 1.0, 4))
    steps.press("End")
    wait(page, "running")
    wait(page, "idle")
    check_greys(page, toys.walked(normals(4, (4, 28, 28)), 200, 1.0, 4))


HEARD = """() => { // the last step heard of each job
  const Right = Worker;
  window.heard = {};
  globalThis.Worker = class extends Right {
    constructor(url) {
      super(url);
      this.addEventListener("message", ({ data: { id, step } }) => { if (step) heard[id] = step; });
    }
  };
}"""


def test_stop_stops_and_the_tab_answers_meanwhile(open_figures):
    page = open_figures(toys.walk(steps=toys.Slider([200])))
    page.evaluate(HEARD)
    page.evaluate("() => { window.ticks = 0; setInterval(() => { ticks += 1; }, 1); }")
    button(page).click()
    page.wait_for_function("() => document.querySelector('.lf-net progress').value > 0")
    expect(button(page)).to_have_text("Stop")
    ticks = page.evaluate("() => ticks")
    page.wait_for_function("(before) => ticks > before", arg=ticks)
    button(page).click()
    wait(page, "idle")
    expect(page.locator(".lf-says")).to_have_text("Stopped.")
    stopped = greys(page)
    page.evaluate("() => new Promise((f) => setTimeout(f, 0))")
    assert np.array_equal(greys(page), stopped)
    assert not np.abs(stopped).max() == 0
    button(page).click()  # and it draws again, and the worker with it alone
    page.wait_for_function("() => Object.values(heard).length === 2 && Object.values(heard)[1] > 1")
    first = page.evaluate("() => Object.values(heard)[0]")
    page.wait_for_function("() => Object.values(heard)[1] > 20")
    assert page.evaluate("() => Object.values(heard)[0]") == first < 200
    button(page).click()
    wait(page, "idle")


def test_figures_share_one_download_and_one_worker(open_figures):
    page = open_figures(toys.walk(), toys.pad(), toys.line())
    page.evaluate(
        "() => { const Right = Worker; window.workers = 0; globalThis.Worker ="
        " class extends Right { constructor(url) { super(url); workers += 1; } }; }"
    )
    expect(button(page, 1)).to_have_text("Draw in this page (0.0 MB)")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[-1]))
    for k in range(3):
        begin(page, k)
    files = [name for name in asked if name.endswith(".js")]
    assert sorted(files) == ["runner.js", "toy-line.js", "toy-walk.js"]
    assert page.evaluate("() => workers") == 1
    begin(page, 0), begin(page, 1)  # draw again, both
    check_greys(page, toys.walked(normals(4, (4, 28, 28)), 5, 2.0, 4), 0)
    check_greys(page, toys.walked(normals(2, (4, 28, 28)), 5, 1.0, 2), 1)


def test_a_curve_follows_its_slider(open_figures):
    page = open_figures(toys.line())
    begin(page)
    slider = page.locator(".lf input")
    quick = "(e) => [2, 7, 3].forEach((p) => { e.value = p; e.dispatchEvent(new Event('input')); })"
    for move, t in (
        (lambda: slider.press("ArrowRight"), 60),
        (lambda: slider.press("End"), 100),
        (lambda: slider.evaluate(quick), 30),  # faster than the network: the last one stays
        (lambda: slider.press("Home"), 0),
    ):
        move()
        wait(page, "idle")
        (path,) = page.locator(".lf-line.lf-curve").all()
        y = points(path.get_attribute("d"))[:, 1]
        height = float(page.locator(".lf-inner").get_attribute("height"))
        assert np.abs(y - height * (1 - (0.5 * toys.X + t / 100 + 2) / 4)).max() < 0.02


# ---- a point in a panel --------------------------------------------------------------------------


def check_plane(page: Page, z: tuple[float, float]) -> None:
    page.wait_for_function(
        "(v) => document.querySelector('.lf-handle').getAttribute('aria-valuetext') === v",
        arg=f"z_1 {z[0]:.2f}, z_2 {z[1]:.2f}".replace("-", "−"),
    )
    wait(page, "idle")
    check_greys(page, np.tile(np.array(z) / 5, 392))


def test_a_point_is_moved_by_keyboard_and_its_picture_follows(open_figures):
    page = open_figures(toys.plane())
    handle = page.locator(".lf-handle")
    assert handle.get_attribute("tabindex") is None
    button(page).focus()
    page.keyboard.press("Enter")
    wait(page, "idle")
    expect(handle).to_be_focused()  # the button has gone
    assert handle.get_attribute("role") == "slider"
    assert handle.get_attribute("aria-label") == "the code"
    check_plane(page, (1, -2))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    check_plane(page, (1.1, -1.9))
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("ArrowDown")
    check_plane(page, (0.6, -2.0))
    page.keyboard.press("Home")
    check_plane(page, (1, -2))


def test_a_point_is_dragged_and_stays_within_its_panel(open_figures):
    page = open_figures(toys.plane())
    begin(page)
    box = page.locator(".lf-inner rect, .lf-base").first.bounding_box()
    plot = page.locator(".lf-plot").bounding_box()
    inner = page.locator(".lf-inner")
    left, top, width, height = (
        float(inner.get_attribute(name)) for name in ("x", "y", "width", "height")
    )
    assert abs(box["width"] - width) <= 1
    x, y = plot["x"] + left + 0.75 * width, plot["y"] + top + 0.25 * height
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 0.5 * width, y, steps=3)
    place = [float(page.locator(".lf-handle").get_attribute("aria-valuenow"))]
    assert abs(place[0] + 2.5) < 0.05
    page.mouse.move(plot["x"] - 50, plot["y"] + top + height + 50)
    page.mouse.up()
    check_plane(page, (-5, -5))
    page.mouse.move(x, y)  # the button is up: nothing follows
    check_plane(page, (-5, -5))


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


def test_the_pad_by_touch(browser, tmp_path):
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
    page.evaluate("() => go()")
    begin(page)
    check_greys(page, toys.walked(normals(3, (4, 28, 28)), 5, 2.0, 3))


def test_paper_has_the_pictures_and_no_buttons(open_figures):
    page = open_figures(toys.walk(), toys.pad())
    page.emulate_media(media="print")
    for part in (".lf-go", ".lf-pad", ".lf-small"):
        for found in page.locator(part).all():
            expect(found).to_be_hidden()
    expect(page.locator(".lf-sheet canvas").first).to_be_visible()
