"""Damaged notebooks: each is a finding with the file's name, and the check goes on after it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_book import ROOT, dumped, make, notebook, tool

GOOD = dumped(notebook())


@pytest.fixture
def path(tmp_path) -> Path:
    """The chapter of a small book: a notebook without fault."""
    path = make(tmp_path)
    path.write_bytes(GOOD)
    return path


def findings(path: Path, capsys) -> str:
    """What `check` says of the damaged notebook, by its name; a good one after it has no fault."""
    good = path.with_name("02-good.ipynb")
    good.write_bytes(GOOD)
    with (path.parents[1] / "_toc.yml").open("a") as toc:
        toc.write("- file: book/02-good\n")
    number = tool.check_all(path.parents[1], [path, good])
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"2 notebooks checked, {number} findings"
    assert all("book/01-small" in line for line in lines)
    return "\n".join(lines)


def test_the_notebook_without_damage_passes(path, capsys):
    assert findings(path, capsys) == ""


def nested(depth: int) -> bytes:
    """A notebook with lists in lists where anything may stand: in the metadata."""
    text = json.dumps(notebook() | {"metadata": {"deep": "x"}})
    return text.replace('"x"', "[" * depth + "]" * depth).encode()


HEAD, TAIL = GOOD.split(b' "cells"', 1)
MERGE = b"<<<<<<< HEAD\n%s=======\n%s>>>>>>> theirs\n"
BYTES = {
    "empty": (b"", "is not JSON"),
    "no JSON": (b"# A chapter\n", "is not JSON"),
    "truncated": (GOOD[:200], "is not JSON"),
    "two in one": (GOOD + GOOD, "is not JSON"),
    "a comma too many": (GOOD.replace(b"],", b"],,"), "is not JSON"),
    "NaN": (GOOD.replace(b'"execution_count": 1', b'"execution_count": NaN'), "is not JSON"),
    "a number of 5000 digits": (GOOD.replace(b": 4,", b": " + b"4" * 5000 + b","), "is not JSON"),
    "a merge": (HEAD + MERGE % (b' "a": 1,\n', b' "b": 1,\n') + b' "cells"' + TAIL, "in line 2"),
    "zeros": (b"\0" * 1000, "is not JSON"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "is not UTF-8"),
    "Latin-1": (GOOD.replace(b"Words", "Wörter".encode("latin-1")), "is not UTF-8: "),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, "is not JSON: Unexpected UTF-8 BOM"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is not UTF-8"),
    "nested for JSON": (nested(100_000), "is nested too deep"),
    "nested for the schema": (nested(400), ""),
    "CRLF": (GOOD.replace(b"\n", b"\r\n"), "not normalised"),
    "CR": (GOOD.replace(b"\n", b"\r"), "not normalised"),
    "a line less": (GOOD[:-1], "not normalised"),
    "a key twice": (GOOD.replace(b'"nbformat": 4', b'"nbformat": 4, "nbformat": 4'), "not normal"),
}


@pytest.mark.parametrize("name", BYTES)
def test_damaged_bytes_are_a_finding(name, path, capsys):
    data, message = BYTES[name]
    assert data != GOOD
    path.write_bytes(data)
    found = findings(path, capsys)
    assert found and message in found


TOP = {  # replaces the whole, or keys of it
    "a list": [1],
    "a string": "notebook",
    "null": None,
    "an empty object": {},
    "no cells": {"nbformat": 4, "nbformat_minor": 5, "metadata": {}},
    "cells null": {"cells": None},
    "cells an object": {"cells": {}},
    "cells a string": {"cells": "print(1)"},
    "a cell null": {"cells": [None]},
    "a cell a string": {"cells": ["print(1)"]},
    "a cell a list": {"cells": [[]]},
    "a cell empty": {"cells": [{}]},
    "format 3": {"nbformat": 3},
    "format a string": {"nbformat": "4"},
    "format null": {"nbformat": None},
    "minor a string": {"nbformat_minor": "5"},
    "minor null": {"nbformat_minor": None},
    "minor huge": {"nbformat_minor": 10**30},
    "minor older": {"nbformat_minor": 2},
    "metadata null": {"metadata": None},
    "metadata a list": {"metadata": []},
    "kernelspec a string": {"metadata": {"kernelspec": "python3"}},
    "digest a list": {"metadata": {tool.RUN_KEY: [1]}},
    "another key": {"worksheets": []},
}
CODE = {  # keys of the code cell; `...` takes one away
    "no type": {"cell_type": ...},
    "type a number": {"cell_type": 5},
    "type a list": {"cell_type": []},
    "type unknown": {"cell_type": "heading"},
    "a text with outputs": {"cell_type": "markdown"},
    "no id": {"id": ...},
    "id a number": {"id": 5},
    "id too long": {"id": "a" * 65},
    "no source": {"source": ...},
    "source null": {"source": None},
    "source a number": {"source": 5},
    "source a string": {"source": "print(1)"},
    "source numbers": {"source": [1, 2]},
    "half a character": {"source": "print('\ud83d')"},
    "no outputs": {"outputs": ...},
    "outputs null": {"outputs": None},
    "outputs an object": {"outputs": {}},
    "outputs a string": {"outputs": "1"},
    "an output null": {"outputs": [None]},
    "an output a string": {"outputs": ["1"]},
    "an output empty": {"outputs": [{}]},
    "no count": {"execution_count": ...},
    "count true": {"execution_count": True},
    "count 1.0": {"execution_count": 1.0},
    "count a string": {"execution_count": "1"},
    "count negative": {"execution_count": -1},
    "metadata missing": {"metadata": ...},
    "metadata null": {"metadata": None},
    "metadata a list": {"metadata": ["hide-input"]},
    "tags null": {"metadata": {"tags": None}},
    "tags a string": {"metadata": {"tags": "hide-input"}},
    "tags numbers": {"metadata": {"tags": [1]}},
    "another key": {"input": "1"},
}
OUTPUT = {  # keys of its output
    "no type": {"output_type": ...},
    "type unknown": {"output_type": "pyout"},
    "type a number": {"output_type": 5},
    "no text": {"text": ...},
    "text null": {"text": None},
    "text a number": {"text": 5},
    "name null": {"name": None},
    "another key": {"data": {}},
    "data null": {"output_type": "display_data", "metadata": {}, "data": None},
    "no traceback": {"output_type": "error", "ename": "E", "evalue": ""},
}


def changed(old: dict, new: object) -> object:
    if not isinstance(new, dict) or not new:
        return new
    return {key: value for key, value in {**old, **new}.items() if value is not ...}


def damages() -> dict[str, object]:
    """Every damaged notebook, by name."""
    found = {f"top: {name}": changed(notebook(), new) for name, new in TOP.items()}
    for name, new in CODE.items():
        found[f"cell: {name}"] = nb = notebook()
        nb["cells"][1] = changed(nb["cells"][1], new)
    for name, new in OUTPUT.items():
        found[f"output: {name}"] = nb = notebook()
        nb["cells"][1]["outputs"][0] = changed(nb["cells"][1]["outputs"][0], new)
    data = {"a number": 5, "a list of numbers": [5], "an object": {}}
    for name, value in data.items():
        found[f"html: {name}"] = nb = notebook()
        html = {"output_type": "display_data", "metadata": {}, "data": {"text/html": value}}
        nb["cells"][1]["outputs"] = [html]
    return found


DAMAGES = damages()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_structure_is_a_finding(name, path, capsys):
    path.write_bytes(dumped(DAMAGES[name]))
    assert findings(path, capsys)


def test_a_damaged_cell_is_named(path, capsys):
    path.write_bytes(dumped(DAMAGES["cell: outputs null"]))
    assert "is damaged: cell 1['outputs']: None is not of type 'array'" in findings(path, capsys)


def test_what_is_no_file_is_a_finding(path, capsys):
    path.unlink()
    assert "cannot be read or written: No such file" in findings(path, capsys)
    path.mkdir()
    assert "cannot be read or written: Is a directory" in findings(path, capsys)


@pytest.mark.parametrize("toc", [b"a: [", b"\xff\xfe", b"a: b: c"])
def test_a_damaged_table_of_contents_is_a_finding(toc, path, capsys):
    (path.parents[1] / "_toc.yml").write_bytes(toc)
    assert tool.check_all(path.parents[1], [path]) == 1
    assert capsys.readouterr().out.startswith("_toc.yml: ")


def test_a_notebook_outside_the_book_is_checked(path, tmp_path, capsys):
    other = tmp_path.parent / "other.ipynb"
    other.write_bytes(GOOD)
    assert tool.check_all(path.parents[1], [other]) == 1
    assert "other.ipynb: not listed in _toc.yml" in capsys.readouterr().out


@pytest.mark.parametrize("character", ["\ud83d", "ö"])
def test_a_finding_may_quote_what_the_terminal_cannot_show(character, path):
    nb = notebook()
    error = {"output_type": "error", "ename": character, "evalue": "", "traceback": []}
    nb["cells"][1]["outputs"] = [error]
    path.write_bytes(dumped(nb))
    words = ["tools/notebooks.py", "check", str(path), "--root", str(path.parents[1])]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        encoding="ascii",
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "01-small.ipynb: code cell 0 has an error output (\\" in done.stdout
    assert "1 notebooks checked, 2 findings" in done.stdout
