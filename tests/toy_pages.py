"""Pages with figures that the networks of toys.py draw, and how their button is pressed."""

from __future__ import annotations

import runpy
from pathlib import Path

from pages import ROOT
from playwright.sync_api import Locator, Page, expect

from ddpm_lite.live import NetworkFigure, stored

HEAD = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="_static/live.css">'
TAIL = '<script src="_static/live.js" defer></script>'
EXTENSION = runpy.run_path(str(ROOT / "book" / "_ext" / "live_figures.py"))


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


def button(page: Page, k: int = 0) -> Locator:
    return page.locator(".lf-go").nth(k)


def wait(page: Page, state: str, k: int = 0) -> None:
    """Until the network of figure k sleeps, loads, is idle or runs."""
    expect(page.locator(".lf").nth(k)).to_have_attribute("data-network", state, timeout=20_000)


def begin(page: Page, k: int = 0) -> None:
    button(page, k).click()
    wait(page, "idle", k)
