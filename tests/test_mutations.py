"""The checks can fail: a changed coefficient in ddpm_lite is caught by the equation's own verify().

For each mutation a copy of the package with one changed line is loaded. Of the chapter's code, only
what a verify() call needs is run: its backward slice, found by names over the top-level statements.
Each slice must pass with the true package, and fail with the mutated one by naming the equation.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ddpm_lite"


class Mutation(NamedTuple):
    """In ddpm_lite/<module>.py, `old` (which stands there once) becomes `new`."""

    module: str
    old: str
    new: str
    label: str  # of the equation whose check must fail


MUTATIONS: list[Mutation] = []


# ---- slicing -------------------------------------------------------------------------------------


def stored(node: ast.AST) -> set[str]:
    """The names that a statement binds, or changes in place (x[i] = ..., x.append(...))."""
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif isinstance(part, ast.FunctionDef | ast.ClassDef):
            names.add(part.name)
        elif isinstance(part, ast.alias):
            names.add((part.asname or part.name).split(".")[0])
        elif isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store):
            names.add(root(part))
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            names.add(root(part.value.func))
    return names - {""}


def root(node: ast.AST) -> str:
    """`x` of x[i].y(...), or '' if it does not begin with a name."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def loaded(node: ast.AST) -> set[str]:
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return {n.id for n in names if isinstance(n.ctx, ast.Load)}


def sets_torch(node: ast.AST) -> bool:
    """torch.set_default_dtype(...), torch.manual_seed(...): they act on all that follows."""
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and root(call.func) == "torch"


def verifies(node: ast.AST, label: str) -> bool:
    calls = (n for n in ast.walk(node) if isinstance(n, ast.Call))
    return any(
        root(n.func) == "verify" and n.args and getattr(n.args[0], "value", None) == label
        for n in calls
    )


def slice_for(statements: list[ast.stmt], label: str) -> list[ast.stmt]:
    """The statements that the first verify(label, ...) needs, itself last, in their order."""
    last = next(i for i, s in enumerate(statements) if verifies(s, label))
    kept, needed = [statements[last]], loaded(statements[last])
    for statement in reversed(statements[:last]):
        calls_verify = "verify" in loaded(statement)
        if sets_torch(statement) or (stored(statement) & needed and not calls_verify):
            kept.insert(0, statement)
            needed |= loaded(statement)
    return kept


@cache
def chapters() -> dict[Path, list[ast.stmt]]:
    """The top-level statements of each chapter."""
    found = {}
    for path in sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        code = "\n".join(c.source for c in cells if c.cell_type == "code")
        found[path] = ast.parse(code).body
    return found


def code_for(label: str) -> ast.Module:
    """The slice for an equation, out of the chapter that verifies it."""
    for statements in chapters().values():
        if any(verifies(s, label) for s in statements):
            return ast.Module(slice_for(statements, label), [])
    raise LookupError(f"no chapter calls verify({label!r}, ...)")


# ---- running -------------------------------------------------------------------------------------


@contextmanager
def package(folder: Path, mutation: Mutation | None) -> Iterator[None]:
    """Within it, `import ddpm_lite` finds a copy of the package with this mutation."""
    copy = folder / "ddpm_lite"
    copy.mkdir()
    for path in PACKAGE.iterdir():
        if path.name != "__pycache__":
            (copy / path.name).symlink_to(path)
    if mutation:
        file = copy / f"{mutation.module}.py"
        source = file.read_text(encoding="utf-8")
        assert source.count(mutation.old) == 1, f"{mutation.old!r} must stand once in {file.name}"
        file.unlink()
        file.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
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


def failure(code: ast.Module, folder: Path, mutation: Mutation | None) -> str:
    """The label of the equation whose check fails, or '' if none does."""
    with package(folder, mutation):
        try:
            exec(compile(code, "slice", "exec"), {"__name__": "slice"})
        except AssertionError as error:
            return getattr(error, "label", f"another assertion: {error}")
    return ""


@pytest.mark.parametrize("label", sorted({m.label for m in MUTATIONS}))
def test_slice_passes_with_the_true_package(label, tmp_path):
    assert failure(code_for(label), tmp_path, None) == ""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.module}:{m.label}:{m.new[:40]}")
def test_mutation_is_caught(mutation, tmp_path):
    assert failure(code_for(mutation.label), tmp_path, mutation) == mutation.label


@pytest.mark.parametrize(
    "module",
    ["schedule", "forward", "posterior", "prediction", "objective", "oracle", "sampling"],
)
def test_every_mathematical_module_is_mutated(module):
    assert any(m.module == module for m in MUTATIONS)


# ---- the machinery itself ------------------------------------------------------------------------

CHAPTER = """
import math
import torch
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.verify import verify
torch.set_default_dtype(torch.float64)
schedule = linear_schedule(10)
unrelated = math.factorial(3)
print(unrelated)
rows = []
for beta in schedule.beta:
    rows.append(1 - beta)
product = torch.stack(rows).cumprod(0)
verify("eq-first", 1.0, 1.0, atol=1e-12, route="nothing at all")
verify("eq-second", schedule.alpha_bar, product, atol=1e-12, route="a product")
"""


def small(label: str) -> ast.Module:
    return ast.Module(slice_for(ast.parse(CHAPTER).body, label), [])


def test_slice_keeps_what_is_needed_and_no_more():
    lines = ast.unparse(small("eq-second")).splitlines()
    assert "rows = []" in lines
    assert "    rows.append(1 - beta)" in lines
    assert "torch.set_default_dtype(torch.float64)" in lines
    assert not any("unrelated" in line or "eq-first" in line for line in lines)


def test_the_true_package_passes_and_a_mutation_fails_by_name(tmp_path):
    wrong = Mutation("schedule", "return self.alpha.cumprod(0)", "return self.beta", "eq-second")
    before = importlib.import_module("ddpm_lite.schedule")
    for name in ("true", "wrong", "other"):
        (tmp_path / name).mkdir()
    assert failure(small("eq-second"), tmp_path / "true", None) == ""
    assert failure(small("eq-second"), tmp_path / "wrong", wrong) == "eq-second"
    assert failure(small("eq-first"), tmp_path / "other", wrong) == ""
    assert importlib.import_module("ddpm_lite.schedule") is before
    assert torch.get_default_dtype() == torch.float32


def test_a_mutation_must_apply(tmp_path):
    stale = Mutation("schedule", "a line that is not there", "", "eq-second")
    with pytest.raises(AssertionError, match="must stand once"):
        failure(small("eq-second"), tmp_path, stale)
