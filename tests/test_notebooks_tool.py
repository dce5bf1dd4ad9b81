"""`tools/notebooks.py` executes, cleans, and finds what a comparison of outputs cannot."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from small_book import CELLS, PRINT, ROOT, TABLE, make, output, tool


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A book of one small notebook, executed."""
    path = make(tmp_path_factory.mktemp("site"), *CELLS)
    tool.execute(path)
    return path.parents[1]


@pytest.fixture
def small(site) -> nbformat.NotebookNode:
    """The executed notebook, to be changed at will."""
    return nbformat.read(site / "book" / "01-small.ipynb", as_version=4)


def findings(root: Path, nb=None) -> str:
    """What `check` says of the notebook after a change."""
    path = root / "book" / "01-small.ipynb"
    if nb is not None:
        path.write_text(tool.dumps(nb), encoding="utf-8")
    return "\n".join(tool.check(path, tool.toc_files(root)))


@pytest.fixture
def copy(site, tmp_path) -> Path:
    return Path(shutil.copytree(site, tmp_path / "site"))


def test_check_passes_what_execution_stored(copy):
    assert findings(copy) == ""


def test_check_catches_a_chapter_that_is_not_in_the_toc(copy):
    (copy / "_toc.yml").write_text("root: book/intro\n")
    assert "not listed in _toc.yml" in findings(copy)


def test_check_catches_a_toc_entry_without_a_page(copy, capsys):
    with (copy / "_toc.yml").open("a") as toc:
        toc.write("- file: book/02-missing\n")
    assert tool.check_all(copy, []) == 1
    assert "02-missing, which does not exist" in capsys.readouterr().out


def test_check_catches_code_changed_without_execution(copy, small):
    small.cells[PRINT].source = small.cells[PRINT].source.replace("4", "5")
    assert "code changed" in findings(copy, tool.normalise(small))


def tagged(nb, *tags):
    nb.cells[PRINT].metadata["tags"] = list(tags)


def never_run(nb):
    for cell in nb.cells:
        cell.outputs, cell.execution_count = [], None


def run_out_of_order(nb):
    nb.cells[PRINT].execution_count = 9


def grown(nb):
    output(nb, PRINT).text += "x" * 600_000


def raising(nb):
    error = {"ename": "ValueError", "evalue": "", "traceback": ["ValueError"]}
    nb.cells[PRINT].outputs = [nbformat.v4.new_output("error", **error)]


def bare_widget(nb):
    view = {tool.VIEW: {"model_id": "a"}, "text/plain": "IntSlider()"}
    nb.cells[PRINT].outputs = [nbformat.v4.new_output("display_data", view)]


def warning(nb):
    nb.cells[PRINT].outputs = [nbformat.v4.new_output("stream", name="stderr", text="deprecated")]


def run_twice(nb):
    nb.cells[TABLE].outputs[0].execution_count = 9


def shows(mime, text):
    """The printed number becomes an output of this MIME type."""

    def change(nb):
        nb.cells[PRINT].outputs = [nbformat.v4.new_output("display_data", {mime: text})]

    return change


def stores(kind, **fields):
    def change(nb):
        tagged(nb, *["raises-exception"] * (kind == "error"))
        nb.cells[PRINT].outputs = [nbformat.v4.new_output(kind, **fields)]

    return change


AT = "<object at 0x7F0012345678>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (never_run, "no stored outputs"),
        (run_out_of_order, "from top to bottom"),
        (grown, "the limit is 600,000"),
        (raising, "error output (ValueError)"),
        (bare_widget, "bare ipywidget"),
        (warning, "writes to stderr"),
        (run_twice, "another run, [9]"),
        (stores("stream", text=AT), "memory address"),
        (stores("error", ename="E", evalue=AT, traceback=[]), "memory address"),
        (stores("error", ename="E", evalue="", traceback=["", AT]), "memory address"),
        (shows("text/plain", AT.lower()), "memory address"),
        (shows("text/html", f"<pre>{AT.replace('<', '&lt;')}</pre>"), "memory address"),
        (shows("text/markdown", f"`{AT}`"), "memory address"),
        (shows("text/html", '<script src="https://cdn.org/a.js">'), "asks another host"),
        (lambda nb: tagged(nb, "skip"), "unknown tags ['skip']"),
        (lambda nb: tagged(nb, "raises-exception"), "stores no error"),
    ],
)
def test_check_catches(change, message, copy, small):
    change(small)
    assert message in findings(copy, tool.normalise(small))


@pytest.mark.parametrize(
    ("source", "message"),
    [("x = 1\nx;", "ends with ';'"), ("# NBVAL_SKIP\nx = 1", "NBVAL_ comment"), (" ", "empty")],
)
def test_check_catches_a_source(source, message, copy, small):
    small.cells[PRINT].source = source
    assert message in findings(copy, tool.normalise(small))


@pytest.mark.parametrize("line", ["%% tags=['hide-input']", "assert x == 1", "def f(x):"])
def test_check_catches_code_in_a_markdown_cell(line, copy, small):
    text = nbformat.v4.new_markdown_cell(f"Words, and\n\n```python\n{line}\n```\n\nsay defend.")
    small.cells.append(text)
    assert findings(copy, tool.normalise(small)) == ""
    text.source += f"\n{line}"
    assert "code in a Markdown cell" in findings(copy, tool.normalise(small))


def test_check_catches_what_an_editor_left(copy, small):
    small.metadata["language_info"] = {"name": "python", "version": "3.99"}
    path = copy / "book" / "01-small.ipynb"
    path.write_text(nbformat.writes(small) + "\n", encoding="utf-8")
    assert "not normalised" in findings(copy)
    tool.clean(path)
    assert findings(copy) == ""


def test_check_catches_the_line_ends_of_windows(copy):
    path = copy / "book" / "01-small.ipynb"
    stored = path.read_bytes()
    path.write_bytes(stored.replace(b"\n", b"\r\n"))
    assert "not normalised" in findings(copy)
    tool.clean(path)
    assert path.read_bytes() == stored


def test_two_executions_store_the_same_bytes(copy):
    path = copy / "book" / "01-small.ipynb"
    first = path.read_bytes()
    tool.execute(path)
    assert path.read_bytes() == first


def test_a_raising_cell_stores_nothing(copy, small):
    path = copy / "book" / "01-small.ipynb"
    small.cells[PRINT].source = "1 / 0"
    nbformat.write(small, path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "notebooks.py", "execute", path, "--root", copy],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert path.read_bytes() == before
