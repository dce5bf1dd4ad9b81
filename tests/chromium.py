"""The browser that the tests of the pages and of JupyterLab drive."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright

ROOT = Path(__file__).resolve().parents[1]
QUIET = [  # a browser that calls nobody
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def find() -> str:
    """CHROMIUM, or what tools/browser.py finds; fails with its advice if there is none."""
    spec = importlib.util.spec_from_file_location("browser", ROOT / "tools" / "browser.py")
    browser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(browser)
    path = os.environ.get("CHROMIUM") or browser.find()
    if path is None:
        pytest.fail(browser.ADVICE, pytrace=False)
    return path


def launch(playwright: Playwright, path: str) -> Browser:
    """Start the browser at `path`; as root it cannot have its sandbox."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return playwright.chromium.launch(executable_path=path, args=QUIET + ["--no-sandbox"] * root)
