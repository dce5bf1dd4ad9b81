"""A server, a browser, and each page opened once for all tests; a page's tests share a process."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
import toys
from pages import DESK, HTML, PAGES, Opened, open_page
from playwright.sync_api import BrowserContext, Page, sync_playwright
from toy_pages import write_page

from ddpm_lite.live import NetworkFigure


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uses an opened page belongs together (`pytest --dist loadgroup`)."""
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("opened")
        if name:
            item.add_marker(pytest.mark.xdist_group(name))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    path = chromium.find()
    with sync_playwright() as playwright:
        running = chromium.launch(playwright, path)
        yield running
        running.close()


@pytest.fixture(scope="session")
def desk(browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport=DESK, color_scheme="light") as context:
        yield context


@pytest.fixture(scope="session", params=PAGES)
def opened(request, desk) -> Iterator[Opened]:
    """Each page in turn, opened once from the disk."""
    opened = open_page(desk, HTML.as_uri(), request.param)
    yield opened
    opened.page.close()


@pytest.fixture
def networks(monkeypatch, tmp_path_factory) -> None:
    """The networks of toys.py in the place of the package's."""
    toys.install(monkeypatch, tmp_path_factory.mktemp("toys"))


@pytest.fixture
def open_figures(networks, desk: BrowserContext, tmp_path: Path) -> Iterator:
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
