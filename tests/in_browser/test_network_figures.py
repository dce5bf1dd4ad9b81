"""Figures that a network draws: the click, stop, what is shared, a slider, a point in the plane.

The networks are those of tests/toys.py, so that each number on the page has a formula here.
"""

from __future__ import annotations

import re

import numpy as np
import toys
from drawn import check_greys, greys, points
from playwright.sync_api import Page, expect
from toy_pages import begin, button, wait

from ddpm_lite.live import normals


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
    page = open_figures(toys.walk(steps=toys.Slider([3000])))
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
    assert page.evaluate("() => Object.values(heard)[0]") == first < 3000
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
