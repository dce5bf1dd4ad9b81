"""Equations counted by chapter, and the ledger: each one with what verified it.

A chapter's number is the prefix of its file (``06-forward-process``), so its third labelled
equation is (6.3) wherever it is referred to. The ``{ledger}`` directive reads the notebooks as they
are stored: the formulas from the text (``$$ ... $$ (eq-name)``; ``def-name`` for a definition), the
checks from the lines that `ddpm_lite.verify` left in the outputs. Nothing is executed or imported.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx import addnodes
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.util.docutils import SphinxDirective

CHAPTER = re.compile(r"(?:^|/)(\d\d)-[^/]*$")
DOLLARS = re.compile(
    r"\$\$((?:(?!\$\$).)+)\$\$[ \t]*\(((?:eq|def)-[\w-]+)\)", re.DOTALL
)
DIRECTIVE = re.compile(
    r"```\{math\}\s*\n:label: *((?:eq|def)-[\w-]+)\s*\n(.+?)```", re.DOTALL
)
CHECK = re.compile(
    r"^verified ([\w-]+): (.+); ([\d,]+) values? agrees? to (.+)$", re.MULTILINE
)
SECTION_DEPTH = 2  # numbers down to 6.2; deeper headings go without


@dataclass(frozen=True)
class Check:
    """One line that `verify` stored under an equation."""

    label: str
    route: str
    count: int
    tolerance: str

    def __str__(self) -> str:
        values = (
            "1 value agrees" if self.count == 1 else f"{self.count:,} values agree"
        )
        return f"✓ by {self.route}: {values} to {self.tolerance}"


@dataclass
class Equation:
    """A labelled equation of the book and the checks that name it."""

    label: str
    formula: str
    checks: list[Check] = field(default_factory=list)

    @property
    def is_definition(self) -> bool:
        return self.label.startswith("def-")


def equations_in(text: str) -> list[Equation]:
    """The labelled equations of a Markdown text, in its order."""
    found = [(m.start(), m[2], m[1]) for m in DOLLARS.finditer(text)]
    found += [(m.start(), m[1], m[2]) for m in DIRECTIVE.finditer(text)]
    return [Equation(label, formula.strip()) for _, label, formula in sorted(found)]


def checks_in(cell: nbformat.NotebookNode) -> list[Check]:
    """The checks that a code cell's stored outputs report."""
    texts = (
        o.get("text") or o.get("data", {}).get("text/plain", "")
        for o in cell.outputs
    )
    found = (m.groups() for text in texts for m in CHECK.finditer(text))
    return [
        Check(label, route, int(n.replace(",", "")), tol)
        for label, route, n, tol in found
    ]


def read_page(path: Path) -> tuple[list[Equation], list[Check]]:
    """The equations that a page states and the checks that it stores."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return equations_in(text), []
    cells = nbformat.reads(text, as_version=4).cells
    equations = [
        e
        for c in cells
        if c.cell_type == "markdown"
        for e in equations_in(c.source)
    ]
    return equations, [
        k for c in cells if c.cell_type == "code" for k in checks_in(c)
    ]


def read_book(pages: list[Path]) -> dict[Path, list[Equation]]:
    """The equations of each page, with every check of the book that names them."""
    read = {page: read_page(page) for page in pages}
    checks = [check for _, found in read.values() for check in found]
    book = {page: equations for page, (equations, _) in read.items() if equations}
    for equation in (e for equations in book.values() for e in equations):
        equation.checks = [
            check for check in checks if check.label == equation.label
        ]
    return book


class LedgerDirective(SphinxDirective):
    """Every labelled equation of the book: number, formula, chapter, and what verified it."""

    def run(self) -> list[nodes.Node]:
        # pages in the reader's order: the chapters' files begin with their numbers
        docs = {Path(self.env.doc2path(d)): d for d in sorted(self.env.found_docs)}
        for path in docs:
            self.env.note_dependency(str(path))
        book = read_book(list(docs))
        everything = [e for equations in book.values() for e in equations]
        result: list[nodes.Node] = [self.summary(everything)]
        for path, equations in book.items():
            chapter = CHAPTER.search(docs[path])
            number = f"{int(chapter[1])}. " if chapter else ""
            title = nodes.rubric("", number, classes=["ledger-chapter"])
            title += self.reference("std", "doc", f"/{docs[path]}")
            result += [title, *(self.entry(e) for e in equations)]
        return result

    def summary(self, equations: list[Equation]) -> nodes.paragraph:
        kinds = Counter(e.is_definition for e in equations)
        checks = [k for e in equations for k in e.checks]
        numbers = sum(k.count for k in checks)
        text = (
            f"Equations: {kinds[False]}. Checks: {len(checks)}, which compare {numbers:,} numbers. "
            f"Definitions: {kinds[True]}."
        )
        return nodes.paragraph("", text, classes=["ledger-summary"])

    def entry(self, equation: Equation) -> nodes.container:
        head = nodes.paragraph("", "", classes=["ledger-name"])
        head += self.reference("math", "eq", equation.label)
        head += [nodes.Text(" "), nodes.literal("", equation.label)]
        formula = nodes.math_block(
            equation.formula, equation.formula, nowrap=False, number=None
        )
        formula["docname"], formula["label"] = self.env.docname, None
        notes = [
            nodes.paragraph("", str(k), classes=["verified"])
            for k in equation.checks
        ]
        if not notes:
            kind = "definition" if equation.is_definition else "not verified"
            notes = [nodes.paragraph("", kind, classes=[kind.replace(" ", "-")])]
        # the anchor that the line under the equation links to
        return nodes.container(
            "", head, formula, *notes, classes=["ledger"], ids=[equation.label]
        )

    def reference(
        self, domain: str, kind: str, target: str
    ) -> addnodes.pending_xref:
        return addnodes.pending_xref(
            "",
            nodes.inline("", target),
            refdomain=domain,
            reftype=kind,
            reftarget=target,
            refdoc=self.env.docname,
            refexplicit=False,
            refwarn=True,
        )


def number_sections(
    toc: nodes.Element, number: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(anchor, section number) of every heading in a page's contents, which it marks too."""
    count = 0
    for item in toc.children:
        if not isinstance(item, nodes.list_item):
            continue
        reference = next(iter(item[0].findall(nodes.reference)), None)
        if reference is None:
            continue
        count += 1
        own = number if not reference["anchorname"] else (*number, count)
        reference["secnumber"] = own if len(own) <= SECTION_DEPTH else None
        yield reference["anchorname"], own if len(own) <= SECTION_DEPTH else ()
        for sub in item.children[1:]:
            if isinstance(sub, nodes.bullet_list):
                yield from number_sections(sub, own)


def number_chapters(app, env) -> list[str]:
    """Give each chapter its file's number, by which Sphinx then numbers its equations."""
    changed = []
    for doc, toc in env.tocs.items():
        chapter = CHAPTER.search(doc)
        if chapter:
            env.toc_secnumbers[doc] = dict(number_sections(toc, (int(chapter[1]),)))
            env.titles[doc]["secnumber"] = (int(chapter[1]),)
            changed.append(doc)
    return changed + TocTreeCollector().assign_figure_numbers(env)


def setup(app):
    app.add_directive("ledger", LedgerDirective)
    # after Sphinx's own numbering, which knows only running numbers
    app.connect("env-get-updated", number_chapters, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
