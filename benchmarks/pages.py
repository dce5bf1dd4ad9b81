"""How long a page of the book takes to open: builds beside each other, on a slow processor.

    python benchmarks/pages.py _build/html [OTHER/_build/html ...] [--pages 06 09] [--slower 4]
                               [--rounds 3] [--out FILE]

Each page is opened from the disk in a fresh context of Chromium, whose processor is made so many
times slower; the builds take turns. For each: the seconds until the first screen is readable and
its figure alive ("first"; a live figure counts if it is within the first screen); those until the
page is done ("done": loaded, formulas set, all that the first frames ask for drawn); its DOM nodes;
and the bytes of all files that it asks for. CHROMIUM names the browser. Prints the medians and
stores them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from common import RESULTS, Results, at_least, command, flags, refusing
from playwright.sync_api import Browser, sync_playwright
from timing import medians, processor

SCREEN = {"width": 1280, "height": 900}
CHAPTER = "[0-9][0-9]-*.html"

# Notes when the first figure of the first screen is drawn; looks once a frame.
WATCH = """(() => {
  const look = () => {
    const box = document.querySelector(".lf-static");
    const away = box && box.getBoundingClientRect().top > innerHeight;
    const alive = box?.querySelector(".lf-svg[viewBox], .lf canvas");
    if (alive || away) window.figureAt = away ? 0 : performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})()"""

DONE = """async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  for (let k = 0; k < 2; k++) await new Promise(requestAnimationFrame);
  const paint = performance.getEntriesByName("first-contentful-paint")[0].startTime;
  return {
    first: Math.max(paint, window.figureAt ?? 0) / 1000,
    done: performance.now() / 1000,
    nodes: document.getElementsByTagName("*").length,
  };
}"""


def measure(browser: Browser, page: Path, slower: float) -> dict[str, float]:
    """Open a page once: seconds, nodes, bytes."""
    asked: set[str] = set()
    with browser.new_context(viewport=SCREEN) as context:
        tab = context.new_page()
        tab.on("request", lambda request: asked.add(request.url))
        tab.add_init_script(WATCH)
        context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": slower})
        tab.goto(page.resolve().as_uri(), wait_until="load", timeout=120_000)
        found = tab.evaluate(DONE)
    files = [Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")]
    return found | {"bytes": sum(path.stat().st_size for path in set(files))}


def chapters(build: Path, wanted: Sequence[str]) -> list[str]:
    """The names of the build's chapters that begin with one of these, or of all."""
    names = sorted(path.name for path in (build / "book").glob(CHAPTER))
    names = [name for name in names if not wanted or name.startswith(tuple(wanted))]
    if not names:
        raise ValueError(
            f"no chapter {' '.join(wanted)} in {build}: build the book, or name others"
        )
    return names


def compare(
    browser: Browser, builds: Sequence[Path], name: str, rounds: int, slower: float
) -> list[dict[str, float]]:
    """The medians of one page in each build, which take turns; the first round warms up."""
    found: list[list[dict[str, float]]] = [[] for _ in builds]
    for k in range(1 + rounds):
        for build, measured in zip(builds, found, strict=True):
            values = measure(browser, build / "book" / name, slower)
            measured += [values] if k else []
    return [medians({key: [m[key] for m in ms] for key in ms[0]}) for ms in found]


def line(name: str, values: Sequence[dict[str, float]]) -> str:
    columns = [
        f"{v['first']:6.2f} {v['done']:6.2f} {v['nodes']:7,.0f} {v['bytes'] / 1000:7,.0f}"
        for v in values
    ]
    return f"{name:<26}" + "  |".join(columns)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags(__doc__, RESULTS / "pages.json")
    parser.add_argument("builds", type=Path, nargs="+", help="folders of built pages")
    parser.add_argument("--pages", nargs="*", default=[], help="the first digits of chapters")
    parser.add_argument("--slower", type=at_least(1), default=4)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    args: argparse.Namespace = parser.parse_args(arguments)
    about: dict[str, Any] = {
        "command": command("pages.py", arguments),
        "machine": processor(),
        "slower": args.slower,
    }
    with refusing(parser):
        names = chapters(args.builds[-1], args.pages)
        results = Results(args.out, about)
    print(f"{'':<26}" + "  |".join(" first   done   nodes      kB" for _ in args.builds))
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM")  # else Playwright's own
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name in names:
            values = compare(browser, args.builds, name, args.rounds, args.slower)
            results.values[name.removesuffix(".html")] = values
            print(line(name.removesuffix(".html"), values), flush=True)
        browser.close()
    results.write()


if __name__ == "__main__":
    main()
