"""The script and the stylesheet of the figures, for JupyterLab and for the static page.

This file imports nothing of the package, so that the book's build can read it without the package.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
DRAWN_BY_NETWORKS = ("engine.js", "hands.js", "network.js")
STYLES = ("live.css", "network.css")


def _read(*names: str) -> str:
    return "".join((HERE / name).read_text(encoding="utf-8") for name in names)


def module(network: bool = False) -> str:
    """The script as a module with `render`, as anywidget asks for it."""
    files = ("live.js", *DRAWN_BY_NETWORKS) if network else ("live.js",)
    return _read(*files) + f"\nexport default {{ render{': renderNetwork' if network else ''} }};\n"


def page() -> str:
    """The script as a classic one for static pages: browsers refuse modules on file://."""
    return "(() => {\n" + _read("live.js", *DRAWN_BY_NETWORKS, "static_host.js") + "})();\n"


def stylesheet(colours: str) -> str:
    """The stylesheet; colours: the palette's own."""
    return colours + _read(*STYLES)
