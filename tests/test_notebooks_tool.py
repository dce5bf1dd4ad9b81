"""The proof is proven: each kind of tampering with a stored notebook is caught.

A small notebook is executed once; copies of it are tampered with and given to nbval (with the
book's own conftest.py) and to `tools/notebooks.py check`, as `make test` does with the chapters.
"""

import base64
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load("notebooks_tool", ROOT / "tools" / "notebooks.py")
compare = load("book_conftest", ROOT / "book" / "conftest.py")

CELLS = [
    "import matplotlib.pyplot as plt\nimport numpy as np\nfrom IPython.display import HTML",
    "print(f'the mean is {np.arange(4).mean():.3f}')",
    "HTML('<table><tr><td>0.123</td></tr></table>')",
    "plt.figure(figsize=(3, 2))\nplt.plot([0, 1, 0])\nplt.show()",
    """from ddpm_lite.live import Curve, LiveFigure, Slider
x = np.linspace(0, 1, 50)
LiveFigure(
    lambda t=0: [Curve(x, np.sin(6 * x + t))],
    title="A wave",
    alt="A sine wave that moves to the left",
    t=Slider(range(5), label="t"),
)""",
]
PRINT, TABLE, FIGURE, LIVE = range(1, 5)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A book of one small notebook, executed."""
    root = tmp_path_factory.mktemp("site")
    (root / "book").mkdir()
    shutil.copy(ROOT / "book" / "conftest.py", root / "book")
    (root / "_toc.yml").write_text("root: book/intro\nchapters:\n- file: book/01-small\n")
    (root / "book" / "intro.md").write_text("# Intro\n")
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    path = root / "book" / "01-small.ipynb"
    nbformat.write(nb, path)
    tool.execute(path)
    return root


@pytest.fixture
def small(site) -> nbformat.NotebookNode:
    """The executed notebook, to be changed at will."""
    return nbformat.read(site / "book" / "01-small.ipynb", as_version=4)


def output(nb, cell: int) -> dict:
    return nb.cells[cell].outputs[0]


def with_block(png: str, size: int) -> str:
    """The picture with a square of another colour in its middle."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    left, top = image.width // 2, image.height // 2
    image.paste((200, 30, 30, 255), (left, top, left + size, top + size))
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def change_number(nb):
    out = output(nb, PRINT)
    out.text = out.text.replace("1.500", "1.501")


def change_table(nb):
    data = output(nb, TABLE).data
    data["text/html"] = data["text/html"].replace("0.123", "0.124")


def change_figure(nb):
    data = output(nb, FIGURE).data
    data["image/png"] = with_block(data["image/png"], 24)


def change_frame(nb):
    """Frame 3 of the live figure gets a bump of 1 % of the curve's height."""
    data = output(nb, LIVE).data
    state = compare.STATE.search(data["text/html"])
    spec = json.loads(state[2])
    field = spec["spec"]["panels"][0]["marks"][0]["fields"]["y"]
    codes = np.frombuffer(base64.b64decode(field["data"]), "<u2").reshape(5, 50).copy()
    codes[3, 20] += 655 if codes[3, 20] < 32768 else -655
    field["data"] = base64.b64encode(codes.tobytes()).decode()
    text = json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
    data["text/html"] = data["text/html"].replace(state[2], text)


def change_still(nb):
    data = output(nb, LIVE).data
    data["text/html"] = compare.STILL.sub(
        lambda m: "data:image/png;base64," + with_block(m[1], 24), data["text/html"]
    )


def remove_figure(nb):
    nb.cells[FIGURE].outputs = []


# what is done to which cell, in which copy
TAMPERED = {
    "number": (change_number, PRINT, "first"),
    "table": (change_table, TABLE, "first"),
    "figure": (change_figure, FIGURE, "first"),
    "frame": (change_frame, LIVE, "first"),
    "still": (change_still, LIVE, "second"),
    "no figure": (remove_figure, FIGURE, "second"),
}


