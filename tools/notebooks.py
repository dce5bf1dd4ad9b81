"""The book's notebook tool.

    python tools/notebooks.py execute [NB ...]   run from a fresh kernel, store the outputs, clean
    python tools/notebooks.py clean   [NB ...]   normalise without running (after JupyterLab's save)
    python tools/notebooks.py check   [NB ...]   every rule that stored notebooks must keep

Without NB, all notebooks under book/. `check` exits with 1 when it finds something, `execute` when
a cell raises, all of them when a notebook is damaged. Two executions of a notebook store identical
bytes; one that fails, at whatever point, leaves the notebook of before.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import length
import nbformat
import outside
import yaml
from stored import RUN_KEY, VIEW, code_digest, dumps, normalise, parse, write

ROOT = Path(__file__).resolve().parents[1]

# Kernels inherit these: stored outputs never come from a GPU, from a big preset or from a clock.
ENV = {
    "CUDA_VISIBLE_DEVICES": "",
    "DDPM_LITE_SIZE": "book",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
}
MAX_BYTES = 600_000
TAGS = {
    "raises-exception",
    "nbval-ignore-output",
    "nbval-skip",
    "hide-input",
    "hide-cell",
    "hide-output",
    "remove-input",
    "remove-cell",
    "remove-output",
}
ADDRESS = re.compile(r"(?<![\w+/])0x[0-9a-f]{6,}", re.IGNORECASE)  # not in base64
CHAPTER = re.compile(r"\d\d-.*\.ipynb")
STILL_TOO_LONG = {  # to become empty
}
FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.M | re.S)
CODE = re.compile(
    r"^(?:(?:# )?%%|(?:import|assert) \S|from \S+ import |def \w+\(|verify\().*", re.M
)


def notebooks(root: Path) -> list[Path]:
    """The notebooks under book/, without JupyterLab's checkpoints."""
    found = (root / "book").rglob("*.ipynb")
    return sorted(p for p in found if ".ipynb_checkpoints" not in p.parts)


def execute(path: Path) -> str:
    """Run one notebook in a fresh kernel and store its outputs; returns a line for the reader."""
    from nbclient import NotebookClient

    nb = parse(path.read_bytes())
    start = time.perf_counter()
    NotebookClient(
        nb,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=True,  # without it nbclient 0.11 breaks on Output widgets
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    ).execute(env={**os.environ, **ENV})
    nb.metadata[RUN_KEY] = code_digest(nb)
    write(path, normalise(nb))
    return f"{time.perf_counter() - start:.1f} s, {path.stat().st_size / 1000:.0f} kB"


def clean(path: Path) -> str:
    """Normalise one stored notebook; returns a line for the reader."""
    write(path, normalise(parse(path.read_bytes())))
    return "clean"


def toc_files(root: Path) -> set[Path]:
    """The pages of _toc.yml, without suffix."""

    def walk(node: object) -> Iterator[Path]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("file", "root"):
                    yield root / str(value).removesuffix(".ipynb").removesuffix(".md")
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    return set(walk(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))))


def ends_with_semicolon(source: str) -> bool:
    last = source.rstrip().splitlines()[-1]
    return last.split("#")[0].rstrip().endswith(";")


def check_cell(cell: nbformat.NotebookNode) -> Iterator[str]:
    """What is wrong with one code cell."""
    tags = set(cell.metadata.get("tags", []))
    if not cell.source.strip():
        yield "empty"
        return
    if tags - TAGS:
        yield f"unknown tags {sorted(tags - TAGS)}"
    if ends_with_semicolon(cell.source):
        yield "ends with ';' (IPython then hides the value, nbval does not): use plt.show()"
    if re.search(r"#\s*NBVAL_", cell.source):
        yield "has an NBVAL_ comment: use a cell tag"
    errors = [o for o in cell.outputs if o.output_type == "error"]
    if errors and "raises-exception" not in tags:
        yield f"has an error output ({errors[0].ename}) and no raises-exception tag"
    if "raises-exception" in tags and not errors:
        yield "is tagged raises-exception and stores no error"
    for output in cell.outputs:
        yield from check_output(output, cell)


