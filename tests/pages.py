"""The built book in a real browser: its pages, a server, a page opened with the network cut off.

Pages come from _toc.yml and from the built folder (_build/html, or BOOK_HTML).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import BrowserContext, Page

ROOT = Path(__file__).resolve().parents[1]
HTML = Path(os.environ.get("BOOK_HTML", ROOT / "_build" / "html")).resolve()
PHONE = {"width": 375, "height": 812}
DESK = {"width": 1280, "height": 900}
STATE = re.compile(r'<script type="application/json" class="lf-state">(.*?)</script>', re.DOTALL)


def toc_pages() -> list[str]:
    """The pages that _toc.yml names, as paths below the built folder."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.extend(f"{node[key]}.html" for key in ("root", "file") if key in node)
        for child in node.values() if isinstance(node, dict) else node:
            if isinstance(child, dict | list):
                walk(child)

    walk(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    return found


BUILT = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if "_static" not in path.parts and "_sources" not in path.parts
)
PAGES = [name for name in toc_pages() if name in BUILT]
OTHERS = [name for name in BUILT if name not in PAGES]  # search, index of names, redirects
SOURCE = {name: (HTML / name).read_text(encoding="utf-8") for name in PAGES}
ALIVE = [name for name in PAGES if STATE.search(SOURCE[name])]
DRAWING = [name for name in PAGES if 'class="lf-static" data-network=' in SOURCE[name]]


# ---- the browser ---------------------------------------------------------------------------------


@dataclass
class Opened:
    """A page in the browser, with what it asked for and what it complained about."""

    name: str
    page: Page
    left: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def states(self) -> list[dict[str, Any]]:
        """Of its figures, but those that a network draws."""
        return [state for state in states_of(self.name) if "network" not in state["spec"]]

    @property
    def networks(self) -> list[dict[str, Any]]:
        """Of the figures that a network draws."""
        return [state for state in states_of(self.name) if "network" in state["spec"]]


def states_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in STATE.findall(SOURCE[name])]


def open_page(context: BrowserContext, base: str, name: str) -> Opened:
    opened = Opened(name, context.new_page())
    page = opened.page

    def guard(route: Any) -> None:
        url = route.request.url
        if url.startswith((f"{base}/", "data:", "blob:")):
            route.continue_()
        else:
            opened.left.append(url)
            route.abort()

    page.route("**/*", guard)
    page.on(
        "console",
        lambda m: (
            opened.complaints.append(f"{m.type}: {m.text}")
            if m.type in ("error", "warning")
            else None
        ),
    )
    page.on("pageerror", lambda error: opened.complaints.append(f"exception: {error}"))
    page.on("requestfailed", lambda request: opened.missing.append(request.url))
    page.on("response", lambda r: opened.missing.append(r.url) if r.status >= 400 else None)
    page.goto(f"{base}/{name}", wait_until="load")
    page.evaluate("() => document.fonts.ready")
    page.add_style_tag(content=PLAIN)
    page.evaluate(WAKE)
    page.evaluate(STILL)
    settle(page)  # formulas and fonts move the layout; figures follow a frame later
    return opened


# The theme's sidebars do not slide, and all of the page is laid out.
PLAIN = """* { transition: none !important } section { content-visibility: visible !important }"""

# See each figure once: they wake when they come near the screen.
WAKE = """async () => {
  for (const box of document.querySelectorAll(".lf-static")) {
    box.scrollIntoView({ behavior: "instant" });
    for (let k = 0; k < 20 && !box.querySelector(".lf"); k++) {
      await new Promise(requestAnimationFrame);
    }
  }
  scrollTo({ top: 0, behavior: "instant" });
}"""

# Wait until no figure has changed its width for 15 frames (10 seconds at most).
STILL = """async () => {
  const figures = [...document.querySelectorAll(".lf-svg")];
  const widths = () => figures.map((svg) => svg.getBoundingClientRect().width).join();
  for (let still = 0, last = "", n = 0; still < 15 && n < 600; n++) {
    await new Promise(requestAnimationFrame);
    still = widths() === last ? still + 1 : 0;
    last = widths();
  }
}"""

FITS = """() => [...document.querySelectorAll(".lf-svg")].every((svg) => {
  const [, , width] = svg.getAttribute("viewBox")?.split(" ").map(Number) ?? [];
  const drawn = svg.getBoundingClientRect().width; // 0 in a closed box
  return !drawn || Math.abs(drawn / width - 1) < 0.01;
})"""


def settle(page: Page) -> None:
    """Wait until the layout has been drawn, and the figures have followed it (seconds at most)."""
    page.evaluate("() => new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))")
    page.wait_for_function(FITS, timeout=10_000)