@pytest.fixture(scope="module")
def verdicts(site) -> dict[str, dict[int, str]]:
    """nbval's verdict on each cell of the true notebook and of its tampered copies."""
    original = site / "book" / "01-small.ipynb"
    paths = {"true": original}
    for name in ("first", "second"):
        nb = nbformat.read(original, as_version=4)
        for tamper, _, copy in TAMPERED.values():
            if copy == name:
                tamper(nb)
        paths[name] = site / "book" / f"{name}.ipynb"
        nbformat.write(nb, paths[name])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
        + ["-rA", "--color=no", "-q", "book"],
        cwd=site,
        capture_output=True,
        text=True,
    )
    paths["first"].unlink()
    paths["second"].unlink()
    found: dict[str, dict[int, str]] = {name: {} for name in paths}
    line = re.compile(r"^(PASSED|FAILED) book/([\w-]+)\.ipynb::Cell (\d+)", re.MULTILINE)
    for verdict, stem, cell in line.findall(done.stdout):
        found["true" if stem == original.stem else stem][int(cell)] = verdict
    assert found["true"], done.stdout + done.stderr
    return found


def test_nbval_passes_what_execution_stored(verdicts):
    assert verdicts["true"] == dict.fromkeys(range(len(CELLS)), "PASSED")


@pytest.mark.parametrize("name", TAMPERED)
def test_nbval_catches(name, verdicts):
    _, cell, copy = TAMPERED[name]
    assert verdicts[copy][cell] == "FAILED"


@pytest.mark.parametrize("copy", ["first", "second"])
def test_nbval_finds_fault_with_nothing_else(copy, verdicts):
    changed = {cell for _, cell, where in TAMPERED.values() if where == copy}
    failed = {cell for cell, verdict in verdicts[copy].items() if verdict == "FAILED"}
    assert failed == changed


def test_nbval_and_execution_start_the_same_kernel():
    assert compare.ENV == tool.ENV


def findings(root: Path, nb=None) -> str:
    """What `check` says of the notebook after a change."""
    path = root / "book" / "01-small.ipynb"
    if nb is not None:
        path.write_text(tool.dumps(nb), encoding="utf-8")
    return "\n".join(tool.check(path, tool.toc_files(root)))


@pytest.fixture
def copy(site, tmp_path) -> Path:
    return Path(shutil.copytree(site, tmp_path / "site"))


def test_check_passes_what_execution_stored(copy):
    assert findings(copy) == ""


def test_check_catches_a_chapter_that_is_not_in_the_toc(copy):
    (copy / "_toc.yml").write_text("root: book/intro\n")
    assert "not listed in _toc.yml" in findings(copy)


def test_check_catches_a_toc_entry_without_a_page(copy, capsys):
    with (copy / "_toc.yml").open("a") as toc:
        toc.write("- file: book/02-missing\n")
    assert tool.check_all(copy, []) == 1
    assert "02-missing, which does not exist" in capsys.readouterr().out


def test_check_catches_code_changed_without_execution(copy, small):
    small.cells[PRINT].source = small.cells[PRINT].source.replace("4", "5")
    assert "code changed" in findings(copy, tool.normalise(small))


def tagged(nb, *tags):
    nb.cells[PRINT].metadata["tags"] = list(tags)


def never_run(nb):
    for cell in nb.cells:
        cell.outputs, cell.execution_count = [], None


def run_out_of_order(nb):
    nb.cells[PRINT].execution_count = 9


def grown(nb):
    output(nb, PRINT).text += "x" * 600_000


def raising(nb):
    error = {"ename": "ValueError", "evalue": "", "traceback": ["ValueError"]}
    nb.cells[PRINT].outputs = [nbformat.v4.new_output("error", **error)]


def bare_widget(nb):
    view = {tool.VIEW: {"model_id": "a"}, "text/plain": "IntSlider()"}
    nb.cells[PRINT].outputs = [nbformat.v4.new_output("display_data", view)]


def warning(nb):
    nb.cells[PRINT].outputs = [nbformat.v4.new_output("stream", name="stderr", text="deprecated")]


def address(nb):
    output(nb, PRINT).text = "<object at 0x7f0012345678>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (never_run, "no stored outputs"),
        (run_out_of_order, "from top to bottom"),
        (grown, "the limit is 600,000"),
        (raising, "error output (ValueError)"),
        (bare_widget, "bare ipywidget"),
        (warning, "writes to stderr"),
        (address, "memory address"),
        (lambda nb: tagged(nb, "skip"), "unknown tags ['skip']"),
        (lambda nb: tagged(nb, "raises-exception"), "stores no error"),
    ],
)
def test_check_catches(change, message, copy, small):
    change(small)
    assert message in findings(copy, tool.normalise(small))


