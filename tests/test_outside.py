"""What in a stored output counts as a request to another host, and what does not."""

import pytest
from small_book import tool

requests = tool.outside.requests

ASKS = [
    '<script src="https://cdn.org/a.js"></script>',
    "<SCRIPT SRC=HTTPS://cdn.org/a.js></SCRIPT>",
    "<script src='//cdn.org/a.js'></script>",
    '<img src="\\\\cdn.org/a.png">',
    '<img src="ht\ntps://cdn.org/a.png">',
    '<img src="https&colon;//cdn.org/a.png">',
    '<img srcset="a.png 1x, //cdn.org/b.png 2x">',
    '<link rel="stylesheet" href="https://cdn.org/a.css">',
    '<iframe src="https://www.youtube.com/embed/a"></iframe>',
    '<video poster="http://cdn.org/a.png">',
    '<form action="https://cdn.org">',
    '<a ping="https://cdn.org" href="a.html">',
    '<meta http-equiv="refresh" content="0; url=https://cdn.org">',
    '<div style="background: url(//cdn.org/a.png)">',
    '<svg><image href="https://cdn.org/a.png"/></svg>',
    "<style>@import 'https://cdn.org/a.css';</style>",
    "<style>@font-face { src: url(//cdn.org/a.woff) }</style>",
    '<script>fetch("https://cdn.org/a.json")</script>',
    "<script>import(`//cdn.org/a.js`)</script>",
    "<script type=module>new WebSocket('wss://cdn.org')</script>",
    '<script>if (a < 1) { fetch("https://cdn.org") }',
]


@pytest.mark.parametrize("html", ASKS)
def test_a_request_is_found(html):
    assert requests("text/html", f"<p>Words</p>{html}<p>and more.</p>")


WHOLE = [
    '<a href="https://arxiv.org/abs/2006.11239">DDPM</a> at https://arxiv.org',
    '<img src="data:image/png;base64,iVBO//Rw0KGgo=" alt="see https://arxiv.org">',
    '<svg xmlns="http://www.w3.org/2000/svg"><use href="#a"/></svg>',
    '<script>document.createElementNS("http://www.w3.org/2000/svg", "g") // a comment</script>',
    '<script type="application/json">{"title": "https://arxiv.org"}</script>',
    '<script src="_static/a.js"></script><a href="ledger.html#eq-a">(3.1)</a>',
    "<style>p { margin: 0 } /* from https */</style>",
    "<td>a // b</td>",
]


@pytest.mark.parametrize("html", WHOLE)
def test_what_asks_nobody_passes(html):
    assert requests("text/html", html) == []


def test_other_types_of_output():
    assert requests("text/markdown", "![a curve](https://cdn.org/a.png)")
    assert requests("text/markdown", 'so <img src="https://cdn.org/a.png">')
    assert not requests("text/markdown", "[a paper](https://arxiv.org), ![a curve](a.png)")
    assert requests("image/svg+xml", '<svg><image href="//cdn.org/a.png"/></svg>')
    assert requests("application/javascript", 'fetch("https://cdn.org")')
    assert not requests("text/plain", "https://arxiv.org")
