"""The floors of the house: an import goes down, never up or sideways; and rooms stay small."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddpm_lite

ROOT = Path(ddpm_lite.__file__).parent

FLOORS = [
    {"checks", "files", "live"},
    {"gaussian", "times", "data", "metrics"},
    {"schedule"},
    {"forward", "posterior", "prediction"},
    {"loss", "mixture", "sampling", "score", "networks"},
    {"bound", "density", "guidance", "sde", "training"},
    {"measurement", "solvers", "terminal"},
    {"tasks"},
    {"cli", "doctor", "page"},
    {"__main__", "bugs"},
]
WORKSHOP = {"networks", "data", "training", "tasks", "files", "terminal", "cli"}  # know of weights
WORKSHOP |= {"page", "__main__", "doctor", "bugs"}
APART = {"verify": set(), "plots": {"live"}}  # what each may import
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}
MATHEMATICS = set(FLOOR) - WORKSHOP - {"live"}


def imports(path: Path) -> set[str]:
    """Absolute dotted names of all that a file imports, at any depth of its code.

    But for what only a type checker sees.
    """
    package = ["ddpm_lite", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, but those under ``if TYPE_CHECKING``."""
    yield node
    if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from running(child)


def graph() -> dict[str, set[str]]:
    """Room -> rooms that it imports; a folder is one room."""
    edges: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        inside = {name.split(".")[1] for name in imports(path) if name.startswith("ddpm_lite.")}
        edges.setdefault(room, set()).update(inside - {room, "__version__"})
    edges.pop("__init__")
    return edges


def test_every_room_has_a_floor():
    assert set(graph()) == set(FLOOR) | set(APART), "give a new module its floor in FLOORS"


def test_arrows_go_down():
    for room, used in graph().items():
        if room in APART:
            assert used <= APART[room], f"{room} stands apart, but imports {used - APART[room]}"
        for other in used - set(APART):
            assert room in APART or FLOOR[other] < FLOOR[room], f"{room} imports {other}"


def test_there_is_no_circle():
    edges, order = graph(), []
    while edges:
        free = {room for room, used in edges.items() if not used & set(edges)}
        assert free, f"a circle among {sorted(edges)}"
        order += sorted(free)
        edges = {room: used for room, used in edges.items() if room not in free}
    assert set(order) == set(FLOOR) | set(APART)


def test_the_mathematics_knows_nothing_of_networks_and_pictures():
    edges = graph()
    for room in MATHEMATICS:
        assert not edges[room] & (WORKSHOP | {"live", "plots", "verify"}), room


HEAVY = ("scipy", "matplotlib", "ipywidgets", "anywidget", "PIL", "tyro", "safetensors")
LOADED = """
import json, sys, importlib
for name in sys.argv[1:]:
    importlib.import_module(f"ddpm_lite.{name}")
print(json.dumps(sorted(sys.modules)))
"""


def loaded(*rooms: str) -> set[str]:
    """What a fresh interpreter holds once it has imported these rooms."""
    command = [sys.executable, "-c", LOADED, *rooms]
    return set(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def test_importing_the_mathematics_loads_neither_scipy_nor_pictures_nor_networks():
    """Those who compute with it should not wait for what they do not use."""
    names = loaded(*sorted(MATHEMATICS))
    assert {f"ddpm_lite.{room}" for room in MATHEMATICS} <= names
    assert not names & set(HEAVY)
    for room in (WORKSHOP | {"live", "plots", "verify"}) - {"__main__"}:
        assert f"ddpm_lite.{room}" not in names, room


def test_the_sides_of_the_package_do_not_load_each_other():
    """A picture needs no torch, a network no picture, and the package itself nothing."""
    assert not loaded("live") & {"torch", "ddpm_lite.schedule"}
    assert not loaded("networks", "training") & {"matplotlib", "ipywidgets", "ddpm_lite.live"}
    assert not {name for name in loaded() if name.startswith("ddpm_lite.")}


def test_live_figures_do_not_need_torch():
    for path in (ROOT / "live").glob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] == "torch"}, path


def test_the_parser_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "live" / "some.py"
    file.parent.mkdir()
    file.write_text(
        "import torch.nn\nfrom . import near\nfrom .marks import Curve\nfrom .. import plots\n"
        "def f():\n    from ..density import grid\n    from ddpm_lite import data as d\n"
        "if TYPE_CHECKING:\n    from ..schedule import NoiseSchedule\n"
    )
    assert imports(file) == {
        "torch.nn",
        "ddpm_lite.live.near",
        "ddpm_lite.live.marks.Curve",
        "ddpm_lite.plots",
        "ddpm_lite.density.grid",
        "ddpm_lite.data",
    }


# ---- size --------------------------------------------------------------------------------------

LONGEST_FILE, LONGEST_FUNCTION = 300, 40
LONG: dict[str, str] = {}  # "file" or "file: function" -> why


def code_lines(function: ast.AST, lines: list[str]) -> int:
    """Lines of code of a function and of those within it: no docstring, comment or blank line."""
    skipped = set()
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                skipped |= set(range(first.lineno, first.end_lineno + 1))
    inside = range(function.lineno, function.end_lineno + 1)
    text = [lines[n - 1].strip() for n in inside if n not in skipped]
    return sum(bool(line) and not line.startswith("#") for line in text)


def too_long(folder: Path) -> set[str]:
    """The files and functions below a folder that are too long, as LONG names them."""
    found = set()
    for path in sorted(folder.rglob("*.py")):
        name, source = path.relative_to(folder.parent).as_posix(), path.read_text(encoding="utf-8")
        lines = source.splitlines()
        if len(lines) > LONGEST_FILE:
            found.add(name)
        for node in ast.walk(ast.parse(source)):
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if function and code_lines(node, lines) > LONGEST_FUNCTION:
                found.add(f"{name}: {node.name}")
    return found


@pytest.mark.parametrize("folder", ["ddpm_lite", "tools", "benchmarks"])
def test_no_file_and_no_function_is_too_long(folder):
    found = too_long(ROOT.parent / folder)
    allowed = {name for name in LONG if name.startswith(f"{folder}/")}
    assert found <= allowed, f"split {found - allowed}, or say in LONG why not"
    assert allowed <= found, f"strike {allowed - found} from LONG: no longer too long"


def test_what_counts_as_a_line_of_code(tmp_path):
    code = "def f(x):\n" + '    """Says.\n\n    More.\n    """\n    # why\n\n' + "    x += 1\n" * 39
    inner = "    def g():\n        return 1\n"
    for extra, expected in (("", set()), ("    return x\n", {"a/b.py: f"}), (inner, {"a/b.py: f"})):
        file = tmp_path / "a" / "b.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(code + extra)
        assert too_long(file.parent) == expected
    file.write_text("x = 1\n" * 301)
    assert too_long(file.parent) == {"a/b.py"}
