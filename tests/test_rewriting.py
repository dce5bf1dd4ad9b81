"""A notebook is rewritten whole or not at all, whatever happens."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import nbclient
import pytest
from small_book import ROOT, dumped, make, notebook, tool

GOOD = dumped(notebook())
CRLF = GOOD.replace(b"\n", b"\r\n")


@pytest.fixture
def path(tmp_path) -> Path:
    """The chapter of a small book: one to be cleaned."""
    path = make(tmp_path)
    path.write_bytes(CRLF)
    return path


class Quick:
    """Stands for nbclient: 'executes' by storing another output."""

    def __init__(self, nb, **options):
        self.nb = nb

    def execute(self, **options):
        self.nb.cells[1].outputs[0].text = "2\n"


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed(*_):
    raise KeyboardInterrupt


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(nbclient, "NotebookClient", Quick)


@pytest.mark.parametrize("command", ["execute", "clean"])
@pytest.mark.parametrize(
    ("call", "fails", "error"),
    [("fsync", full_disk, OSError), ("replace", killed, KeyboardInterrupt)],
)
def test_a_failed_write_leaves_the_notebook_of_before(
    command, call, fails, error, path, quick, monkeypatch
):
    files = sorted(path.parent.iterdir())
    monkeypatch.setattr(os, call, fails)
    with pytest.raises(error):
        getattr(tool, command)(path)
    assert path.read_bytes() == CRLF
    assert sorted(path.parent.iterdir()) == files


@pytest.mark.parametrize("command", ["execute", "clean"])
def test_a_rewritten_notebook_keeps_its_mode_and_its_link(command, path, quick):
    path.chmod(0o640)
    link = path.with_name("link.ipynb")
    link.symlink_to(path)
    getattr(tool, command)(link)
    assert path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert path.read_bytes() == GOOD.replace(
        b'"1\\n"', b'"2\\n"' if command == "execute" else b'"1\\n"'
    )


def run(command: str, path: Path, before: str = "") -> subprocess.CompletedProcess:
    script = f'{before} exec "$0" "$@"'
    words = [sys.executable, str(ROOT / "tools" / "notebooks.py"), command, str(path)]
    return subprocess.run(["sh", "-c", script, *words], capture_output=True, text=True)


def test_a_disk_that_is_full_is_named_and_loses_nothing(path):
    before = GOOD + b" " * 5000
    path.write_bytes(before)
    done = run("clean", path, "ulimit -f 0;")
    assert done.returncode == 1
    assert "01-small.ipynb: cannot be read or written: File too large" in done.stderr
    assert path.read_bytes() == before
    assert {p.name for p in path.parent.iterdir()} == {"01-small.ipynb", "conftest.py", "intro.md"}


@pytest.mark.parametrize("command", ["execute", "clean"])
def test_a_damaged_notebook_is_not_rewritten(command, path):
    path.write_bytes(GOOD[:200])
    done = run(command, path)
    assert done.returncode == 1
    assert "01-small.ipynb: is not JSON" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == GOOD[:200]