@pytest.mark.parametrize(
    ("source", "message"),
    [("x = 1\nx;", "ends with ';'"), ("# NBVAL_SKIP\nx = 1", "NBVAL_ comment"), (" ", "empty")],
)
def test_check_catches_a_source(source, message, copy, small):
    small.cells[PRINT].source = source
    assert message in findings(copy, tool.normalise(small))


@pytest.mark.parametrize("line", ["%% tags=['hide-input']", "assert x == 1", "def f(x):"])
def test_check_catches_code_in_a_markdown_cell(line, copy, small):
    text = nbformat.v4.new_markdown_cell(f"Words, and\n\n```python\n{line}\n```\n\nsay defend.")
    small.cells.append(text)
    assert findings(copy, tool.normalise(small)) == ""
    text.source += f"\n{line}"
    assert "code in a Markdown cell" in findings(copy, tool.normalise(small))


def test_check_catches_what_an_editor_left(copy, small):
    small.metadata["language_info"] = {"name": "python", "version": "3.99"}
    path = copy / "book" / "01-small.ipynb"
    path.write_text(nbformat.writes(small) + "\n", encoding="utf-8")
    assert "not normalised" in findings(copy)
    path.write_text(tool.dumps(tool.normalise(small)), encoding="utf-8")
    assert findings(copy) == ""


def test_two_executions_store_the_same_bytes(copy):
    path = copy / "book" / "01-small.ipynb"
    first = path.read_bytes()
    tool.execute(path)
    assert path.read_bytes() == first


def test_a_raising_cell_stores_nothing(copy, small):
    path = copy / "book" / "01-small.ipynb"
    small.cells[PRINT].source = "1 / 0"
    nbformat.write(small, path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "notebooks.py", "execute", path, "--root", copy],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert path.read_bytes() == before


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_pictures_may_differ_as_rasterisers_do():
    rng = np.random.default_rng(0)
    pixels = rng.integers(20, 230, (64, 96, 4))
    noise = rng.integers(-1, 2, pixels.shape)
    assert compare.picture_difference(png(pixels), png(pixels + noise)) == ""


def test_a_thin_stale_curve_is_another_picture():
    pixels = np.full((200, 400, 4), 255)
    moved = pixels.copy()
    pixels[100:102, 50:90], moved[108:110, 50:90] = 0, 0  # 0.1 % of the pixels
    assert "differs around pixel" in compare.picture_difference(png(pixels), png(moved))
    assert "size" in compare.picture_difference(png(pixels), png(pixels[:, :-1]))


def field(values: np.ndarray, bits: int = 16):
    from ddpm_lite.live.packing import pack_field

    return pack_field(values, [len(values)], bits)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_live_numbers_may_differ_in_the_last_place(bits):
    values = np.random.default_rng(0).normal(size=(6, 40))
    values[2, 3] = np.nan
    close = values * (1 + 1e-12)
    assert compare.field_difference(field(values, bits), field(close, bits), [6]) == ""
    other = values.copy()
    other[4] += 0.02 * np.ptp(values[4])
    assert "in frame (4" in compare.field_difference(field(values, bits), field(other, bits), [6])
    gap = values.copy()
    gap[0, 0] = np.nan
    assert "NaN" in compare.field_difference(field(values, bits), field(gap, bits), [6])


def test_a_field_stored_once_may_come_out_once_a_frame():
    constant = np.ones((6, 40)) * np.linspace(0, 1, 40)
    nearly = constant.copy()
    nearly[3, 7] += 2e-5  # a step of 16 bits
    assert field(constant)["axes"] != field(nearly)["axes"]
    assert compare.field_difference(field(constant), field(nearly), [6]) == ""


def test_specifications_must_be_equal():
    spec = {"title": "a", "xlim": [0.0, 1.0], "ticks": [[1, "1"]]}
    assert compare.spec_difference(spec, {**spec, "xlim": [0.0, 1.0 + 1e-7]}, []) == ""
    for change in ({"title": "b"}, {"xlim": [0.0, 1.1]}, {"ticks": [[1, "2"]]}, {"more": 1}):
        assert compare.spec_difference(spec, {**spec, **change}, []) != ""
