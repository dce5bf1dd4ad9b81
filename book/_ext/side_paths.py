"""A side path: Markdown and code cells that fold away under a title.

`{side-path} Title` starts it, `{side-path-end}` ends it. Both stand in Markdown cells of one section;
the cells between them, their figures too, are what is folded. On the page it is a dropdown.
"""

from collections.abc import Iterator

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx_design.dropdown import DropdownDirective

logger = logging.getLogger(__name__)
CLASS = "side-path"


class SidePath(DropdownDirective):
    """Where a side path starts, and its title, which names it as one."""

    required_arguments, optional_arguments = 1, 0
    has_content = False

    def run_with_defaults(self) -> list[nodes.Node]:
        self.options["class-container"] = [CLASS]
        self.arguments = [f"Side path: {self.arguments[0]}"]
        return super().run_with_defaults()


class End(nodes.Element):
    """Where a side path ends."""


class SidePathEnd(SphinxDirective):
    """Where a side path ends."""

    def run(self) -> list[nodes.Node]:
        end = End()
        self.set_source_info(end)
        return [end]


def is_start(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and CLASS in node.get(
        "container_classes", []
    )


def inside(start: nodes.Element) -> Iterator[nodes.Node]:
    """What stands between a start and its end; ValueError where there is no end."""
    siblings = start.parent.children
    for node in siblings[siblings.index(start) + 1 :]:
        if isinstance(node, End):
            return
        if is_start(node) or isinstance(node, nodes.section):
            break
        yield node
    raise ValueError(
        "a side path needs a {side-path-end} in its own section, before the next one"
    )


class Fold(SphinxTransform):
    """Each side path takes in what stands between its start and its end."""

    default_priority = 9  # before solutions take in what follows them

    def apply(self, **kwargs):
        for start in list(self.document.findall(is_start)):
            try:
                folded = list(inside(start))
            except ValueError as error:
                logger.error(str(error), location=start)
                continue
            end = start.parent.children[start.parent.index(start) + len(folded) + 1]
            for node in [*folded, end]:
                start.parent.remove(node)
            start += folded
        for end in list(self.document.findall(End)):
            logger.error(
                "a {side-path-end} without a {side-path} before it", location=end
            )
            end.parent.remove(end)


def setup(app):
    app.add_directive("side-path", SidePath)
    app.add_directive("side-path-end", SidePathEnd)
    app.add_transform(Fold)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
