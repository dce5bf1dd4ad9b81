"""A book of one small notebook, and the tools that the book's own notebooks go through."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

tool = importlib.import_module("notebooks")

_spec = importlib.util.spec_from_file_location("book_conftest", ROOT / "book" / "conftest.py")
compare = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(compare)

CELLS = [
    "import matplotlib.pyplot as plt\nimport numpy as np\nfrom IPython.display import HTML",
    "print(f'the mean is {np.arange(4).mean():.3f}')",
    "HTML('<table><tr><td>0.123</td></tr></table>')",
    "plt.figure(figsize=(3, 2))\nplt.plot([0, 1, 0])\nplt.show()",
    """from ddpm_lite.live import Curve, LiveFigure, Slider
x = np.linspace(0, 1, 50)
LiveFigure(
    lambda t=0: [Curve(x, np.sin(6 * x + t))],
    title="A wave",
    alt="A sine wave that moves to the left",
    t=Slider(range(5), label="t"),
)""",
]
PRINT, TABLE, FIGURE, LIVE = range(1, 5)


def make(root: Path, *cells: str) -> Path:
    """A book in this folder whose only chapter has these cells, not executed; its path."""
    (root / "book").mkdir(parents=True)
    shutil.copy(ROOT / "book" / "conftest.py", root / "book")
    (root / "_toc.yml").write_text("root: book/intro\nchapters:\n- file: book/01-small\n")
    (root / "book" / "intro.md").write_text("# Intro\n")
    path = root / "book" / "01-small.ipynb"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(nb, path)
    return path


def notebook() -> dict:
    """The JSON of a smaller notebook as it is stored, a text and a line of code: no fault in it."""
    code = nbformat.v4.new_code_cell("print(1)", execution_count=1)
    code.outputs = [nbformat.v4.new_output("stream", text="1\n")]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("Words"), code])
    nb.metadata[tool.RUN_KEY] = tool.code_digest(nb)
    return json.loads(tool.dumps(tool.normalise(nb)))


def dumped(nb: object) -> bytes:
    return (json.dumps(nb, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def output(nb: nbformat.NotebookNode, cell: int) -> nbformat.NotebookNode:
    return nb.cells[cell].outputs[0]
