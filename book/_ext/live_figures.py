"""Put the script and the stylesheet of the live figures on every page.

The files are read, not imported: the build needs neither `ddpm_lite` nor its dependencies. What a
network needs, which draws on the reader's click, lies in `_static/networks/`: for the networks that
a page of the built book has, and no others.
"""

import re
import runpy
from pathlib import Path

LIVE = Path(__file__).parents[2] / "ddpm_lite" / "live"
NEEDED = re.compile(r'class="lf-static" data-network="([\w-]+)"')


def script() -> str:
    """The figures' classic script, deferred (browsers refuse module scripts on file://)."""
    return runpy.run_path(str(LIVE / "scripts.py"))["page"]()


def stylesheet() -> str:
    """The palette's colours and the figures' styles."""
    palette = runpy.run_path(str(LIVE / "palette.py"))
    return runpy.run_path(str(LIVE / "scripts.py"))["stylesheet"](palette["css"]())


def networks(pages) -> dict[str, str]:
    """What these pages fetch on a click: {file: script}. Raises ValueError for no network."""
    stored = runpy.run_path(str(LIVE / "stored.py"))
    found = {name for page in pages for name in NEEDED.findall(page)}
    scripts = {f"{name}.js": stored["script"](name) for name in sorted(found)}
    return scripts and {"runner.js": stored["runner_script"](), **scripts}


def write(app, error):
    if error is None and app.builder.format == "html":
        out = Path(app.outdir)
        static = out / "_static"
        (static / "live.js").write_text(script(), encoding="utf-8")
        (static / "live.css").write_text(stylesheet(), encoding="utf-8")
        pages = (
            out / f"{app.builder.get_target_uri(doc)}" for doc in app.env.found_docs
        )
        write_networks(
            static / "networks",
            networks(p.read_text(encoding="utf-8") for p in pages if p.exists()),
        )


def write_networks(folder: Path, scripts: dict[str, str]) -> None:
    """Write these scripts; remove those of an earlier build."""
    for old in folder.glob("*.js"):
        if old.name not in scripts:
            old.unlink()
    if scripts:
        folder.mkdir(exist_ok=True)
    for name, text in scripts.items():
        (folder / name).write_text(text, encoding="utf-8")


def setup(app):
    app.add_js_file(
        "live.js", loading_method="defer", priority=100
    )  # before the theme's
    app.add_css_file("live.css")
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
