"""Backward slices of a chapter's code: the statements that one verify() call needs, and no more.

Found by names over the top-level statements. Which names a statement reads and binds is asked of
the compiler: so the scopes of functions, lambdas and comprehensions are the language's own, and the
slices are the same with every version of Python.
"""

from __future__ import annotations

import ast
import dis
import inspect
from functools import cache
from types import CodeType

READS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
AT_ONCE = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}  # code inside that does not wait
Cells = list[list[ast.stmt]]  # of one chapter


def code_of(node: ast.stmt) -> CodeType:
    return compile(ast.Module([node], []), "slice", "exec", optimize=0)  # with its assertions


def inside(code: CodeType) -> list[CodeType]:
    return [part for part in code.co_consts if isinstance(part, CodeType)]


def names(code: CodeType, operations: set[str]) -> set[str]:
    """The names that these operations touch in a code object and in the code inside it."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in operations}
    return found.union(*(names(part, operations) for part in inside(code)))


@cache
def loaded(node: ast.stmt) -> set[str]:
    """The global names that a statement reads, those inside its functions too."""
    return names(code_of(node), READS)


@cache
def loaded_late(node: ast.stmt) -> set[str]:
    """Those of them that the functions and lambdas in a statement read when they are called."""

    def late(code: CodeType) -> set[str]:
        waits = code.co_flags & inspect.CO_NEWLOCALS and code.co_name not in AT_ONCE
        return names(code, READS) if waits else set().union(*map(late, inside(code)))

    return late(code_of(node))


@cache
def stored(node: ast.stmt) -> set[str]:
    """The names that a statement binds, or changes in place (x[i] = ..., x.append(...))."""
    code = code_of(node)
    bound = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_NAME"}
    bound |= names(code, {"STORE_GLOBAL"})  # `global x` in a function, := in a comprehension
    return bound if defines(node) else bound | changed(node)


def changed(node: ast.stmt) -> set[str]:
    """The names whose values a statement changes in place."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store):
            found.add(root(part))
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            if isinstance(part.value.func, ast.Attribute):
                found.add(root(part.value.func))
    return found - {""}


def replaced(node: ast.stmt) -> set[str]:
    """The names whose earlier values no longer matter after a statement."""
    plain = defines(node) or isinstance(node, ast.Import | ast.ImportFrom)
    targets = node.targets if isinstance(node, ast.Assign) else []
    flat = [t for target in targets for t in getattr(target, "elts", [target])]
    return stored(node) if plain else {t.id for t in flat if isinstance(t, ast.Name)}


def defines(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def root(node: ast.AST) -> str:
    """`x` of x[i].y(...), or '' if it does not begin with a name."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def sets_torch(node: ast.stmt) -> bool:
    """torch.set_default_dtype(...), torch.manual_seed(...): they act on all that follows."""
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and root(call.func) == "torch"


def verifies(node: ast.stmt, label: str) -> bool:
    calls = (n for n in ast.walk(node) if isinstance(n, ast.Call))
    return any(
        root(n.func) == "verify" and n.args and getattr(n.args[0], "value", None) == label
        for n in calls
    )


def asserts(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assert) or "assert_close" in ast.unparse(node)


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
        reads = set().union(*map(loaded_late, kept))
        if late >= reads:
            return kept
        late |= reads
