"""The length of a chapter's main line, counted as a reader would."""

import nbformat
import pytest
from small_book import tool

length = tool.length


def md(*cells):
    """A notebook of Markdown cells."""
    nb = nbformat.v4.new_notebook()
    nb.cells = [nbformat.v4.new_markdown_cell(cell) for cell in cells]
    return nb


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("Two words.", 2),
        ("It's a well-known law", 4),
        ("Noise $x_t = a + b$ and $$\nx = y\n$$ more", 3),
        ("See {eq}`eq-one` and [the next chapter](02-x.ipynb).", 5),
        ("One\n```python\nnot_this = 1\n```\ntwo", 2),
        ("One\n```{math}\n:label: eq-x\na b c\n```\ntwo", 2),
        ("One\n```{admonition} A title of five words\n:class: note\ninside\n```", 7),
        ("One\n```{admonition} Closed\n:class: note dropdown\ninside\n```\ntwo", 3),
        ("One\n````{dropdown} Closed\ninside\n```{math}\na\n```\nstill inside\n````\ntwo", 2),
        ("One\n:::{dropdown} Closed\ninside\n:::\ntwo", 2),
    ],
)
def test_words_are_those_that_stand_open(source, words):
    assert length.length(md(source)).words == words


def test_the_main_line_ends_at_the_exercises():
    nb = md("# Title", "Three words here", "## Exercises\n\nmore", "and more")
    assert length.length(nb).words == 4


def test_a_side_path_is_no_part_of_it():
    start, end = "```{side-path} Title of it\n```", "```{side-path-end}\n```"
    code = nbformat.v4.new_code_cell("1")
    nb = md(f"Two words\n\n{start}\n\nnot these", "nor these", f"nor this\n\n{end}\n\nhere again")
    nb.cells[1:1] = [code]
    nb.cells.append(code)
    assert length.length(nb) == (4, 1)


def test_a_cell_counts_where_the_page_shows_it():
    nb = md("# Title")
    for tags in ([], ["hide-input"], ["nbval-ignore-output"], ["remove-cell"], ["hide-cell"]):
        nb.cells.append(nbformat.v4.new_code_cell("1", metadata={"tags": tags}))
    assert length.length(nb).cells == 2


def said(folder, name, words):
    """What `check` says of the length of a chapter."""
    path = folder / name
    path.write_text(tool.dumps(md("word " * words)), encoding="utf-8")
    return [m for m in tool.check(path, {path.with_suffix("")}) if "main line" in m]


def test_check_names_a_chapter_that_is_too_long_and_one_that_no_longer_is(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "STILL_TOO_LONG", {"02-b"})
    assert said(tmp_path, "01-a.ipynb", length.WORDS) == []
    (message,) = said(tmp_path, "01-a.ipynb", length.WORDS + 1)
    assert "3,501 words" in message
    assert said(tmp_path, "02-b.ipynb", length.WORDS + 1) == []
    (message,) = said(tmp_path, "02-b.ipynb", length.WORDS)
    assert "STILL_TOO_LONG" in message
    assert said(tmp_path, "speed.ipynb", length.WORDS + 1) == []
