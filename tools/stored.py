"""A notebook as it is stored: read with a word on what is damaged, normalised, written whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import nbformat
from nbformat.validator import iter_validate

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
CELL_TYPES = ("code", "markdown", "raw")
CELL_KEYS = {"mystnb", "tags"}  # mystnb: the alt text and caption of a picture
RUN_KEY = "executed_source"  # digest of the code that the stored outputs came from
VIEW = "application/vnd.jupyter.widget-view+json"
PID_PATH = re.compile(r"(?:/tmp|/var/folders/\S{1,80})/ipykernel_\d+/\d+\.py")
CONFLICT = re.compile(rb"^(?:<{7}|={7}|>{7})(?:\s|$)", re.MULTILINE)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_digest(nb: nbformat.NotebookNode) -> str:
    """Changes when any code cell does."""
    return digest("\0".join(c.source for c in nb.cells if c.cell_type == "code"))


def parse(data: bytes) -> nbformat.NotebookNode:
    """The notebook in a file's bytes, as one of format 4.5; ValueError says what is damaged."""
    if conflict := CONFLICT.search(data):
        line = data.count(b"\n", 0, conflict.start()) + 1
        raise ValueError(f"has the conflict markers of a merge, in line {line}")
    try:
        raw = json.loads(data.decode("utf-8"), parse_constant=_not_json)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    top = raw if isinstance(raw, dict) else {}
    if top.get("nbformat") != 4 or not isinstance(top.get("cells"), list):
        raise ValueError('is no notebook: no object with "nbformat": 4 and a list of cells')
    raw["nbformat_minor"] = 5  # the first version with cell ids, which are made anew
    for number, cell in enumerate(raw["cells"]):
        if not isinstance(cell, dict) or cell.get("cell_type") not in CELL_TYPES:
            raise ValueError(f"is damaged: cell {number} is no cell, {cell!r:.60}")
        cell["id"] = f"cell-{number}"
    if found := damage(raw):
        raise ValueError(f"is damaged: {found}")
    return nbformat.reads(json.dumps(raw), as_version=4)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not allowed")


def damage(raw: dict[str, Any]) -> str:
    """Where the JSON of a notebook has another structure than the format's, or ''."""
    whole = next(iter_validate(raw, version=4, version_minor=5), None)
    if whole is None:
        return ""
    for number, cell in enumerate(raw["cells"]):  # an error in the whole does not name its cell
        for error in iter_validate(cell, f"{cell['cell_type']}_cell", version=4, version_minor=5):
            place = "".join(f"[{key!r}]" for key in error.path)
            return f"cell {number}{place}: {error.message:.100}"
    return f"{whole.message:.100}"


def normalise(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop whatever differs between two runs or two editors of the same notebook."""
    executed = nb.metadata.get(RUN_KEY)
    nb.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    if executed:
        nb.metadata[RUN_KEY] = executed
    nb.nbformat, nb.nbformat_minor = 4, 5  # the first version with cell ids
    seen: dict[str, int] = {}
    for cell in nb.cells:
        name = digest(f"{cell.cell_type}\0{cell.source}")[:12]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        kept = {k: v for k, v in sorted(cell.metadata.items()) if k in CELL_KEYS and v}
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = PID_PATH.sub("cell.py", output.text)
            if output.output_type == "error":
                output.traceback = [PID_PATH.sub("cell.py", line) for line in output.traceback]
            if "text/html" in output.get("data", {}):
                output.data.pop(VIEW, None)  # the static page and the next kernel read the HTML
    return nb


def dumps(nb: nbformat.NotebookNode) -> str:
    return nbformat.writes(nb, version=4).rstrip("\n") + "\n"


def write(path: Path, nb: nbformat.NotebookNode) -> None:
    """Replace the file whole or not at all: a full disk or a kill leaves the notebook of before."""
    path = path.resolve()  # through a link, not over it
    data = dumps(nb).encode("utf-8")
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        shutil.copymode(path, beside)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
