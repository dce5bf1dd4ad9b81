"""What a stored output would fetch from another host: pages and notebooks are whole without one.

A link that the reader may follow is no request; an image, a script, a style or a form elsewhere is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

# in an attribute: any scheme of the network, or //host at a place where an address can begin
ADDRESS = re.compile(r"(?:https?|wss?|ftp):|(?:^|[\s,;=(\"'])[\\/]{2}\w", re.IGNORECASE)
# in code // begins a comment too: there an address stands behind a scheme, or in quotes
IN_CODE = re.compile(r"(?:https?|wss?|ftp):\\?/|[\"'`(]\\?/\\?/\w", re.IGNORECASE)
NAMESPACE = re.compile(r"https?://www\.w3\.org/[\w/.-]*")  # of SVG and its kin: a name, not a place
PICTURE = re.compile(r"!\[[^\]]*\]\(\s*<?(?:\w+:)?//", re.IGNORECASE)  # in Markdown
LINKS = {("a", "href"), ("a", "xlink:href"), ("area", "href")}
WORDS = re.compile(r"alt|title|label|placeholder|cite|aria-.*|xmlns.*")  # attributes to be read


class _Requests(HTMLParser):
    """Collects the places in HTML or SVG that make a browser ask another host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.code = ""  # the tag whose content is code now

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        data = "json" in (dict(attrs).get("type") or "")
        self.code = tag if tag == "style" or (tag == "script" and not data) else ""
        for name, value in attrs:
            if (tag, name) in LINKS or WORDS.fullmatch(name) or not value:
                continue
            if ADDRESS.search(re.sub(r"[\t\r\n]", "", value).strip()):
                self.found.append(f"<{tag} {name}={value[:60]!r}>")

    def handle_endtag(self, tag: str) -> None:
        self.code = ""

    def handle_data(self, data: str) -> None:
        if self.code:
            self.found += [f"<{self.code}>: {line!r}" for line in in_code(data)]


def in_code(text: str) -> Iterator[str]:
    """What in a script or stylesheet looks like the address of another host."""
    text = NAMESPACE.sub("", text)
    return (text[m.start() : m.start() + 60] for m in IN_CODE.finditer(text))


def requests(mime: str, text: str) -> list[str]:
    """What showing this output, of this MIME type, would ask of another host."""
    if mime == "application/javascript":
        return list(in_code(text))
    if mime not in ("text/html", "text/markdown", "image/svg+xml"):
        return []
    parser = _Requests()
    parser.feed(f"{text}</script></style>")  # one that was left open is closed further down
    parser.close()
    pictures = PICTURE.finditer(text) if mime == "text/markdown" else []
    return parser.found + [text[m.start() : m.start() + 60] for m in pictures]
