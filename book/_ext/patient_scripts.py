"""Scripts wait, ours until the page stands, all others until it is drawn; none lays out all of it.

The theme asks every box of code and output, as soon as the page is loaded, whether it is wider than
its room, to let it scroll by keyboard; formulas.js asks each when it comes near the screen.
"""

from pathlib import Path

NOW = {"documentation_options.js"}  # what a line within the page goes on from
# ours run as soon as the page stands
OURS = {"live.js", "formulas.js", "contents.js", "later.js"}
TABS = "design-tabs.js"  # does not work later: it listens for the end of the page
THEME = Path("_static", "scripts", "pydata-sphinx-theme.js")
BOXES = (
    '["pre",".nboutput > .output_area",".cell_output > .output",".jp-RenderedHTMLCommon",'
    '".pst-scrollable-table-container"]'
)
NONE = '["pst-none"]'


def wait(app, pagename, templatename, context, doctree):
    """Defer our scripts of a page, and leave the others to later.js, in their order.

    The page that searches is left alone: its scripts go on from each other as they are loaded.
    """
    if pagename == "search":
        return
    tabs = "sd-tab-set" in context.get("body", "")
    scripts = [
        s for s in context.get("script_files", []) if tabs or name_of(s) != TABS
    ]
    context["script_files"] = [waiting(script) for script in scripts]


def waiting(script):
    """The script for this page: deferred, or left to later.js. It itself is all pages'."""
    name = name_of(script)
    if not name or name in NOW:
        return script
    how = {"defer": "defer"} if name in OURS or name == TABS else {"type": "later"}
    return type(script)(
        script.filename, priority=script.priority, **{**script.attributes, **how}
    )


def name_of(script):
    """The file of a script, or '' for one within the page."""
    return str(getattr(script, "filename", None) or "").rsplit("/", 1)[-1]


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
    app.add_js_file("later.js")
    app.connect(
        "html-page-context", wait, priority=900
    )  # after those that add scripts
    app.connect("build-finished", mend_theme)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
