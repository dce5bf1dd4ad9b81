"""Put the script and the stylesheet of the live figures on every page.

The files are read, not imported: the build needs neither `ddpm_lite` nor its dependencies. The
script is classic and deferred (browsers refuse module scripts on file://): it is live.js with its
export replaced by the static page's host.
"""

import runpy
from pathlib import Path

LIVE = Path(__file__).parents[2] / "ddpm_lite" / "live"
EXPORT = "export default { render };"


def script() -> str:
    """live.js and static_host.js as one classic script. Raises ValueError if live.js changed."""
    source = (LIVE / "live.js").read_text(encoding="utf-8")
    if source.count(EXPORT) != 1:
        raise ValueError(f"live.js must contain {EXPORT!r} once")
    host = (LIVE / "static_host.js").read_text(encoding="utf-8")
    return "(() => {\n" + source.replace(EXPORT, host) + "})();\n"


def stylesheet() -> str:
    """The palette's colours and live.css."""
    palette = runpy.run_path(str(LIVE / "palette.py"))
    return palette["css"]() + (LIVE / "live.css").read_text(encoding="utf-8")


def write(app, error):
    if error is None and app.builder.format == "html":
        static = Path(app.outdir, "_static")
        (static / "live.js").write_text(script(), encoding="utf-8")
        (static / "live.css").write_text(stylesheet(), encoding="utf-8")


def setup(app):
    app.add_js_file(
        "live.js", loading_method="defer", priority=100
    )  # before the theme's
    app.add_css_file("live.css")
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
