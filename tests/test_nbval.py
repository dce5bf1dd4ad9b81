"""The proof is proven: nbval, with the book's conftest.py, catches each tampered output.

A small notebook is executed once; copies of it are tampered with and compared again, as `make test`
does with the chapters.
"""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from small_book import CELLS, FIGURE, LIVE, PRINT, TABLE, compare, make, output, tool


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A book of one small notebook, executed."""
    path = make(tmp_path_factory.mktemp("site"), *CELLS)
    tool.execute(path)
    return path.parents[1]


def with_block(png: str, size: int) -> str:
    """The picture with a square of another colour in its middle."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    left, top = image.width // 2, image.height // 2
    image.paste((200, 30, 30, 255), (left, top, left + size, top + size))
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def change_number(nb):
    out = output(nb, PRINT)
    out.text = out.text.replace("1.500", "1.501")


def change_table(nb):
    data = output(nb, TABLE).data
    data["text/html"] = data["text/html"].replace("0.123", "0.124")


def change_figure(nb):
    data = output(nb, FIGURE).data
    data["image/png"] = with_block(data["image/png"], 24)


def change_frame(nb):
    """Frame 3 of the live figure gets a bump of 1 % of the curve's height."""
    data = output(nb, LIVE).data
    state = compare.STATE.search(data["text/html"])
    spec = json.loads(state[2])
    field = spec["spec"]["panels"][0]["marks"][0]["fields"]["y"]
    codes = np.frombuffer(base64.b64decode(field["data"]), "<u2").reshape(5, 50).copy()
    codes[3, 20] += 655 if codes[3, 20] < 32768 else -655
    field["data"] = base64.b64encode(codes.tobytes()).decode()
    text = json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
    data["text/html"] = data["text/html"].replace(state[2], text)


def change_still(nb):
    data = output(nb, LIVE).data
    data["text/html"] = compare.STILL.sub(
        lambda m: "data:image/png;base64," + with_block(m[1], 24), data["text/html"]
    )


def remove_figure(nb):
    nb.cells[FIGURE].outputs = []


# what is done to which cell, in which copy
TAMPERED = {
    "number": (change_number, PRINT, "first"),
    "table": (change_table, TABLE, "first"),
    "figure": (change_figure, FIGURE, "first"),
    "frame": (change_frame, LIVE, "first"),
    "still": (change_still, LIVE, "second"),
    "no figure": (remove_figure, FIGURE, "second"),
}


@pytest.fixture(scope="module")
def verdicts(site) -> dict[str, dict[int, str]]:
    """nbval's verdict on each cell of the true notebook and of its tampered copies."""
    original = site / "book" / "01-small.ipynb"
    paths = {"true": original}
    for name in ("first", "second"):
        nb = nbformat.read(original, as_version=4)
        for tamper, _, copy in TAMPERED.values():
            if copy == name:
                tamper(nb)
        paths[name] = site / "book" / f"{name}.ipynb"
        nbformat.write(nb, paths[name])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
        + ["-rA", "--color=no", "-q", "book"],
        cwd=site,
        capture_output=True,
        text=True,
    )
    paths["first"].unlink()
    paths["second"].unlink()
    found: dict[str, dict[int, str]] = {name: {} for name in paths}
    line = re.compile(r"^(PASSED|FAILED) book/([\w-]+)\.ipynb::Cell (\d+)", re.MULTILINE)
    for verdict, stem, cell in line.findall(done.stdout):
        found["true" if stem == original.stem else stem][int(cell)] = verdict
    assert found["true"], done.stdout + done.stderr
    return found


def test_nbval_passes_what_execution_stored(verdicts):
    assert verdicts["true"] == dict.fromkeys(range(len(CELLS)), "PASSED")


@pytest.mark.parametrize("name", TAMPERED)
def test_nbval_catches(name, verdicts):
    _, cell, copy = TAMPERED[name]
    assert verdicts[copy][cell] == "FAILED"


@pytest.mark.parametrize("copy", ["first", "second"])
def test_nbval_finds_fault_with_nothing_else(copy, verdicts):
    changed = {cell for _, cell, where in TAMPERED.values() if where == copy}
    failed = {cell for cell, verdict in verdicts[copy].items() if verdict == "FAILED"}
    assert failed == changed


def test_nbval_and_execution_start_the_same_kernel():
    assert compare.ENV == tool.ENV
