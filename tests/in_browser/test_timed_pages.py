"""The benchmarks of pages, at their smallest: what they store, not how long it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import chromium
from pages import HTML, ROOT


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: this one has a browser already, and Playwright wants one alone."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    env = os.environ | {"CHROMIUM": chromium.find()}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def test_a_page_is_timed_in_two_builds(tmp_path):
    out = tmp_path / "pages.json"
    few = ["--pages", "02", "--rounds", "1", "--slower", "1", "--out", str(out)]
    done = run("pages.py", str(HTML), str(HTML), *few)
    assert done.returncode == 0, done.stderr
    (name,) = (path.stem for path in (HTML / "book").glob("02-*.html"))
    one, other = json.loads(out.read_text("utf-8"))[name]
    for found in (one, other):
        assert 0 < found["first"] <= found["done"] < 60
    assert one["nodes"] == other["nodes"] > 1000 and one["bytes"] == other["bytes"]
    assert one["bytes"] > (HTML / "book" / f"{name}.html").stat().st_size
    assert name in done.stdout


def test_a_chapter_that_is_not_there_is_told():
    done = run("pages.py", str(HTML), "--pages", "77")
    assert done.returncode == 2 and "no chapter 77" in done.stderr


def test_the_page_s_network_is_timed(tmp_path):
    out = tmp_path / "network.json"
    done = run("page_network.py", "--rounds", "1", "--steps", "1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert found["bytes"] < 3_000_000 and found["float16"] < 1e-4
    for browser in ("chromium", "v8"):
        for way in ("wasm", "plain"):
            row = found[browser][way]
            assert row["error"] < 1e-4 and 0 < row["load"] < row["first"]
