"""The floors of the house: an import goes down, never up or sideways."""

import ast
from pathlib import Path

import ddpm_lite

ROOT = Path(ddpm_lite.__file__).parent

FLOORS = [
    {"gaussian", "schedule", "live"},
    {"forward", "posterior", "prediction", "metrics"},
    {"sampling", "score", "networks"},
    {"objective", "oracle", "sde", "checkpoint"},
    {"data", "training"},
    {"digits"},
    {"evaluation", "run"},
    {"cli"},
    {"__main__"},
]
WORKSHOP = {
    "networks",
    "checkpoint",
    "digits",
    "evaluation",
    "run",
    "cli",
    "__main__",
}  # knows of weights
APART = {"verify": set(), "plots": {"live"}}  # what each may import
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}


def imports(path: Path) -> set[str]:
    """Absolute dotted names of all that a file imports, at any depth of its code."""
    package = ["ddpm_lite", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


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
    for room in set(FLOOR) - WORKSHOP - {"live"}:
        assert not edges[room] & (WORKSHOP | {"live", "plots", "verify"}), room


def test_live_figures_do_not_need_torch():
    for path in (ROOT / "live").glob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] == "torch"}, path


def test_the_parser_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "live" / "some.py"
    file.parent.mkdir()
    file.write_text(
        "import torch.nn\nfrom . import near\nfrom .marks import Curve\nfrom .. import plots\n"
        "def f():\n    from ..oracle import grid\n    from ddpm_lite import data as d\n"
    )
    assert imports(file) == {
        "torch.nn",
        "ddpm_lite.live.near",
        "ddpm_lite.live.marks.Curve",
        "ddpm_lite.plots",
        "ddpm_lite.oracle.grid",
        "ddpm_lite.data",
    }
