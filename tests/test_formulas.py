"""Formulas become MathML when the book is built: what is converted, and what is refused where."""

import re
import sys
from io import StringIO
from pathlib import Path

import pytest
from math_core import LatexError
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import formulas  # noqa: E402


def same(one: str, other: str, display: bool = True) -> bool:
    """Whether two formulas look the same."""
    made = (formulas.mathml(tex, display) for tex in (one, other))
    first, second = (re.sub(' data-tex="[^"]*"', "", text) for text in made)
    return first == second


def test_mathematics_within_text_is_set_as_mathematics():
    assert same(r"\text{the name $A_t$}", r"\text{the name }{A_t}")
    assert same(r"\text{$A$ and $B$}", r"{A}\text{ and }{B}")
    assert same(r"a \text{ if } b", r"a\text{ if }b")


def test_rows_outside_of_tables_are_rows():
    assert same(r"a &= b \\ c &= d", r"\begin{aligned}a &= b \\ c &= d\end{aligned}")
    assert same("a \\\\\nb", "\\begin{aligned}a \\\\\nb\\end{aligned}")
    table = r"\begin{cases} a & b \\ c & d \end{cases}"
    assert formulas.mathml(table).count("<mtable") == 1
    assert formulas.mathml(r"\frac{a}{b} = \{c\}").count("<mtable") == 0


def test_the_space_between_rows_is_no_formula():
    assert same(r"\begin{aligned}a\\[6pt]b\end{aligned}", r"\begin{aligned}a\\ b\end{aligned}")
    assert same(r"a \\ [2.5ex] b", r"a \\ b")


def test_a_space_at_a_lines_end():
    assert same("a,\\\nb", r"a,\ b")


def test_large_brackets_keep_their_size_under_a_power():
    r"""The bracket stands before the power's empty base: as a base Chromium would shrink it."""
    made = formulas.mathml(r"\big(x\big)^2")
    assert re.search(r"<mo[^>]*>\)</mo><msup><mspace [^>]*/><mn>2</mn></msup>", made)
    box = re.search(r'height="([\d.]+)em" depth="([\d.]+)em"', formulas.mathml(r"\Big]_a^b"))
    height, depth = map(float, box.groups())
    size = float(re.search(r'minsize="([\d.]+)em"', formulas.mathml(r"\Big]"))[1])
    assert height + depth == pytest.approx(size, abs=1e-3)
    assert (height - depth) / 2 == pytest.approx(formulas.AXIS, abs=1e-3)


def pieces(tex: str) -> list[str]:
    """What each <mrow> of a line, or of a cell, shows."""
    place = formulas.ElementTree.fromstring(formulas.mathml(tex, display=True))
    place = place.find("./mtable/mtr/mtd") or place
    return ["".join(part.itertext()) for part in place if part.tag == "mrow"]


def test_a_line_may_be_broken_before_a_relation_and_within_a_sum():
    assert pieces("a = b + c") == ["a", "=b", "+c"]
    assert pieces(r"a = -b \le c") == ["a", "=−b", "≤c"]  # a sign is no place to break
    assert pieces(r"\begin{aligned} a - b \\ c \end{aligned}") == ["a", "−b"]
    assert pieces(r"a, \qquad b") == ["a,", "b"] and pieces(r"a \;\; b") == []  # at a wide space
    assert pieces(r"a \quad\longrightarrow b") == ["a", "⟶b"]
    assert pieces(r"-a b") == [] and pieces(r"f(x)") == []
    made = formulas.mathml("a = b", display=True)
    assert '<mrow><mo form="infix">=</mo><mi>b</mi></mrow>' in made  # its spaces are kept
    assert "<mrow>" not in formulas.mathml("a = b")  # within the text nothing changes


def test_the_tex_is_kept():
    made = formulas.mathml(' a < b "c" & d ')
    assert 'data-tex="a &lt; b &quot;c&quot; &amp; d"' in made


@pytest.mark.parametrize("tex", [r"\nosuchthing", r"\frac{a}", r"{a", r"\begin{aligned}a"])
def test_what_is_no_formula_is_refused(tex):
    with pytest.raises(LatexError):
        formulas.mathml(tex)


def build(folder: Path, text: str) -> tuple[str, str]:
    """The HTML of a page with this text, and the warnings."""
    (folder / "index.md").write_text(text)
    settings = {
        "extensions": ["myst_nb", "formulas"],
        "nb_execution_mode": "off",
        "myst_enable_extensions": ["dollarmath"],
        "html_theme": "basic",
    }
    out, said = folder / "html", StringIO()
    with docutils_namespace():
        app = Sphinx(folder, None, out, folder / "t", "html", settings, status=None, warning=said)
        app.build()
    return (out / "index.html").read_text(), said.getvalue()


def test_a_page(tmp_path):
    """Numbers, labels and links stand as with any renderer; nothing is left for a script to set."""
    text = "# Page\n\nSee $x_t$ and {eq}`eq-a`.\n\n$$ a = b $$ (eq-a)\n\n$$ c $$\n"
    page, warnings = build(tmp_path, text)
    assert warnings == ""
    assert page.count("<math ") == 3 and page.count('display="block"') == 2
    assert '<span class="eqno">(1)<a class="headerlink" href="#equation-eq-a"' in page
    assert 'id="equation-eq-a"' in page and 'href="#equation-eq-a">(1)</a>' in page
    assert "MathJax" not in page and r"\(" not in page


@pytest.mark.parametrize("tex", ["$x + \\nosuchthing$", "$$\n\\nosuchthing\n$$"])
def test_a_warning_names_file_and_line(tmp_path, tex):
    page, warnings = build(tmp_path, f"# Page\n\nFirst.\n\n{tex}\n")
    assert re.search(r"index\.md:5: WARNING: this formula cannot be typeset", warnings)
    assert r"\nosuchthing" in warnings and r"\nosuchthing" in page
