"""The book's notebook tool.

    python tools/notebooks.py execute [NB ...]   run from a fresh kernel, store the outputs, clean
    python tools/notebooks.py clean   [NB ...]   normalise without running (after JupyterLab's save)
    python tools/notebooks.py check   [NB ...]   every rule that stored notebooks must keep

Without NB, all notebooks under book/. `check` exits with 1 when it finds something, `execute` when
a cell raises. Two executions of a notebook store identical bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import yaml

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
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
CELL_KEYS = {"mystnb", "tags"}  # mystnb: the alt text and caption of a picture
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
RUN_KEY = "executed_source"  # digest of the code that the stored outputs came from
VIEW = "application/vnd.jupyter.widget-view+json"
PID_PATH = re.compile(r"(?:/tmp|/var/folders/\S{1,80})/ipykernel_\d+/\d+\.py")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")
FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.M | re.S)
CODE = re.compile(
    r"^(?:(?:# )?%%|(?:import|assert) \S|from \S+ import |def \w+\(|verify\().*", re.M
)


def notebooks(root: Path) -> list[Path]:
    """The notebooks under book/, without JupyterLab's checkpoints."""
    found = (root / "book").rglob("*.ipynb")
    return sorted(p for p in found if ".ipynb_checkpoints" not in p.parts)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_digest(nb: nbformat.NotebookNode) -> str:
    """Changes when any code cell does."""
    return digest("\0".join(c.source for c in nb.cells if c.cell_type == "code"))


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


def execute(path: Path) -> str:
    """Run one notebook in a fresh kernel and store its outputs; returns a line for the reader."""
    from nbclient import NotebookClient

    nb = nbformat.read(path, as_version=4)
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
    path.write_text(dumps(normalise(nb)), encoding="utf-8")
    return f"{time.perf_counter() - start:.1f} s, {path.stat().st_size / 1000:.0f} kB"


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
        data = output.get("data", {})
        if output.output_type == "stream" and output.name == "stderr":
            yield f"writes to stderr: {output.text[:60]!r}"
        if VIEW in data:
            yield "shows a bare ipywidget, dead on the static page: use a LiveFigure"
        text = output.get("text", "") or data.get("text/plain", "")
        if ADDRESS.search(text) and "nbval-ignore-output" not in tags:
            yield "prints a memory address, another one at each run"


def check(path: Path, toc: set[Path]) -> Iterator[str]:
    """What is wrong with one stored notebook."""
    text = path.read_text(encoding="utf-8")
    nb = nbformat.reads(text, as_version=4)
    if path.with_suffix("") not in toc:
        yield "not listed in _toc.yml (the build would leave it out in silence)"
    size = len(text.encode())
    if size > MAX_BYTES:
        yield f"{size:,} bytes, the limit is {MAX_BYTES:,}"
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
    for cell in nb.cells:
        stray = cell.cell_type == "markdown" and CODE.search(FENCED.sub("", cell.source))
        if stray:
            yield f"has code in a Markdown cell, which never runs: {stray.group()[:60]!r}"
    if text != dumps(normalise(nb)):
        yield "not normalised: run `python tools/notebooks.py clean`"


def check_all(root: Path, paths: list[Path]) -> int:
    """Print every finding; returns how many there are."""
    toc, found = toc_files(root), 0
    for page in sorted(toc):
        if not any(page.with_suffix(suffix).exists() for suffix in (".ipynb", ".md")):
            found += 1
            print(f"_toc.yml lists {page.relative_to(root)}, which does not exist")
    for path in paths:
        for message in check(path, toc):
            found += 1
            print(f"{path.relative_to(root)}: {message}")
    print(f"{len(paths)} notebooks checked, {found} findings")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["execute", "clean", "check"])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with _toc.yml and book/")
    args = parser.parse_args()
    root = args.root.resolve()
    paths = [p.resolve() for p in args.notebooks] or notebooks(root)
    if args.command == "check":
        return 1 if check_all(root, paths) else 0
    for path in paths:
        if args.command == "clean":
            nb = normalise(nbformat.read(path, as_version=4))
            path.write_text(dumps(nb), encoding="utf-8")
            continue
        print(f"{path.name}: ", end="", flush=True)
        try:
            print(execute(path), flush=True)
        except Exception as error:  # a raising cell or a dead kernel: nothing is stored
            print(f"FAILED, nothing stored\n{error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
