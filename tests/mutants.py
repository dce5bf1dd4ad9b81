"""A copy of ddpm_lite with one changed line, and which of a chapter's checks fail with it."""

from __future__ import annotations

import ast
import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat
import torch
from slicing import Cells, slices

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ddpm_lite"


class Mutation(NamedTuple):
    """In ddpm_lite/<module>.py, `old` (which stands there once) becomes `new`."""

    module: str
    old: str
    new: str
    label: str  # of the equation whose check must fail


@cache
def chapters() -> dict[Path, Cells]:
    """The statements of each chapter, by cell."""
    found = {}
    for path in sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        found[path] = [ast.parse(c.source).body for c in cells if c.cell_type == "code"]
    return found


class Shorter(ast.NodeTransformer):
    """Training runs of 200 steps: the checks hold for any network, also a bad one."""

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        long = isinstance(node.value, ast.Constant) and isinstance(node.value.value, int)
        if node.arg == "steps" and long and node.value.value >= 500:
            node.value = ast.Constant(200)
        return self.generic_visit(node)


@cache
def code_for(label: str) -> list[ast.Module]:
    """The slices for an equation, out of all chapters."""
    found = [s for cells in chapters().values() for s in slices(cells, label)]
    if not found:
        raise LookupError(f"no chapter calls verify({label!r}, ...)")
    return [ast.fix_missing_locations(Shorter().visit(ast.Module(s, []))) for s in found]


def link(source: Path, copy: Path, changed: Path) -> None:
    """A folder of links to what is in another, all but one file, which is left out."""
    copy.mkdir()
    for path in source.iterdir():
        if path in changed.parents:
            link(path, copy / path.name, changed)
        elif path != changed and path.name != "__pycache__":
            (copy / path.name).symlink_to(path)


@contextmanager
def package(folder: Path, mutation: Mutation | None) -> Iterator[None]:
    """Within it, `import ddpm_lite` finds a copy of the package with this mutation."""
    changed = PACKAGE / f"{mutation.module}.py" if mutation else PACKAGE / "none"
    link(PACKAGE, folder / "ddpm_lite", changed)
    if mutation:
        source = changed.read_text(encoding="utf-8")
        old = mutation.old
        assert source.count(old) == 1, f"{old!r} must stand once in {changed.name}"
        file = folder / "ddpm_lite" / changed.relative_to(PACKAGE)
        file.write_text(source.replace(old, mutation.new), encoding="utf-8")
    ours = {name: m for name, m in sys.modules.items() if name.split(".")[0] == "ddpm_lite"}
    for name in ours:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    dtype, state = torch.get_default_dtype(), torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_rng_state(state)
        sys.path.remove(str(folder))
        for name in [n for n in sys.modules if n.split(".")[0] == "ddpm_lite"]:
            del sys.modules[name]
        sys.modules.update(ours)


def failures(codes: list[ast.Module], mutation: Mutation | None) -> Iterator[str]:
    """For each slice in turn: the label of the equation whose check fails, or '' if none does."""
    with tempfile.TemporaryDirectory() as folder, package(Path(folder), mutation):
        for code in codes:
            try:
                exec(compile(code, "slice", "exec"), {"__name__": "slice"})
            except AssertionError as error:
                yield getattr(error, "label", "an assertion")
            else:
                yield ""


@cache
def true_failure(label: str, number: int) -> str:
    """What fails in one slice with the true package."""
    return next(failures([code_for(label)[number]], None))
