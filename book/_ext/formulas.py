"""Formulas typeset when the book is built: TeX becomes MathML Core, which browsers draw natively.

A formula that cannot be converted is a warning with its file and line, and so the strict build fails.
Each <math> keeps its TeX in `data-tex`: what formulas.js puts on the clipboard.
"""

import re
from html import escape, unescape
from xml.etree import ElementTree

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

CONVERTER = LatexToMathML(fancy_error=False)
TEXT = re.compile(r"\\text\{((?:[^{}$]|\$[^$]*\$)*)\}")
TOKEN = re.compile(r"\\begin\b|\\end\b|\\.|[{}&]", re.DOTALL)
DEEPER = {r"\begin": 1, "{": 1, r"\end": -1, "}": -1}
ROW = re.compile(r"(?<!\\)\\\\\s*\[[\d.]+(?:pt|em|ex)\]")
TALL = re.compile(
    r'(<m(?:sub|sup|subsup)>)(<mo[^>]* minsize="([\d.]+)em"[^>]*>[^<]*</mo>)'
)
AXIS = 0.258  # of the font: brackets are as high above it as below
NAMED = re.compile(r"&(?!lt;|gt;|amp;|quot;|#)\w+;")  # what XML does not know
BREAKS = {*"=≈≃∼≔≡≤≥<>∝∈→⟶↦⇒⇔⟹⟺+−±"}
WIDE = {"1em", "2em"}  # \quad and \qquad, which part two formulas
CALLIGRAPHIC = "\ufe00"  # a variation selector: the font's plain script letters are these already


def out_of_text(match: re.Match) -> str:
    r"""``\text{the name $A$}`` as ``\text{the name }A``."""
    parts = match[1].split("$")  # text and mathematics take turns
    return "".join(
        "{" + part + "}" if k % 2 else rf"\text{{{part}}}"
        for k, part in enumerate(parts)
        if part
    )


def is_table(tex: str) -> bool:
    """Whether it has rows or columns outside all environments and braces."""
    depth = 0
    for token in TOKEN.findall(tex):
        depth += DEEPER.get(token, 0)
        if depth == 0 and token in (r"\\", "&"):
            return True
    return False


def prepared(tex: str) -> str:
    """The same formula in the words that the converter knows."""
    tex = TEXT.sub(out_of_text, tex.strip())
    tex = ROW.sub(r"\\\\", tex)  # rows stand apart by the stylesheet
    tex = tex.replace("\\\n", "\\ ")  # TeX: a space at a line's end
    return rf"\begin{{aligned}}{tex}\end{{aligned}}" if is_table(tex) else tex


def before_scripts(match: re.Match) -> str:
    r"""``\big)^2`` with the bracket before an empty box of its height: Chromium shrinks it as a base."""
    start, bracket, half = match[1], match[2], float(match[3]) / 2
    box = f'<mspace height="{half + AXIS:.3f}em" depth="{half - AXIS:.3f}em"/>'
    return bracket + start + box


def breaks(part: ElementTree.Element) -> bool:
    return part.tag == "mo" and part.text in BREAKS


def wide(parts: list[ElementTree.Element]) -> bool:
    """Whether the last of them is a wide space, with which no formula begins."""
    last = parts[-1] if parts else None
    return last is not None and last.tag == "mspace" and last.get("width") in WIDE


def in_pieces(made: str) -> str:
    """The same formula, each side of a relation or of a sum an <mrow>: where a line may be broken.

    And after a wide space. Of an alignment, each cell. Narrow pages break there (formulas.js); others look as before.
    """
    math = ElementTree.fromstring(NAMED.sub(lambda m: unescape(m[0]), made))
    for place in math.findall("./mtable/mtr/mtd") or [math]:
        pieces: list[list[ElementTree.Element]] = [[]]
        for part in place:
            # not within = -a, whose minus is no sum
            if breaks(part) and not all(map(breaks, pieces[-1])):
                part.set("form", "infix")  # also where it begins a piece
                pieces.append([])
            if wide(pieces[-1]) and not wide([part]):
                pieces.append([])
            pieces[-1].append(part)
        if len(pieces) > 1:
            place[:] = [ElementTree.Element("mrow") for _ in pieces]
            for row, piece in zip(place, pieces, strict=True):
                row[:] = piece
    return ElementTree.tostring(math, "unicode", short_empty_elements=False)


def mathml(tex: str, display: bool = False) -> str:
    """The <math> element of a formula. Raises LatexError for what cannot be converted."""
    made = CONVERTER.convert_with_local_state(prepared(tex), displaystyle=display)
    made = TALL.sub(before_scripts, made.replace(CALLIGRAPHIC, ""))
    made = in_pieces(made) if display else made
    return made.replace("<math", f'<math data-tex="{escape(tex.strip())}"', 1)


def convert(node: nodes.Element, display: bool) -> str:
    """The formula of a node; where it fails a warning that names the place, and the TeX."""
    tex = node.astext()
    try:
        return mathml(tex, display)
    except LatexError as error:
        message = "this formula cannot be typeset (character %s): %s"
        logging.getLogger(__name__).warning(message, error, tex, location=node)
        return f"<code>{escape(tex)}</code>"


def visit_math(self, node):
    self.body.append(convert(node, display=False))
    raise nodes.SkipNode


def visit_math_block(self, node):
    self.body.append(
        self.starttag(node, "div", CLASS="math notranslate nohighlight")
    )
    if node["number"]:
        self.body.append(
            f'<span class="eqno">({get_node_equation_number(self, node)})'
        )
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(
        f'<div class="formula">{convert(node, display=True)}</div></div>\n'
    )
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer(
        "mathml", (visit_math, None), (visit_math_block, None)
    )
    app.config.html_math_renderer = "mathml"
    app.add_js_file("formulas.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
