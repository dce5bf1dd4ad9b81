"""The machinery of the mutation tests: slices of a chapter, and a copy of the package to run in."""

import ast
import importlib

import pytest
import torch
from mutants import Mutation, failures
from slicing import loaded, loaded_late, slices, stored

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


def statement(source: str) -> ast.stmt:
    return ast.parse(source).body[0]


def small(label: str) -> list[ast.Module]:
    cells = [ast.parse(source).body for source in CHAPTER]
    return [ast.Module(s, []) for s in slices(cells, label)]


def slice_of(source: str) -> list[str]:
    """The lines that verify(...), the last line of one cell, needs."""
    source += '\nverify("eq-a", result)'
    (found,) = slices([ast.parse(source).body], "eq-a")
    return "\n".join(map(ast.unparse, found)).splitlines()[:-1]


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


# ---- scopes: Python 3.12 and later have none for a comprehension ---------------------------------

READ = {
    "y = [x * k for x in rows if x > m]": {"k", "rows", "m"},
    "y = [x for x in x]": {"x"},  # the first iterable is the outer one
    "y = [[a * b * c for a in u] for b in v]": {"c", "u", "v"},
    "y = {k: v for k, v in [(i, j) for i in r]}": {"j", "r"},
    "y = [(lambda t: t * x * p)(q) for x in r]": {"p", "q", "r"},
    "f = lambda q: [q * w for w in g]": {"g"},
    "def f(a, b=d):\n    return sum(a * z * c for c in h)": {"d", "h", "sum", "z"},
    "def f(n):\n    def g():\n        return [n * m for n in n]\n    return g": {"m"},
    "for x in r:\n    y = [x for z in x]": {"r", "x"},
    "x += 1": {"x"},
}


@pytest.mark.parametrize("source", READ)
def test_names_that_are_read(source):
    assert loaded(statement(source)) == READ[source]


BOUND = {
    "y = [x for x in rows]": {"y"},
    "print([x for x in rows])": set(),
    "y = [(w := x) for x in rows]": {"w", "y"},
    "def f():\n    global g\n    g = h = 1": {"f", "g"},
    "class A:\n    b = 1": {"A"},
    "import a.b, c as d": {"a", "d"},
    "rows[0].total += 1": {"rows"},
    "for x in r:\n    rows.append([z for z in x])": {"x", "rows"},
    "try:\n    f()\nexcept E as e:\n    pass": {"e"},
    "match p:\n    case [a, *b]:\n        pass": {"a", "b"},
}


@pytest.mark.parametrize("source", BOUND)
def test_names_that_are_bound(source):
    assert stored(statement(source)) == BOUND[source]


LATE = {
    "y = [x * k for x in rows]": set(),
    "y = list(x * k for x in rows)": set(),
    "y = [lambda: x * k for x in rows]": {"k"},
    "f = partial(g, lambda x: x * k)": {"k"},
    "def f(a=d):\n    return k": {"k"},
    "class A:\n    b = k\n    def m(self):\n        return g": {"g"},
}


@pytest.mark.parametrize("source", LATE)
def test_names_that_are_read_when_a_function_is_called(source):
    assert loaded_late(statement(source)) == LATE[source]


def test_a_comprehensions_variable_is_not_the_name_outside():
    source = "x = 5\nsquares = [x * x for x in range(3)]\nresult = x"
    assert slice_of(source) == ["x = 5", "result = x"]
    source = "x = 5\nsquares = [x * x for x in range(3)]\nresult = squares"
    assert slice_of(source) == ["squares = [x * x for x in range(3)]", "result = squares"]


def test_what_a_comprehension_reads_inside_another_is_needed():
    lines = ["k = 2", "rows = [[1]]", "result = [[k * x for x in row] for row in rows]"]
    assert slice_of("\n".join(["x = row = 0", *lines])) == lines


@pytest.mark.parametrize(
    "made", ["f = [lambda x: k * x for _ in range(2)][0]", "def f(x):\n    return k * x"]
)
def test_a_function_sees_what_was_bound_after_it_was_made(made):
    source = f"k = 1\n{made}\nk = 2\nresult = f(3)"
    assert "k = 2" in slice_of(source)


# ---- the copy of the package ---------------------------------------------------------------------


def test_the_true_package_passes_and_a_mutation_fails_by_name():
    wrong = Mutation("schedule", "alpha_bar = alpha.cumprod(0)", "alpha_bar = beta", "eq-second")
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
