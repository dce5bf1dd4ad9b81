"""Scripts wait until the page stands, and none lays out all of it.

The theme asks every box of code and output, as soon as the page is loaded, whether it is wider than
its room, to let it scroll by keyboard; formulas.js asks each when it comes near the screen.
"""

from pathlib import Path

NOW = {"documentation_options.js"}  # what a line within the page goes on from
THEME = Path("_static", "scripts", "pydata-sphinx-theme.js")
BOXES = (
    '["pre",".nboutput > .output_area",".cell_output > .output",".jp-RenderedHTMLCommon",'
    '".pst-scrollable-table-container"]'
)
NONE = '["pst-none"]'


def wait(app, pagename, templatename, context, doctree):
    """Defer the scripts of a page, in their order."""
    for script in context.get("script_files", []):
        name = str(getattr(script, "filename", None) or "").rsplit("/", 1)[-1]
        if name and name not in NOW:
            script.attributes.setdefault("defer", "defer")


def mend_theme(app, error):
    """Take the boxes out of the theme's script. Raises ValueError if the theme changed."""
    if error or app.builder.format != "html":
        return
    path = Path(app.outdir) / THEME
    source = path.read_text(encoding="utf-8")
    if source.count(BOXES) != 1 and NONE not in source:
        raise ValueError(f"{THEME.name} must ask for {BOXES} once")
    path.write_text(source.replace(BOXES, NONE), encoding="utf-8")


def setup(app):
    app.add_js_file("contents.js")
    app.connect(
        "html-page-context", wait, priority=900
    )  # after those that add scripts
    app.connect("build-finished", mend_theme)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
