"""The book's colours: one for each role, on light and on dark pages.

This file imports nothing, so that the book's build can read it without the package.
"""

#: role -> (colour on a light page, colour on a dark page). The first is legible on both, for
#: pictures that cannot follow the theme. Colour-blind readers can tell them apart.
PALETTE: dict[str, tuple[str, str]] = {
    "data": ("#3384dc", "#62aefb"),
    "noise": ("#828890", "#858c97"),
    "model": ("#d26a00", "#ffa23a"),
    "truth": ("#0f7650", "#33cc94"),
    "other": ("#a63f9e", "#f0a3dc"),
}

#: Colour stops of heat maps, low to high, on a light and on a dark page.
MAPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "diverging": (
        ("#12407f", "#3d83cf", "#a9cdf0", "#f7f7f5", "#fbcf9d", "#e0831f", "#8a3f00"),
        ("#a9d4ff", "#4a96e6", "#1f4f86", "#1b2027", "#7c4510", "#e08426", "#ffd9a3"),
    ),
    "sequential": (
        ("#f7f7f5", "#cfe3f3", "#8fbfe4", "#4b92cf", "#2265ad", "#123a73"),
        ("#1b2027", "#1d3b5e", "#22619d", "#3f93dc", "#86c3f7", "#e3f2ff"),
    ),
}

_DARK = (
    "html[data-theme=dark] .lf",
    "body[data-jp-theme-light=false] .lf",
    "body.vscode-dark .lf",
)
_SYSTEM = "html:not([data-theme]) body:not([data-jp-theme-light]):not([class*=vscode]) .lf"


def css() -> str:
    """The colours as CSS custom properties of `.lf`, for every way a page says "dark"."""
    light, dark = (
        "".join(f"--lf-{role}:{pair[i]};" for role, pair in PALETTE.items())
        + "".join(f"--lf-{name}:{','.join(pair[i])};" for name, pair in MAPS.items())
        + f"--lf-button:{MAPS['sequential'][i][4]};"
        for i in (0, 1)
    )
    light += "--lf-fg:#1f2933;--lf-muted:#5b6570;--lf-grid:#e6e9ed;--lf-line:#c3c9d1;"
    light += "--lf-card:#ffffff;--lf-tint:#f5f7fa;color-scheme:light;"
    dark += "--lf-fg:#e6eaef;--lf-muted:#a4adb8;--lf-grid:#2b323b;--lf-line:#4b5561;"
    dark += "--lf-card:#1b2027;--lf-tint:#232a33;color-scheme:dark;"
    return (
        f".lf{{{light}}}\n"
        f"{','.join(_DARK)}{{{dark}}}\n"
        f"@media (prefers-color-scheme:dark){{{_SYSTEM}{{{dark}}}}}\n"
        f"@media print{{html .lf.lf.lf{{{light}}}}}\n"
    )
