"""The checks can fail: a changed coefficient in ddpm_lite is caught by the equation's own verify().

For each mutation a copy of the package with one changed line is loaded. Of the chapter's code, only
what a verify() call needs is run: its backward slice, found by names over the top-level statements.
Each slice must pass with the true package, and fail with the mutated one by naming the equation.
"""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import symtable
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mutations_of_losses
import mutations_of_noise
import mutations_of_samplers
import mutations_of_workshop
import nbformat
import pytest
import torch
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ddpm_lite"


class Mutation(NamedTuple):
    """In ddpm_lite/<module>.py, `old` (which stands there once) becomes `new`."""

    module: str
    old: str
    new: str
    label: str  # of the equation whose check must fail


def listed(kind: str) -> list[Mutation]:
    """All mutations of a kind: EQUATIONS, caught in the book, or LAWS, caught in the tests."""
    parts = mutations_of_noise, mutations_of_losses, mutations_of_samplers, mutations_of_workshop
    rows = [(module, *row) for p in parts for module, r in getattr(p, kind).items() for row in r]
    return [Mutation(*row) for row in rows]


MUTATIONS = listed("EQUATIONS")


# ---- slicing -------------------------------------------------------------------------------------


def stored(node: ast.AST) -> set[str]:
    """The names that a statement binds, or changes in place (x[i] = ..., x.append(...))."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif isinstance(part, ast.alias):
            names.add((part.asname or part.name).split(".")[0])
        elif isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store):
            names.add(root(part))
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            if isinstance(part.value.func, ast.Attribute):
                names.add(root(part.value.func))
    return names - {""}


def replaced(node: ast.AST) -> set[str]:
    """The names whose earlier values no longer matter after a statement."""
    plain = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
    targets = node.targets if isinstance(node, ast.Assign) else []
    flat = [t for target in targets for t in getattr(target, "elts", [target])]
    return stored(node) if plain else {t.id for t in flat if isinstance(t, ast.Name)}


def loaded(node: ast.AST) -> set[str]:
    """The global names that a statement reads, those inside its functions too."""

    def walk(table: symtable.SymbolTable, top: bool) -> set[str]:
        symbols = [s for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())]
        inner = (walk(child, False) for child in table.get_children())
        return {s.get_name() for s in symbols}.union(*inner)

    return walk(symtable.symtable(ast.unparse(node), "slice", "exec"), True)


def root(node: ast.AST) -> str:
    """`x` of x[i].y(...), or '' if it does not begin with a name."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


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


def asserts(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) or "assert_close" in ast.unparse(node)


Cells = list[list[ast.stmt]]  # of one chapter


def slices(cells: Cells, label: str) -> list[list[ast.stmt]]:
    """For each verify(label, ...): the statements that it needs, in their order, itself last.

    The assertions above it in its cell belong to it: they tie the package to the formula.
    """
    found = []
    for number, cell in enumerate(cells):
        for place, statement in enumerate(cell):
            if verifies(statement, label):
                roots = [s for s in cell[:place] if asserts(s)] + [statement]
                before = [s for earlier in cells[:number] for s in earlier] + cell[:place]
                found.append(slice_of(before, roots))
    return found


def slice_of(before: list[ast.stmt], roots: list[ast.stmt]) -> list[ast.stmt]:
    """The statements out of `before` (and the roots themselves) that the roots need."""
    *tied, last = roots
    late: set[str] = set()  # what functions read is what it is when they are called: at the end
    while True:
        kept, needed = [last], loaded(last) | late
        for statement in reversed(before):
            only_verifies = isinstance(statement, ast.Expr) and "verify" in loaded(statement)
            binds = stored(statement) & needed and not only_verifies
            if statement in tied or sets_torch(statement) or binds:
                kept.insert(0, statement)
                needed = (needed - replaced(statement)) | loaded(statement)
        reads = [loaded(s) for s in kept if isinstance(s, ast.FunctionDef)]
        if late >= set().union(*reads):
            return kept
        late = late.union(*reads)


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


# ---- running -------------------------------------------------------------------------------------


@contextmanager
def package(folder: Path, mutation: Mutation | None) -> Iterator[None]:
    """Within it, `import ddpm_lite` finds a copy of the package with this mutation."""
    copy = folder / "ddpm_lite"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, copy, ignore=ignore, copy_function=os.symlink)
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


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.module}:{m.label}:{m.new[:40]}")
def test_mutation_is_caught(mutation):
    label = mutation.label
    found = ((n, f) for n, f in enumerate(failures(code_for(label), mutation)) if f)
    number, failed = next(found, (None, "nothing"))
    assert failed in (label, "an assertion")
    assert true_failure(label, number) == "", "this check fails with the true package too"


# ---- a law of the unit tests catches what no chapter states, or states in a slow check only

LAWS = listed("LAWS")


settings.register_profile(
    "no shrinking", settings.get_profile("book"), phases=[Phase.explicit, Phase.generate]
)


