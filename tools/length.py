"""How long the main line of a chapter is: its words, and the code cells that the page shows.

The main line goes from the title to the exercises. What is in a dropdown or a side path is no part
of it, nor are formulas, code and directives' options; a code cell counts unless it is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import nbformat

WORDS, CELLS = 3500, 45  # the most of a chapter: 25 minutes
ENDS = "## Exercises"
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
SIDE_PATH = re.compile(r"^`{3,}\{side-path(-end)?\}.*\n`{3,}[ \t]*$", re.M)
FENCE = re.compile(r"^\s*(`{3,}|~{3,}|:{3,})\s*(?:\{([\w:-]+)\})?(.*)$")
SILENT = {
    "math",
    "code",
    "code-block",
    "code-cell",
    "figure",
    "image",
    "bibliography",
    "tableofcontents",
}
OPTION = re.compile(r"^\s*:[\w-]+:")
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$|\{math\}`[^`]*`", re.S)
ROLE = re.compile(r"\{[\w:-]+\}`[^`]*`")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


class Length(NamedTuple):
    """Of a chapter's main line."""

    words: int
    cells: int

    @property
    def is_too_long(self) -> bool:
        return self.words > WORDS or self.cells > CELLS


def main_line(nb: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    """The cells before the exercises, without what side paths fold away."""
    is_folded = False
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            if not is_folded:
                yield cell
            continue
        if f"\n{ENDS}" in f"\n{cell.source}":
            return
        text, *rest = SIDE_PATH.split(cell.source)
        parts = [] if is_folded else [text]
        for is_end, after in zip(rest[::2], rest[1::2], strict=True):
            is_folded = not is_end
            parts += [] if is_folded else [after]
        yield nbformat.NotebookNode(cell, source="\n".join(parts))


def prose(source: str) -> str:
    """The lines of a Markdown cell that stand open on the page."""
    fences: list[tuple[str, bool]] = []  # what opened each, and whether what is in it is silent
    lines = []
    for line in source.splitlines():
        found = FENCE.match(line)
        if found and fences and closes(found, fences[-1][0]):
            fences.pop()
        elif found:
            silent = not found[2] or found[2] in SILENT or "dropdown" in found[2]
            fences.append((found[1], silent))
            lines.append("" if silent else found[3])
        elif OPTION.match(line) and fences:
            if ":class:" in line and "dropdown" in line:
                fences[-1] = (fences[-1][0], True)
        elif not any(silent for _, silent in fences):
            lines.append(line)
    return "\n".join(lines)


def closes(found: re.Match[str], fence: str) -> bool:
    return found[1][0] == fence[0] and len(found[1]) >= len(fence) and not (found[2] or found[3])


def words(text: str) -> int:
    """How many words a reader reads; a formula, a role and an address are none."""
    return len(WORD.findall(LINK.sub(r"\1", ROLE.sub(" ", FORMULA.sub(" ", text)))))


def length(nb: nbformat.NotebookNode) -> Length:
    """The words and the visible code cells of the main line."""
    cells = list(main_line(nb))
    shown = [
        c for c in cells if c.cell_type == "code" and not HIDDEN & {*c.metadata.get("tags", [])}
    ]
    text = [prose(c.source) for c in cells if c.cell_type == "markdown"]
    return Length(sum(map(words, text)), len(shown))
