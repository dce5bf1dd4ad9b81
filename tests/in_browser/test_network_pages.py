"""The networks of the book's own pages: the click, and the picture that Python's network drew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import numbers, pixels
from pages import DRAWING, HTML, SOURCE, states_of
from playwright.sync_api import Locator, Page, expect

FETCHED = 3_000_000  # bytes of a page's click, at most
PATIENCE = 120_000  # milliseconds, on a machine with other things to do


def begin(page: Page, k: int) -> Locator:
    """Press the button of the k-th of the page's networks, and wait for its drawing."""
    figure = page.locator(".lf[data-network]").nth(k)
    figure.scroll_into_view_if_needed()
    figure.locator(".lf-go").click()
    expect(figure).to_have_attribute("data-network", "idle", timeout=PATIENCE)
    return figure


def stored(state: dict[str, Any]) -> np.ndarray:
    """The pictures that Python stored for the network's panel, [R, C, H, W] in [-1, 1]."""
    sizes = [len(control["values"]) for control in state["spec"]["controls"]]
    (mark,) = state["spec"]["panels"][state["spec"]["network"]["panel"]]["marks"]
    return numbers(mark["fields"]["pixels"], sizes, state["pos"])


def shown(figure: Locator, shape: tuple[int, ...], gap: int = 1) -> np.ndarray:
    """The pictures that the figure shows, as grey levels."""
    grey = pixels({"png": figure.locator(".lf-sheet canvas").evaluate("(c) => c.toDataURL()")})
    rows, columns, h, w = shape
    return np.stack(
        [
            [grey[r * (h + gap) :, c * (w + gap) :, 0][:h, :w] for c in range(columns)]
            for r in range(rows)
        ]
    )


def check_networks(page: Page, name: str) -> list[str]:
    """Assert that each network of a page draws what Python drew; the files that this fetched.

    From the same noise, with the weights of the click, to two levels of grey (the still has one
    of its own).
    """
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{HTML.as_uri()}/{name}")
    for box in page.locator(".lf-static[data-network]").all():
        box.scroll_into_view_if_needed()
        box.locator(".lf").wait_for()
    assert not [url for url in asked if "/networks/" in url], "before the click nothing is fetched"
    states = [state for state in states_of(name) if "network" in state["spec"]]
    for k, state in enumerate(states):
        wanted = np.clip((stored(state) + 1) * 127.5, 0, 255)
        got = shown(begin(page, k), wanted.shape)
        assert np.abs(got - wanted).max() <= 2 and np.ptp(got) > 150
    away = (f"{HTML.as_uri()}/", "data:", "blob:")
    assert all(url.startswith(away) for url in asked), "no request leaves"
    return [url for url in asked if "/networks/" in url]


@pytest.mark.parametrize("name", DRAWING)
def test_the_page_draws_what_python_drew(name, desk):
    page = desk.new_page()
    fetched = check_networks(page, name)
    assert len(set(fetched)) == len(fetched), "several figures share what was fetched"
    page.close()


WITHOUT = """const Right = Blob;
globalThis.Blob = class extends Right {
  constructor(parts, options) { super(["delete globalThis.WebAssembly;", ...parts], options); }
};"""


def test_without_webassembly(desk):
    """The same picture by plain JavaScript, on the page of the smallest network."""
    name = next(name for name in DRAWING if 'data-network="vae-plane"' in SOURCE[name])
    page = desk.new_page()
    page.add_init_script(WITHOUT)
    workers: list[Any] = []
    page.on("worker", lambda worker: workers.append(worker))
    check_networks(page, name)
    assert [worker.evaluate("() => typeof WebAssembly") for worker in workers] == ["undefined"]
    page.close()


@pytest.mark.parametrize("name", DRAWING)
def test_what_a_click_fetches_is_small_and_its_button_says_so(name):
    folder = HTML / "_static" / "networks"
    common = (folder / "runner.js").stat().st_size
    for state in states_of(name):
        if asked := state["spec"].get("network"):
            size = common + (folder / f"{asked['name']}.js").stat().st_size
            assert size <= FETCHED and abs(asked["megabytes"] - size / 1e6) <= 0.051


def test_the_built_book_has_the_networks_of_its_pages_and_no_others():
    names = {
        s["spec"]["network"]["name"] for n in SOURCE for s in states_of(n) if "network" in s["spec"]
    }
    assert names, "no page has a network"
    found = {path.stem for path in (HTML / "_static" / "networks").glob("*.js")}
    assert found == {"runner", *names}
