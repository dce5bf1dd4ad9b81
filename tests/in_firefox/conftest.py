"""A headless Firefox for `make test-firefox`; FIREFOX names it, if it is not in PATH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from marionette import Firefox


@pytest.fixture(scope="session")
def firefox(tmp_path_factory) -> Iterator[Firefox]:
    path = os.environ.get("FIREFOX") or shutil.which("firefox") or shutil.which("firefox-esr")
    if path is None:
        pytest.fail("no Firefox found: install it, or name it, FIREFOX=/path/to/firefox")
    running = Firefox(path, tmp_path_factory.mktemp("firefox"))
    yield running
    running.close()
