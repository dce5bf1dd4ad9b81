"""Hidden cells become one toggle under the figure that they draw."""

import re
import sys
from pathlib import Path

import nbformat
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))


def cell(source: str, *tags: str, output: str = "") -> nbformat.NotebookNode:
    made = nbformat.v4.new_code_cell(source, execution_count=1)
    made.metadata["tags"] = list(tags)
    if output:
        made.outputs = [nbformat.v4.new_output("stream", text=output)]
    return made


def shown(folder: Path, *cells: nbformat.NotebookNode) -> list[str]:
    """What a page of these cells shows, in order: code, output, and toggles around their code."""
    text = nbformat.v4.new_markdown_cell("# Page")
    nb = nbformat.v4.new_notebook(cells=[text, *cells])
    nb.metadata["language_info"] = {"name": "python"}
    nbformat.write(nb, folder / "index.ipynb")
    out, settings = folder / "html", {"extensions": ["myst_nb", "quiet_code"]}
    settings |= {"nb_execution_mode": "off", "html_theme": "basic"}
    with docutils_namespace():
        Sphinx(folder, None, out, folder / "t", "html", settings, status=None).build()
    page = (out / "index.html").read_text()
    found = re.findall(r"(</?details|<summary>code|\b(?:code|said)_\d)", page)
    return [part.strip("<") for part in found if part != "<summary>code"]


OPEN, CLOSE = "details", "/details"


def test_code_stands_under_what_it_draws(tmp_path):
    hidden = cell("code_1", "hide-input", output="said_1")
    assert shown(tmp_path, hidden) == ["said_1", OPEN, "code_1", CLOSE]


def test_cells_before_it_go_into_the_same_toggle_in_their_order(tmp_path):
    cells = [cell("code_1", "hide-input"), cell("code_2", "hide-input", output="said_2")]
    assert shown(tmp_path, *cells) == ["said_2", OPEN, "code_1", "code_2", CLOSE]


def test_each_figure_has_its_own(tmp_path):
    cells = [cell(f"code_{k}", "hide-input", output=f"said_{k}") for k in (1, 2)]
    first = ["said_1", OPEN, "code_1", CLOSE]
    assert shown(tmp_path, *cells) == [*first, "said_2", OPEN, "code_2", CLOSE]


def test_code_that_draws_nothing_stays_in_its_place(tmp_path):
    cells = [cell("code_1", "hide-input"), cell("code_2", output="said_2")]
    assert shown(tmp_path, *cells) == [OPEN, "code_1", CLOSE, "code_2", "said_2"]


def test_shown_code_is_left_alone(tmp_path):
    assert shown(tmp_path, cell("code_1", output="said_1")) == ["code_1", "said_1"]
