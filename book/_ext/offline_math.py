"""MathJax without a network: one self-contained file, out of the sphinx-mathjax-offline wheel."""

from importlib.util import find_spec
from pathlib import Path

from sphinx.util.fileutil import copy_asset_file

SCRIPT = (
    "tex-svg-full.js"  # draws SVG, needs no web fonts, and so works on file:// too
)


def copy(app, exception):
    """Put the script beside the book's other static files, once the pages are written."""
    if exception is None and app.builder.format == "html":
        wheel = Path(find_spec("sphinx-mathjax-offline").origin).parent
        script = wheel / "static" / "mathjax" / SCRIPT
        copy_asset_file(str(script), str(Path(app.outdir, "_static", SCRIPT)))


def setup(app):
    app.config.mathjax_path = SCRIPT  # relative to _static
    app.connect("build-finished", copy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
