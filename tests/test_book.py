"""The structure of the book: what each chapter must have, and the ledger with no gap.

These read the notebooks as they are stored. That the outputs are true is nbval's matter.
"""

import ast
import re
import runpy
import statistics
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
sys.path.insert(0, str(BOOK / "_ext"))

import ledger  # noqa: E402

LIVE = re.compile(r'<script type="application/json" class="lf-state">')
FIGURE_BYTES = 300_000
LONGEST_CELL, MEDIAN_CELL = 12, 8  # lines
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
SECTIONS = ("Exercises", "Remember", "In the code", "Further reading")


def toc() -> list[str]:
    """The pages of _toc.yml in the reader's order."""
    found = []

    def walk(node):
        if isinstance(node, dict):
            found.extend(node[key] for key in ("root", "file") if key in node)
            node = node.values()
        for child in node:
            if isinstance(child, dict | list):
                walk(child)

    walk(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    return found


def page(name: str) -> Path:
    notebook = ROOT / f"{name}.ipynb"
    return notebook if notebook.exists() else ROOT / f"{name}.md"


PAGES = [page(name) for name in toc()]
NOTEBOOKS = [path for path in PAGES if path.suffix == ".ipynb"]
CHAPTERS = [path for path in NOTEBOOKS if ledger.CHAPTER.search(path.stem)]
EQUATIONS = ledger.read_book([path for path in PAGES if path.exists()])
LABELS = [e.label for equations in EQUATIONS.values() for e in equations]


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    nb = nbformat.read(path, as_version=4)
    return [cell for cell in nb.cells if cell.cell_type == kind]


def text_of(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def each(paths: list[Path]):
    return pytest.mark.parametrize("path", paths, ids=[p.stem for p in paths])


def test_every_page_of_the_toc_exists_and_every_page_is_in_the_toc():
    missing = [path.name for path in PAGES if not path.exists()]
    written = {*BOOK.glob("*.md"), *BOOK.glob("*.ipynb")}
    assert not missing, f"_toc.yml lists pages that do not exist: {missing}"
    assert written == set(PAGES), "pages under book/ that _toc.yml does not list"


# ---- the ledger ----------------------------------------------------------------------------------


def test_labels_are_unique():
    twice = {label for label in LABELS if LABELS.count(label) > 1}
    assert not twice, f"labels given twice: {sorted(twice)}"


@each(CHAPTERS)
def test_every_equation_is_verified(path):
    equations = [e for e in EQUATIONS.get(path, []) if not e.is_definition]
    assert equations, "a chapter without a labelled equation"
    unverified = [e.label for e in equations if not e.checks]
    assert not unverified, f"no stored output verifies {unverified}"


@each([path for path in PAGES if path not in CHAPTERS])
def test_equations_stand_in_chapters(path):
    others = [e.label for e in EQUATIONS.get(path, []) if not e.is_definition]
    assert not others, f"state and verify {others} in a chapter"


def test_definitions_are_at_most_a_quarter():
    definitions = [label for label in LABELS if label.startswith("def-")]
    assert 4 * len(definitions) <= len(LABELS), (
        f"{len(definitions)} of {len(LABELS)}: {definitions}"
    )


@each(NOTEBOOKS)
def test_every_check_names_an_equation_of_its_book(path):
    checks = [check.label for cell in cells(path, "code") for check in ledger.checks_in(cell)]
    called = re.findall(r'verify\(\s*"([^"]+)"', "\n".join(c.source for c in cells(path, "code")))
    unknown = {*checks, *called} - set(LABELS)
    assert not unknown, f"verified, but no such label: {sorted(unknown)}"
    assert set(called) == set(checks), "a verify() whose line is not in the stored outputs"


@each(CHAPTERS)
def test_routes_are_told_apart(path):
    """A route says where the second side came from; 'check' or nothing would say nothing."""
    for equation in EQUATIONS.get(path, []):
        for check in equation.checks:
            assert len(check.route.split()) >= 2, f"{equation.label}: {check.route!r}"


def test_docstrings_name_equations_that_exist():
    named = {}
    for module in (ROOT / "ddpm_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                for label in re.findall(
                    r"\((?:[^()]*\W)?((?:eq|def)-[a-z0-9-]+)", ast.get_docstring(node) or ""
                ):
                    named[label] = module.name
    unknown = {label: file for label, file in named.items() if label not in LABELS}
    assert not unknown, f"docstrings name equations that the book does not have: {unknown}"


# ---- the anatomy of a chapter --------------------------------------------------------------------


@each(CHAPTERS)
def test_title(path):
    first = next(line for line in text_of(path).splitlines() if line.strip())
    assert re.match(r"# [A-Z]", first), "begins with its title, without a number: the build adds it"


@each(CHAPTERS)
def test_sections(path):
    headings = re.findall(r"^##+ +(.+?) *$", text_of(path), re.MULTILINE)
    missing = [name for name in SECTIONS if name not in headings]
    assert not missing, f"no section {missing}; there are {headings}"


@each(CHAPTERS)
def test_exercises_have_solutions(path):
    text = text_of(path)
    exercises = re.findall(r"[`:]{3,}\{exercise[^}]*\}[^\n]*\n:label: *([\w-]+)", text)
    solutions = re.findall(r"[`:]{3,}\{solution(?:-start)?\} *([\w-]+)", text)
    assert len(exercises) >= 3, f"{len(exercises)} exercises"
    assert sorted(exercises) == sorted(set(solutions)), "one solution for each exercise"
    assert text.count("{solution-start}") == text.count("{solution-end}")


@each(CHAPTERS)
def test_remember_is_short(path):
    remember = re.search(r"^##+ Remember\n(.*?)(?=^##|\Z)", text_of(path), re.DOTALL | re.MULTILINE)
    points = re.findall(r"^(?:[*-]|\d+\.) ", remember[1], re.MULTILINE)
    assert 1 <= len(points) <= 5


@each(CHAPTERS)
def test_code_and_reading_are_linked(path):
    code = re.search(r"^##+ In the code\n(.*?)(?=^##|\Z)", text_of(path), re.DOTALL | re.MULTILINE)
    reading = re.search(r"^##+ Further reading\n(.*)", text_of(path), re.DOTALL | re.MULTILINE)
    assert "{py:" in code[1], "no link to the API reference"
    assert "{cite" in reading[1], "no citation"


@each(CHAPTERS)
def test_a_chapter_has_a_live_figure(path):
    assert any(LIVE.search(html) for html in html_outputs(path))


@each(CHAPTERS)
def test_cells_are_short(path):
    _imports, *code = cells(path, "code")
    shown = [c for c in code if not HIDDEN & set(c.metadata.get("tags", []))]
    lengths = [sum(1 for line in c.source.splitlines() if line.strip()) for c in shown]
    long = [
        c.source.splitlines()[0] for c, n in zip(shown, lengths, strict=True) if n > LONGEST_CELL
    ]
    assert not long, f"cells of more than {LONGEST_CELL} lines, which begin with {long}"
    assert statistics.median(lengths) <= MEDIAN_CELL


# ---- what every notebook keeps -------------------------------------------------------------------


def html_outputs(path: Path) -> list[str]:
    outputs = [o for cell in cells(path, "code") for o in cell.outputs]
    return [o.data["text/html"] for o in outputs if "text/html" in o.get("data", {})]


@each(NOTEBOOKS)
def test_no_bare_widgets(path):
    source = "\n".join(cell.source for cell in cells(path, "code"))
    assert not re.search(r"\b(ipywidgets|interact)\b", source), "dead on the page: use a LiveFigure"


@each(NOTEBOOKS)
def test_every_picture_has_alt_text(path):
    for number, cell in enumerate(cells(path, "code")):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) >= 20, f"code cell {number}: say in mystnb.image.alt what is to be seen"
    assert not re.search(r"!\[\s*\]\(", text_of(path)), "a picture without alt text"
    for html in html_outputs(path):
        for image in re.findall(r"<img[^>]*>", html):
            assert re.search(r'alt="[^"]{20,}"', image), "a live figure without alt text"


@each(NOTEBOOKS)
def test_figures_are_small(path):
    sizes = [len(html.encode()) for html in html_outputs(path) if LIVE.search(html)]
    assert max(sizes, default=0) <= FIGURE_BYTES


# ---- the pages about the book --------------------------------------------------------------------


def test_the_api_page_has_every_module():
    files = (ROOT / "ddpm_lite").rglob("*.py")
    modules = {".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files}
    public = {m for m in modules if not m.endswith(("__init__", "__main__"))}
    folders = {m.removesuffix(".__init__") for m in modules}  # may be listed too
    listed = set(re.findall(r"autoapimodule:: ([\w.]+)", (BOOK / "api.md").read_text()))
    internal = {
        f"ddpm_lite.live.{name}"
        for name in ("axes", "checks", "packing", "palette", "panels", "scripts", "still")
    }
    internal |= {
        f"ddpm_lite.page.{name}"
        for name in ("images", "kernel", "operations", "program", "shipped")
    }
    assert listed - (folders - public) == public - internal


def test_the_book_builds_from_pinned_packages_alone():
    makefile = (ROOT / "Makefile").read_text()
    packages = (
        re.search(r"BOOK_PACKAGES := ((?:.*\\\n)*.*)", makefile)[1].replace("\\\n", "").split()
    )
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.match(r"[\w.-]+==[\w.]+(; .+)?$", pin) for pin in pins)
    names = [re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins]
    assert len(set(names)) == len(names)
    assert set(packages) <= set(names)


def test_the_stylesheet_repeats_the_palette():
    palette = runpy.run_path(str(ROOT / "ddpm_lite" / "live" / "palette.py"))["PALETTE"]
    css = (BOOK / "_static" / "custom.css").read_text()
    for name, role in {"verified": "truth", "rule": "model"}.items():
        assert tuple(re.findall(rf"--book-{name}: (#\w+);", css)) == palette[role]


def test_the_readme_example_runs(capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    exec(code, {})
    assert float(capsys.readouterr().out.split(": ")[1]) < 0.1


# ---- the ledger's own reading --------------------------------------------------------------------

TEXT = r"""
An unlabelled $$ 0 = 0 $$ and

$$
a = b
$$ (eq-two-lines)

$$ c = d $$ (def-one-line)

```{math}
:label: eq-directive
e = f
```
"""


def test_reading_equations():
    found = [(e.label, e.formula, e.is_definition) for e in ledger.equations_in(TEXT)]
    assert found == [
        ("eq-two-lines", "a = b", False),
        ("def-one-line", "c = d", True),
        ("eq-directive", "e = f", False),
    ]


def test_reading_checks():
    lines = (
        "verified eq-a: a grid; of 5; 1,000 values agree to 1e-12\n"
        "verified eq-b: x y; 1 value agrees to 2 %"
    )
    outputs = [nbformat.v4.new_output("display_data", {"text/plain": lines})]
    checks = ledger.checks_in(nbformat.v4.new_code_cell("", outputs=outputs))
    assert checks == [
        ledger.Check("eq-a", "a grid; of 5", 1000, "1e-12"),
        ledger.Check("eq-b", "x y", 1, "2 %"),
    ]


def test_numbers_and_ledger_in_a_small_book(tmp_path):
    """Two chapters and a ledger, built: numbers by chapter, anchors, checks, what is missing."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    (tmp_path / "03-first.md").write_text("# First\n\n## Part\n\n$$ a = b $$ (eq-a)\n")
    text = "# Second\n\n$$ c = d $$ (eq-c)\n\n$$ e = f $$ (def-e)\n\nSee {eq}`eq-a`, {eq}`def-e`.\n"
    line = {"text/plain": "verified eq-c: two routes; 3 values agree to 1e-9"}
    code = nbformat.v4.new_code_cell("1", execution_count=1)
    code.outputs = [nbformat.v4.new_output("execute_result", line, execution_count=1)]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text), code])
    nb.metadata["language_info"] = {"name": "python"}
    nbformat.write(nb, tmp_path / "12-second.ipynb")
    (tmp_path / "ledger.md").write_text("# Ledger\n\n```{ledger}\n```\n")
    index = "# Book\n\n```{toctree}\n03-first\n12-second\nledger\n```\n"
    (tmp_path / "index.md").write_text(index)
    settings = {
        "extensions": ["myst_nb", "ledger"],
        "nb_execution_mode": "off",
        "myst_enable_extensions": ["dollarmath"],
        "numfig": True,
        "html_theme": "basic",
    }
    out = tmp_path / "html"
    options = {"status": None, "warningiserror": True}
    with docutils_namespace():  # nothing is left for the next test
        Sphinx(tmp_path, None, out, tmp_path / "trees", "html", settings, **options).build()
    second, page = (out / "12-second.html").read_text(), (out / "ledger.html").read_text()
    assert ">(12.1)<" in second and ">(12.2)<" in second  # their own numbers
    assert 'href="03-first.html#equation-eq-a">(3.1)</a>' in second
    assert "12. " in second and "3.1. " in (out / "03-first.html").read_text()
    entries = re.split(r'(?=<div class="ledger)', page)
    entry = {
        label: next(e for e in entries if f'id="{label}"' in e)
        for label in ("eq-a", "eq-c", "def-e")
    }
    assert "two routes: 3 values agree to 1e-9" in entry["eq-c"]
    assert 'href="12-second.html#equation-eq-c">(12.1)</a>' in entry["eq-c"]
    assert "not verified" in entry["eq-a"]
    assert "definition" in entry["def-e"]
    assert "Equations: 2. Checks: 1, which compare 3 numbers. Definitions: 1." in page