@pytest.mark.parametrize("mutation", LAWS, ids=lambda m: f"{m.label}:{m.new[:40]}")
def test_mutation_breaks_a_law(mutation, tmp_path):
    module, law = mutation.label.split(".")
    theirs = {name: sys.modules.pop(name, None) for name in (module, "strategies")}
    try:
        with package(tmp_path, mutation):
            test = getattr(importlib.import_module(module), law)
            settings.load_profile("no shrinking")
            with pytest.raises(AssertionError):
                test()
    finally:
        settings.load_profile("book")
        for name, before in theirs.items():
            sys.modules.pop(name, None)
            if before is not None:
                sys.modules[name] = before


WITHOUT_FORMULAS = {  # a module, or a folder: why nothing in it is mutated
    "__init__": "names alone, in every folder",
    "__main__": "the command line",
    "cli": "the command line",
    "checks": "says what is wrong, and computes nothing",
    "files": "writes files",
    "live": "pictures",
    "plots": "pictures",
    "verify": "compares, and computes nothing",
    "networks/classifier": "layers of torch's, in a row",
    "tasks/classifier": "data, a network and its loss, put together",
    "tasks/codes": "data, a network and its loss, put together",
    "tasks/digits": "data, a network and its loss, put together",
    "tasks/drawing": "draws in chunks, and writes pictures",
    "tasks/evaluation": "calls the measures",
    "tasks/line": "data, a network and its loss, put together",
    "training/checkpoint": "writes and reads files",
    "training/distributed": "processes that talk",
    "training/precision": "measures seconds",
    "training/run": "folders and files",
    "training/task": "what a task has to have",
}


def modules() -> set[str]:
    """The modules of the package, as Mutation.module names them; nobody lists them."""
    found = {str(p.relative_to(PACKAGE).with_suffix("")) for p in PACKAGE.rglob("*.py")}
    return {name for name in found if not name.endswith("__init__")}


def test_every_mathematical_module_is_mutated():
    mutated, without = {m.module for m in MUTATIONS + LAWS}, set(WITHOUT_FORMULAS)
    for name in modules():
        named = name in without or name.split("/")[0] in without
        assert named != (name in mutated), f"give {name} its mutations, or name it without formulas"
    assert without - {"__init__", "live"} <= modules(), "a name of no module"


@pytest.mark.parametrize("module", sorted({m.module for m in MUTATIONS + LAWS}))
def test_every_mutation_applies_and_names_a_law_that_is_there(module):
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    for mutation in (m for m in MUTATIONS + LAWS if m.module == module):
        assert source.count(mutation.old) == 1, f"{mutation.old!r} must stand once in {module}.py"
        assert mutation.old != mutation.new
        if mutation in LAWS:
            file, law = mutation.label.split(".")
            tests = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
            assert f"\ndef {law}(" in tests, mutation.label


# ---- the machinery itself ------------------------------------------------------------------------

CHAPTER = [
    """
import math
import torch
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.verify import verify
torch.set_default_dtype(torch.float64)""",
    """
factor = 3
def scaled(x):
    local = factor * x
    return local
schedule = linear_schedule(20)
unrelated = math.factorial(3)
print(unrelated)
assert unrelated == 6""",
    """
factor = 1
schedule = linear_schedule(10)
rows = []
for beta in schedule.beta:
    rows.append(1 - beta)
product = torch.stack(rows).cumprod(0)
verify("eq-first", 1.0, 1.0, atol=1e-12, route="nothing at all")""",
    """
assert len(product) == 11
verify("eq-second", scaled(schedule.alpha_bar), product, atol=1e-12, route="a product")""",
]


def small(label: str) -> list[ast.Module]:
    cells = [ast.parse(source).body for source in CHAPTER]
    return [ast.Module(s, []) for s in slices(cells, label)]


def test_slice_keeps_what_is_needed_and_no_more():
    (code,) = small("eq-second")
    lines = ast.unparse(code).splitlines()
    assert "rows = []" in lines
    assert "    rows.append(1 - beta)" in lines
    assert "torch.set_default_dtype(torch.float64)" in lines
    assert "assert len(product) == 11" in lines  # an assertion of its cell
    assert "factor = 1" in lines  # what the function reads when it is called
    assert "schedule = linear_schedule(20)" not in lines  # replaced before it was used
    assert not any("unrelated" in line or "eq-first" in line for line in lines)


def test_the_true_package_passes_and_a_mutation_fails_by_name():
    wrong = Mutation("schedule", "return self.alpha.cumprod(0)", "return self.beta", "eq-second")
    before = importlib.import_module("ddpm_lite.schedule")
    assert list(failures(small("eq-second"), None)) == [""]
    assert list(failures(small("eq-second"), wrong)) == ["eq-second"]
    assert list(failures(small("eq-first"), wrong)) == [""]
    assert importlib.import_module("ddpm_lite.schedule") is before
    assert torch.get_default_dtype() == torch.float32


def test_a_mutation_must_apply():
    stale = Mutation("schedule", "a line that is not there", "", "eq-second")
    with pytest.raises(AssertionError, match="must stand once"):
        list(failures(small("eq-second"), stale))
