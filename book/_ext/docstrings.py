"""Docstrings on the API page, as they are written.

They are plain text: shapes such as ``[B, *D]`` and names such as ``x_0_`` mean nothing to
reStructuredText, and an equation's label becomes a link to the equation.
"""

import re
import sys
from pathlib import Path

from astroid.manager import AstroidManager
from ledger import read_page

LITERAL = re.compile(r"``[^`]+``|`[^`]+`")
LABEL = re.compile(r"\(((?:eq|def)-[a-z0-9-]+)\)|\b((?:eq|def)-[a-z0-9-]+)")
SPECIAL = re.compile(r"([\\*|_])")


def escaped(text: str, labels: set[str]) -> str:
    """Plain text as reStructuredText: names in backticks in code type, labels as links."""

    def link(match: re.Match) -> str:
        label = match[1] or match[2]
        return (
            f":eq:`{label}`" if label in labels else match[0]
        )  # it comes with parentheses

    def prose(part: str) -> str:
        return LABEL.sub(link, SPECIAL.sub(r"\\\1", part))

    parts, end = [], 0
    for literal in LITERAL.finditer(text):
        parts += [
            prose(text[end : literal.start()]),
            f"``{literal[0].strip('`')}``",
        ]
        end = literal.end()
    return "".join([*parts, prose(text[end:])])


class OutsideModules:
    """Other packages: reading torch, where it is installed, would take seconds."""

    def __contains__(self, name: str) -> bool:
        return name.split(".")[0] not in {"ddpm_lite", *sys.stdlib_module_names}


def read_labels(app):
    """The labels that a docstring may link to: those of the pages in this build."""
    stems = [Path(app.srcdir, name) for name in app.config.external_site_map]
    files = [
        Path(f"{stem}{suffix}") for stem in stems for suffix in (".ipynb", ".md")
    ]
    pages = [path for path in files if path.exists()]
    app.equation_labels = {e.label for page in pages for e in read_page(page)[0]}


def process(app, what, name, obj, options, lines):
    """Escape prose; leave indented blocks alone."""
    code = False
    for number, line in enumerate(lines):
        code = line.startswith("    ") or (code and not line.strip())
        if not code:
            lines[number] = escaped(line, app.equation_labels)


def skip_member(app, what, name, obj, skip, options):
    """The page shows what a module itself defines and describes."""
    return skip or obj.imported or not obj.docstring


def setup(app):
    AstroidManager.brain["module_denylist"] = OutsideModules()
    # sphinx-autoapi reads the package at priority 500
    app.connect("builder-inited", read_labels, priority=400)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", process)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
