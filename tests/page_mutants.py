"""Mutants of the formulas that a chapter writes itself: in the cell of each verify() call.

A mutant changes one operation there: a sign, a term or factor left out, a power. The cell's check,
or an assertion above it, must stop it. `python tests/page_mutants.py [NN ...]` tries all (of these
chapters; about ten minutes for the book) and writes them to page_mutants.json. There each mutant
that lives needs a reason, one of REASONS, written by hand.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mutants import chapters
from slicing import Cells, asserts, root, slice_of

SWAPPED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
STILL = {
    "range",
    "arange",
    "linspace",
    "zeros",
    "ones",
    "full",
    "len",
    "grid",
    "rand",
    "randn",
    "randint",
}
RECORD = Path(__file__).with_name("page_mutants.json")
REASONS = {
    "input": "what the check is tried on: the equation holds for the changed one too",
    "scale": "a standard error or another measure of how near is near",
    "form": "another form of the same formula, or a part that is 0 or 1 here",
    "bound": "an inequality: the changed one is on the same side of it",
}


class Mutant(NamedTuple):
    """A cell with one changed operation."""

    label: str  # of the equation
    was: str
    now: str
    statements: list[ast.stmt]


def label_of(statement: ast.stmt) -> str:
    """Of the verify() call that a statement is, or ''."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and root(call.func) == "verify" and call.args:
        return str(getattr(call.args[0], "value", ""))
    return ""


def operations(node: ast.AST) -> Iterator[ast.AST]:
    """The operations of a formula: not those that count, index, or say how close is close."""
    if isinstance(node, ast.Subscript):
        yield from operations(node.value)
    elif isinstance(node, ast.JoinedStr | ast.Constant):
        return
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else root(node.func)
        if name not in STILL:
            yield from operations(node.func)
            for part in node.args[1:] if name == "verify" else node.args:
                yield from operations(part)
    else:
        if isinstance(node, ast.BinOp) and type(node.op) in (*SWAPPED, ast.Pow):
            yield node
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            if not isinstance(node.operand, ast.Constant):
                yield node
        for part in ast.iter_child_nodes(node):
            yield from operations(part)


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What an operation may become."""
    if isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node.op, ast.Pow):
        yield node.left
    else:
        yield ast.BinOp(node.left, SWAPPED[type(node.op)](), node.right)
        yield node.left


class Replace(ast.NodeTransformer):
    """One node becomes another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def mutants(own: list[ast.stmt], label: str) -> Iterator[Mutant]:
    """All mutants of the statements of one verify() call, itself last."""
    for place, statement in enumerate(own):
        count = len(list(operations(statement)))
        for number in range(count):
            for which in range(2):
                fresh = copy.deepcopy(statement)
                old = list(operations(fresh))[number]
                became = list(changes(old))
                if which < len(became):
                    was, now = ast.unparse(old), ast.unparse(became[which])
                    new = ast.fix_missing_locations(Replace(old, became[which]).visit(fresh))
                    yield Mutant(label, was, now, [*own[:place], new, *own[place + 1 :]])


def state() -> tuple[Any, ...]:
    return torch.get_rng_state(), torch.get_default_dtype()


def restore(saved: tuple[Any, ...]) -> None:
    torch.set_rng_state(saved[0])
    torch.set_default_dtype(saved[1])


def fork(names: dict[str, Any]) -> dict[str, Any]:
    """The names for a mutant to play with: what is random, and lists, as copies."""
    fresh = dict(names)
    for name, value in names.items():
        if isinstance(value, torch.Generator):
            fresh[name] = torch.Generator().manual_seed(0)
            fresh[name].set_state(value.get_state())
        elif isinstance(value, np.random.Generator):
            fresh[name] = copy.deepcopy(value)
        elif isinstance(value, list | dict):
            fresh[name] = copy.copy(value)
    return fresh


def run(statements: list[ast.stmt], names: dict[str, Any]) -> None:
    tree = ast.Module(statements, [])
    code = compile(ast.fix_missing_locations(tree), "page", "exec")
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        exec(code, names)


class Check(NamedTuple):
    """A verify() call: what it needs of the whole chapter, and of its own cell."""

    label: str
    needed: list[ast.stmt]
    own: list[ast.stmt]

    @property
    def digest(self) -> str:
        """Of the code of its own cell that it needs."""
        code = "\n".join(map(ast.unparse, self.own))
        return hashlib.sha256(code.encode()).hexdigest()[:12]


def checks(cells: Cells) -> Iterator[Check]:
    """Each verify() call of a chapter, in its order."""
    for number, cell in enumerate(cells):
        for place, statement in enumerate(cell):
            if label_of(statement):
                roots = [s for s in cell[:place] if asserts(s)] + [statement]
                before = [s for earlier in cells[:number] for s in earlier] + cell[:place]
                needed = slice_of(before, roots)
                own = [s for s in needed if any(s is c for c in cell)]
                yield Check(label_of(statement), needed, own)


class Page(NamedTuple):
    """A check, and the names and the random state at the start of its cell."""

    check: Check
    names: dict[str, Any]
    random: tuple[Any, ...]

    def outcome(self, statements: list[ast.stmt]) -> str:
        """How these end in place of its own: "caught", the name of another error, or ""."""
        saved = state()
        restore(self.random)
        try:
            run(copy.deepcopy(statements), fork(self.names))
        except AssertionError:
            return "caught"
        except Exception as error:
            return type(error).__name__
        finally:
            restore(saved)
        return ""


def pages(cells: Cells) -> Iterator[Page]:
    """Each check of a chapter, ready to be tried with its mutants."""
    found = list(checks(cells))
    wanted = {id(s) for check in found for s in check.needed}
    names: dict[str, Any] = {"__name__": "page"}
    for cell in cells:
        entry, start = fork(names), state()
        for statement in cell:
            if id(statement) in wanted and not label_of(statement):
                run([copy.deepcopy(statement)], names)
        after = state()
        for check in found:
            if any(check.own[-1] is statement for statement in cell):
                yield Page(check, entry, start)
        restore(after)


def tried(page: Page, reasons: dict[str, str]) -> dict[str, Any]:
    """The row of a check in the record; its mutants that live keep the reasons that they have."""
    check = page.check
    assert not page.outcome(check.own), f"{check.label} fails as it stands"
    made = list(mutants(check.own, check.label))
    alive = [m for m in made if not page.outcome(m.statements)]
    living = {f"{m.was} -> {m.now}": reasons.get(f"{m.was} -> {m.now}", "") for m in alive}
    return {"label": check.label, "code": check.digest, "mutants": len(made), "alive": living}


def main(asked: list[str]) -> None:
    """Try the mutants of these chapters, or of all, and write the record."""
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for path, cells in chapters().items():
        if asked and path.name[:2] not in asked:
            continue
        torch.set_default_dtype(torch.float32)
        old = record.get(path.stem, [])
        reasons = {k: why for row in old for k, why in row["alive"].items()}
        rows = record[path.stem] = [tried(page, reasons) for page in pages(cells)]
        alive = [why for row in rows for why in row["alive"].values()]
        made = sum(row["mutants"] for row in rows)
        print(f"{path.stem}: {made} mutants, {len(alive)} live, {alive.count('')} without a reason")
        text = json.dumps(dict(sorted(record.items())), indent=1, ensure_ascii=False)
        RECORD.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
