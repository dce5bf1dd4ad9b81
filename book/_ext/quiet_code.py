"""Hidden code is one slim toggle under its figure, not a bar before it.

A cell tagged `hide-input` shows what it draws, then the toggle. Hidden cells without output that stand
directly before it (imports, what it needs) go into the same toggle.
"""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


class CodeToggle(nodes.Element):
    """Code that the reader may open."""


def visit_toggle(self, node):
    what = " of the figure above" if node["figure"] else ", not shown"
    self.body.append('<details class="code-toggle">\n<summary>code')
    self.body.append(f'<span class="visually-hidden">{what}</span></summary>\n')


def depart_toggle(self, node):
    self.body.append("</details>\n")


def is_hidden(node: nodes.Node) -> bool:
    """Whether it is a cell whose code alone is hidden."""
    return isinstance(node, nodes.container) and node.get("hide_mode") == "input"


def has_output(cell: nodes.container) -> bool:
    return cell.children[-1].get("nb_element") == "cell_code_output"


def collect(cells: list[nodes.container]) -> None:
    """Put the code of these cells under the last one's output, and remove the others."""
    *before, last = cells
    toggle = CodeToggle(figure=has_output(last))
    for cell in cells:
        code = cell.children[0]
        cell.remove(code)
        toggle += code
    for cell in before:
        cell.parent.remove(cell)
    last += toggle
    del last["hide_mode"]  # MyST-NB would hide what it finds


class QuietCode(SphinxPostTransform):
    """Each run of hidden cells up to the first that draws gets its toggle."""

    default_priority = 198  # MyST-NB hides code at 199
    formats = ("html",)

    def run(self, **kwargs):
        for parent in {
            id(c.parent): c.parent for c in self.document.findall(is_hidden)
        }.values():
            run = []
            for node in [*parent.children, None]:
                if run and not is_hidden(node):
                    collect(run)
                    run = []
                if is_hidden(node):
                    run.append(node)
                    if has_output(node):
                        collect(run)
                        run = []


def setup(app):
    app.add_node(CodeToggle, html=(visit_toggle, depart_toggle))
    app.add_post_transform(QuietCode)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
