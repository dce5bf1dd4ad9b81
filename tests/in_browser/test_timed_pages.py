"""The benchmarks of pages, at their smallest: what they store, not how long it takes."""

from __future__ import annotations

import json
import runpy
from typing import Any

import chromium
import page_network
import pages as book
import pytest


@pytest.fixture
def timed(monkeypatch) -> dict[str, Any]:
    """benchmarks/pages.py, by its path: the tests have a module of the same name."""
    monkeypatch.setenv("CHROMIUM", chromium.find())
    return runpy.run_path(str(book.ROOT / "benchmarks" / "pages.py"), run_name="timed")


def test_a_page_is_timed_in_two_builds(timed, tmp_path, capsys):
    out = tmp_path / "pages.json"
    builds = [str(book.HTML)] * 2
    timed["main"]([*builds, "--pages", "02", "--rounds", "1", "--slower", "1", "--out", str(out)])
    (name,) = (path.stem for path in (book.HTML / "book").glob("02-*.html"))
    one, other = json.loads(out.read_text("utf-8"))[name]
    for found in (one, other):
        assert 0 < found["first"] <= found["done"] < 60
    assert one["nodes"] == other["nodes"] > 1000 and one["bytes"] == other["bytes"]
    assert one["bytes"] > (book.HTML / "book" / f"{name}.html").stat().st_size
    assert name in capsys.readouterr().out


def test_a_chapter_that_is_not_there_is_told(timed, capsys):
    with pytest.raises(SystemExit):
        timed["main"]([str(book.HTML), "--pages", "77"])
    assert "no chapter 77" in capsys.readouterr().err


def test_the_page_s_network_is_timed(timed, tmp_path):
    out = tmp_path / "network.json"
    page_network.main(["--rounds", "1", "--steps", "1", "--out", str(out)])
    found = json.loads(out.read_text("utf-8"))
    assert found["bytes"] < 3_000_000 and found["float16"] < 1e-4
    for browser in ("chromium", "v8"):
        for way in ("wasm", "plain"):
            row = found[browser][way]
            assert row["error"] < 1e-4 and 0 < row["load"] < row["first"]
