"""A Chromium that starts, for the tests of the pages: one that is here, else installed now."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "CHROMIUM"  # path of the browser to use
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
ADVICE = f"""No browser for the tests of the pages starts, and none could be installed.
Install Chromium or Chrome; on Debian with what Playwright's own program needs, as root:
    apt-get install chromium libatomic1
Or name a browser:  {VARIABLE}=/path/to/chromium make test"""

# Playwright runs in processes of its own: one that crashes or hangs is then only an exit code.
OPEN = """import sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[1], args=sys.argv[2:])
    browser.new_page().goto("data:text/html,<p>It starts.")
    browser.close()
"""
PLAYWRIGHTS = """from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""
QUICK, LONG = 120, 900  # seconds, to start a browser and to install one


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def attempt(command: list[str], seconds: int) -> tuple[bool, str]:
    """Run a command to its end; whether that was a good one, and the line that says most."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    lines = done.stdout.strip().splitlines() or [f"exit code {done.returncode}"]
    missing = (line.strip() for line in lines if "error while loading shared" in line)
    return done.returncode == 0, next(missing, lines[-1])


def candidates() -> Iterator[str]:
    """Paths of browsers that may start: CHROMIUM alone, or the system's, then Playwright's own."""
    if named := os.environ.get(VARIABLE):
        yield from filter(None, [shutil.which(named)])
        return
    yield from filter(None, map(shutil.which, NAMES))
    yield from (path for path in MAC if Path(path).exists())
    answered, path = attempt([sys.executable, "-c", PLAYWRIGHTS], QUICK)
    if answered and Path(path).exists():
        yield path


def find() -> str | None:
    """Path of a Chromium that opens a page, or None; says what does not start, and why."""
    for path in candidates():
        sandbox = ["--no-sandbox"] * is_root()  # root cannot have one
        starts, said = attempt([sys.executable, "-c", OPEN, path, *sandbox], QUICK)
        if starts:
            return path
        print(f"{path} does not start: {said}", flush=True)
    return None


def ways() -> list[list[list[str]]]:
    """Commands that may bring a browser, the least that is installed first."""
    playwright = [sys.executable, "-m", "playwright", "install"]
    found = [[[*playwright, "chromium"]]]
    if shutil.which("apt-get") and is_root():
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
        # Playwright's own program needs libatomic, which a bare Debian does not have
        debian = [["apt-get", "update", "-q"], [*install, "libatomic1"], [*install, "chromium"]]
        found += [debian, [[*playwright, "--with-deps", "chromium"]]]
    return found


def get() -> str | None:
    """Path of a browser that starts, installed if there is none; or None, with the remedy said."""
    named = os.environ.get(VARIABLE)
    if named and not shutil.which(named):
        print(f"{VARIABLE} names {named}, which does not exist or is no program.")
        print(f"Name another, or none: env -u {VARIABLE} make test")
        return None
    if path := find():
        return path
    for commands in ways():
        for command in commands:
            print("$", " ".join(command), flush=True)
            done, said = attempt(command, LONG)
            if not done:  # the next may do without it
                print(f"failed: {said}", flush=True)
        if path := find():
            return path
    print(ADVICE)
    return None