def check_output(output: nbformat.NotebookNode, cell: nbformat.NotebookNode) -> Iterator[str]:
    """What is wrong with one output of a code cell."""
    data = output.get("data", {})
    if output.output_type == "stream" and output.name == "stderr":
        yield f"writes to stderr: {output.text[:60]!r}"
    if output.get("execution_count", cell.execution_count) != cell.execution_count:
        yield f"stores an output of another run, [{output.execution_count}]"
    if VIEW in data:
        yield "shows a bare ipywidget, dead on the static page: use a LiveFigure"
    shown = {mime: text for mime, text in data.items() if isinstance(text, str)}
    said = [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    if any(map(ADDRESS.search, [*said, *shown.values()])):
        if "nbval-ignore-output" not in cell.metadata.get("tags", []):
            yield "prints a memory address, another one at each run"
    for mime, text in shown.items():
        for request in outside.requests(mime, text):
            yield f"asks another host, and the page is to be whole without one: {request}"


def check(path: Path, toc: set[Path]) -> Iterator[str]:
    """What is wrong with one stored notebook."""
    if path.with_suffix("") not in toc:
        yield "not listed in _toc.yml (the build would leave it out in silence)"
    data = path.read_bytes()
    nb = parse(data)
    if len(data) > MAX_BYTES:
        yield f"{len(data):,} bytes, the limit is {MAX_BYTES:,}"
    code = [c for c in nb.cells if c.cell_type == "code"]
    if not any(c.outputs for c in code):
        yield "no stored outputs: run `make execute`"
    if [c.execution_count for c in code] != list(range(1, len(code) + 1)):
        yield "not run from top to bottom in a fresh kernel: run `make execute`"
    if nb.metadata.get(RUN_KEY) != code_digest(nb):
        yield "code changed since its outputs were stored: run `make execute`"
    for number, cell in enumerate(code):  # counted from 0, as nbval does
        for message in check_cell(cell):
            yield f"code cell {number} {message}"
    found, chapter = length.length(nb), CHAPTER.match(path.name)
    if chapter and found.is_too_long != (path.stem in STILL_TOO_LONG):
        yield (
            f"its main line has {found.words:,} words and {found.cells} visible code cells, where "
            f"{length.WORDS:,} and {length.CELLS} are the most: move what is beside the point into "
            "a dropdown, or behind Remember"
            if found.is_too_long
            else "its main line is no longer too long: take it out of STILL_TOO_LONG"
        )
    for cell in nb.cells:
        stray = cell.cell_type == "markdown" and CODE.search(FENCED.sub("", cell.source))
        if stray:
            yield f"has code in a Markdown cell, which never runs: {stray.group()[:60]!r}"
    if data != dumps(normalise(nb)).encode("utf-8"):
        yield "not normalised: run `python tools/notebooks.py clean`"


def reason(error: Exception) -> str:
    """Why a notebook cannot be checked or stored, for a reader."""
    if isinstance(error, OSError):
        return f"cannot be read or written: {error.strerror}"
    if isinstance(error, RecursionError):
        return "is nested too deep"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def check_all(root: Path, paths: list[Path]) -> int:
    """Print every finding; returns how many there are."""
    found = []
    try:
        toc = toc_files(root)
    except Exception as error:
        found.append(f"_toc.yml: {reason(error)}")
        toc = {path.with_suffix("") for path in paths}
    for page in sorted(toc):
        if not any(page.with_suffix(suffix).exists() for suffix in (".ipynb", ".md")):
            found.append(f"_toc.yml lists {page.relative_to(root)}, which does not exist")
    for path in paths:
        name = os.path.relpath(path, root)
        try:
            for message in check(path, toc):
                found.append(f"{name}: {message}")
        except Exception as error:  # whatever its damage: the other notebooks are checked too
            found.append(f"{name}: {reason(error)}")
    print("\n".join([*found, f"{len(paths)} notebooks checked, {len(found)} findings"]))
    return len(found)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["execute", "clean", "check"])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with _toc.yml and book/")
    args = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # a finding may quote what cannot be printed
    root = args.root.resolve()
    paths = [p.resolve() for p in args.notebooks] or notebooks(root)
    if args.command == "check":
        return 1 if check_all(root, paths) else 0
    store, failed = {"execute": execute, "clean": clean}[args.command], False
    for path in paths:
        print(f"{path.name}: ", end="", flush=True)
        try:
            print(store(path), flush=True)
        except Exception as error:  # a raising cell, a dead kernel, a damaged file, a full disk
            print("FAILED, nothing stored", flush=True)
            print(f"{path.name}: {reason(error)}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
