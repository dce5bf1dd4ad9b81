"""A Chromium for the tests of the built pages: the system's, else Playwright's own, else apt's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VARIABLE = "CHROMIUM"  # path of the browser to use
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
ADVICE = f"""No browser was found for the tests of the pages, and none could be installed.
Install Chromium or Chrome, or name one:  {VARIABLE}=/path/to/chromium make test"""


def find() -> str | None:
    """Path of a Chromium or Chrome, or None."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return found or next((path for path in MAC if Path(path).exists()), None) or playwrights()


def playwrights() -> str | None:
    """Path of the browser that `playwright install chromium` puts in its own folder, or None."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str | None:
    """Fetch Playwright's Chromium, or as root Debian's; returns its path or None."""
    attempts = [[[sys.executable, "-m", "playwright", "install", "chromium"]]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        package = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"]
        attempts.append([["apt-get", "update", "-q"], package])
    for commands in attempts:
        for command in commands:
            print("$", " ".join(command), flush=True)
            if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
                break
        if path := find():
            return path
    return None
