"""The networks of the book's own pages: the click, and the picture that Python's network drew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawn import numbers, pixels, points
from networks import CASES
from pages import DRAWING, HTML, SOURCE, states_of
from playwright.sync_api import Locator, Page, expect
from torch.testing import assert_close
from v8 import KERNEL, RUN, rounded, text

from ddpm_lite.page import export

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
    """What Python stored for the network: pictures [R, C, H, W] in [-1, 1], or points [n]."""
    sizes = [len(control["values"]) for control in state["spec"]["controls"]]
    mark = state["spec"]["panels"][state["spec"]["network"]["panel"]]["marks"][0]
    return numbers(mark["fields"][state["spec"]["network"]["field"]], sizes, state["pos"])


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


def check_pictures(figure: Locator, pictures: np.ndarray) -> None:
    """To two levels of grey (the still has one of its own)."""
    wanted = np.clip((pictures + 1) * 127.5, 0, 255)
    got = shown(figure, wanted.shape)
    assert np.abs(got - wanted).max() <= 2 and np.ptp(got) > 150


def check_points(figure: Locator, x: np.ndarray, xlim: tuple[float, float]) -> None:
    """To a pixel."""
    got = points(figure.locator('[data-mark="0"] .lf-line').get_attribute("d"))[:, 0]
    width = float(figure.locator(".lf-inner").get_attribute("width"))
    wanted = (x - xlim[0]) / (xlim[1] - xlim[0]) * width
    assert np.abs(got - wanted).max() <= 1 and np.ptp(got) > width / 3


def check_networks(page: Page, name: str) -> list[str]:
    """Assert that each network of a page draws what Python drew; the files that this fetched.

    From the same noise, with the weights of the click.
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
        figure, wanted = begin(page, k), stored(state)
        if state["spec"]["network"]["field"] == "pixels":
            check_pictures(figure, wanted)
        else:
            panel = state["spec"]["panels"][state["spec"]["network"]["panel"]]
            check_points(figure, wanted, panel["xlim"])
    away = (f"{HTML.as_uri()}/", "data:", "blob:")
    assert all(url.startswith(away) for url in asked), "no request leaves"
    return [url for url in asked if "/networks/" in url]


@pytest.mark.parametrize("name", DRAWING)
def test_the_page_draws_what_python_drew(name, desk):
    page = desk.new_page()
    fetched = check_networks(page, name)
    assert len(set(fetched)) == len(fetched), "several figures share what was fetched"
    page.close()


@pytest.mark.parametrize("by", [KERNEL, None], ids=["wasm", "plain"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_its_numbers_are_pytorch_s(desk, case, by):
    net, inputs = case()
    net, page = rounded(net), desk.new_page()
    program, weights = export(net, [x[:2] for x in inputs.values()])
    asked = [program, text(weights), text(by), {k: text(v) for k, v in inputs.items()}]
    found = page.evaluate(f"(asked) => {{ {RUN} return once(...asked); }}", asked)
    expected = net(*inputs.values()).detach()
    assert_close(torch.tensor(found).reshape(expected.shape), expected, rtol=0, atol=1e-4)
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
