"""Chapter 0's promise: the program that it shows is whole, short, and needs PyTorch alone."""

import ast
from pathlib import Path

import nbformat
import torch

from ddpm_lite.forward import q_sample
from ddpm_lite.schedule import linear_schedule

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "book" / "00-one-sitting.ipynb"
LINES = 60


def program() -> list[str]:
    """The cells that the section "The whole program" shows, up to the one that draws."""
    cells = nbformat.read(CHAPTER, as_version=4).cells
    (start,) = (i for i, c in enumerate(cells) if "## The whole program" in c.source)
    shown = [
        c.source
        for c in cells[start + 1 :]
        if c.cell_type == "code" and "remove-cell" not in c.metadata.get("tags", [])
    ]
    (end,) = (i for i, source in enumerate(shown) if "drawn = algorithm_2(" in source)
    return shown[: end + 1]


def test_the_program_is_short_and_needs_pytorch_alone():
    source = "\n".join(program())
    assert sum(1 for line in source.splitlines() if line.strip()) <= LINES
    nodes = [*ast.walk(ast.parse(source))]
    imported = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
    assert imported == {"torch"}


def test_the_program_runs_by_itself_and_learns():
    *parts, last = program()
    short = last.replace("algorithm_1(net, data)", "algorithm_1(net, data, steps=300, n=256)")
    assert short != last
    space: dict = {}
    exec("\n".join([*parts, short.replace("2000", "500")]), space)
    drawn, losses = space["drawn"], torch.tensor(space["losses"])
    assert drawn.shape == (500, 1)
    assert losses[-50:].mean() < 0.5 < losses[:5].mean()  # answering 0 costs 1
    assert abs(float(drawn.abs().mean()) - 2) < 0.4  # pure noise: 0.8
    assert (drawn.abs() < 0.7).double().mean() < 0.1  # pure noise: 0.52


def test_its_data_and_its_jump_are_those_of_the_book():
    space: dict = {}
    exec("\n".join(program()[:-1]), space)
    torch.manual_seed(0)
    points, eps = space["data"](10_000), torch.randn(10_000, 1)
    t = torch.randint(1, 1001, (10_000, 1))
    jump = q_sample(linear_schedule(), points, t[:, 0], eps)
    torch.testing.assert_close(space["jump"](points, t, eps), jump, atol=1e-5, rtol=1e-5)
    assert abs(float((points > 0).double().mean()) - 0.5) < 0.02
    assert abs(float(points.var()) - 4.25) < 0.15
