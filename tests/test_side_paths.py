"""Cells that fold away under a title."""

import io
import re
import sys
from pathlib import Path

import nbformat
import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

START, END = "```{side-path} A proof of $x$\n```", "```{side-path-end}\n```"


def built(folder: Path, *cells: str) -> tuple[str, str]:
    """The page of these cells, code where one begins with "code", and the build's complaints."""
    made = [nbformat.v4.new_markdown_cell("# Page")]
    for cell in cells:
        is_code = cell.startswith("code")
        made.append((nbformat.v4.new_code_cell if is_code else nbformat.v4.new_markdown_cell)(cell))
    nb = nbformat.v4.new_notebook(cells=made)
    nb.metadata["language_info"] = {"name": "python"}
    nbformat.write(nb, folder / "index.ipynb")
    settings = {"extensions": ["myst_nb", "sphinx_design", "quiet_code", "side_paths"]}
    settings |= {"nb_execution_mode": "off", "html_theme": "basic"}
    settings |= {"myst_enable_extensions": ["dollarmath"]}
    out, warnings = folder / "html", io.StringIO()
    with docutils_namespace():
        app = Sphinx(
            folder, None, out, folder / "t", "html", settings, status=None, warning=warnings
        )
        app.build()
    return (out / "index.html").read_text(), warnings.getvalue()


def order(page: str) -> list[str]:
    """The details, and the words and code of the cells, as the page has them."""
    return re.findall(r"</?details|(?:code|words)_\d", page)


def test_what_is_between_start_and_end_folds_away(tmp_path):
    cells = [f"words_1\n\n{START}\n\nwords_2", "code_3", f"words_4\n\n{END}\n\nwords_5", "code_6"]
    page, warnings = built(tmp_path, *cells)
    folded = ["<details", "words_2", "code_3", "words_4", "</details"]
    assert order(page) == ["words_1", *folded, "words_5", "code_6"]
    assert re.search(r"<summary[^>]*>.*?A proof of <span class=\"math", page, re.S)
    assert not warnings


def test_each_folds_its_own(tmp_path):
    page, _ = built(tmp_path, START, "words_1", END, "code_2", START, "words_3", END)
    first = ["<details", "words_1", "</details"]
    assert order(page) == [*first, "code_2", "<details", "words_3", "</details"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([START, "words_1"], "needs a {side-path-end}"),
        ([START, "words_1", START, "words_2", END], "needs a {side-path-end}"),
        ([START, f"## Next\n\n{END}"], "needs a {side-path-end}"),
        (["words_1", END], "without a {side-path}"),
    ],
)
def test_what_does_not_match_is_an_error_of_the_build(tmp_path, cells, message):
    _, warnings = built(tmp_path, *cells)
    assert message in warnings
