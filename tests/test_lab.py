"""A live figure in JupyterLab, for real: server, kernel and browser.

The figure appears when its cell runs; moving the slider moves the traitlet in Python; setting the
traitlet moves the slider; and a stored notebook shows the still picture before anything has run.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import chromium
import nbformat
import numpy as np
import pytest
import toys
from drawn import check_greys
from playwright.sync_api import Page, expect, sync_playwright

from ddpm_lite.live import normals

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 40_000  # milliseconds for a server, a page or a kernel to be there

FIGURE = """\
import numpy as np
from ddpm_lite.live import Curve, LiveFigure, Slider
x = np.linspace(0, 1, 50)
fig = LiveFigure(lambda k: [Curve(x, k * x)], title="A slope", alt="A line of slope k.",
                 k=Slider(range(1, 11), label="slope k", unit="units", start=3))
fig"""
NETWORK = f"""\
import builtins, pathlib, sys, tempfile
sys.path.append({str(ROOT / "tests")!r})
import toys
toys.install(builtins, pathlib.Path(tempfile.mkdtemp()))
toys.walk()"""
NEWS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"


def notebook(path: Path, *cells: str, outputs: list | None = None) -> None:
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nb.cells[0].outputs = outputs or []
    nbformat.write(nb, path)


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """Address of a JupyterLab with three notebooks; it ends with the tests."""
    from ddpm_lite.live import Curve, LiveFigure, Slider

    home = tmp_path_factory.mktemp("lab")
    work = home / "work"
    work.mkdir()
    notebook(work / "new.ipynb", FIGURE, "print('chosen', fig.values)", "fig.set(k=9)")
    notebook(work / "network.ipynb", NETWORK)
    figure = LiveFigure(
        lambda k: [Curve([0, 1], [0, k])],
        title="Stored",
        alt="A line that was stored.",
        k=Slider(range(3)),
    )
    stored = nbformat.v4.new_output("display_data", data={"text/html": figure.to_html()})
    notebook(work / "stored.ipynb", "fig", outputs=[stored])
    (home / "settings" / NEWS).parent.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (home / "settings" / NEWS).write_text(json.dumps(quiet), encoding="utf-8")

    token = secrets.token_hex(16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {
        **os.environ,
        **folders,
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(ROOT),
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={work}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with (home / "log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/api/status?token={token}", server, home / "log")
            yield f"{address}/doc/tree/{{}}?token={token}"
        finally:
            server.terminate()
            server.wait(timeout=20)


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    """Until the server answers; fails with its log if it ends or takes too long."""
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')[-3000:]}")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    path = chromium.find()
    with sync_playwright() as playwright:
        browser = chromium.launch(playwright, path)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield page
        browser.close()


def run_cell(page: Page, n: int) -> None:
    """Run cell n, again until JupyterLab takes it (it drops keys while the kernel connects)."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(n)
    taken = re.compile(r"\[(\*|\d+)\]")
    for _ in range(PATIENCE // 1000):
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        try:
            return expect(cell.locator(".jp-InputPrompt")).to_have_text(taken, timeout=1000)
        except AssertionError:
            continue
    pytest.fail(f"cell {n} did not run")


def output(page: Page, n: int):
    return page.locator(".jp-Notebook .jp-CodeCell").nth(n).locator(".jp-OutputArea-output")


def test_a_stored_figure_shows_its_still_picture(lab, page):
    page.goto(lab.format("stored.ipynb"))
    still = page.locator("img.lf-still")
    expect(still).to_be_visible()
    expect(still).to_have_attribute("alt", "A line that was stored.")
    expect(page.locator(".lf")).to_have_count(0)
    page.wait_for_function("() => document.querySelector('img.lf-still').naturalWidth > 200")


def test_slider_and_traitlet_move_each_other(lab, page):
    page.goto(lab.format("new.ipynb"))
    page.locator(".jp-Notebook .cm-content").first.wait_for()
    run_cell(page, 0)

    slider = page.locator(".lf input[type=range]")  # the figure appears
    expect(slider).to_have_value("2")
    expect(slider).to_have_attribute("aria-valuetext", "slope k 3 units")
    line = page.locator(".lf .lf-curve")
    expect(line).to_have_attribute("d", re.compile(r"^M[\d. L]+$"))
    start = line.get_attribute("d")

    slider.focus()  # moved by keyboard: JupyterLab does not take the arrow keys
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "slope k 6 units")
    expect(slider).to_be_focused()
    moved = line.get_attribute("d")
    assert moved != start

    run_cell(page, 1)  # Python knows
    expect(output(page, 1)).to_have_text(re.compile(r"chosen \{'k': 6\}"))

    run_cell(page, 2)  # and Python moves the slider
    expect(slider).to_have_value("8")
    expect(slider).to_have_attribute("aria-valuetext", "slope k 9 units")
    assert line.get_attribute("d") not in (start, moved)


def test_themes(lab, page):
    """The figure takes JupyterLab's theme at once (after the test above, on its page)."""
    line = page.locator(".lf .lf-curve")
    ink = "(e) => getComputedStyle(e).stroke"
    light = line.evaluate(ink)
    page.evaluate("() => { document.body.dataset.jpThemeLight = 'false'; }")
    assert line.evaluate(ink) != light
    page.evaluate("() => { document.body.dataset.jpThemeLight = 'true'; }")
    assert line.evaluate(ink) == light


def test_a_network_comes_from_python_on_the_click(lab, page):
    page.goto(lab.format("network.ipynb"))
    page.locator(".jp-Notebook .cm-content").first.wait_for()
    run_cell(page, 0)
    figure = page.locator(".lf")
    expect(figure).to_have_attribute("data-network", "asleep")
    check_greys(page, np.zeros((4, 784)))
    button = figure.locator(".lf-go")
    for seed in (3, 4):
        button.click()
        expect(figure.locator(".lf-says")).to_have_text(re.compile("^5 steps in"))
        expect(figure).to_have_attribute("data-network", "idle")
        check_greys(page, toys.walked(normals(seed, (4, 28, 28)), 5, 2.0, seed))
