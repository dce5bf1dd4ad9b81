"""The networks that a page can run, as files of the package: what the reader's click fetches.

This file imports nothing of the package, so that the book's build can read it without torch.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
FOLDER = PACKAGE / "assets" / "networks"  # NAME.json: the program; NAME.bin: the weights
RUNNER = PACKAGE / "page" / "runner.js"
KERNEL = PACKAGE / "page" / "kernel.wasm"
WORKER = PACKAGE / "live" / "worker.js"


def names() -> list[str]:
    """The networks that are there."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def program(name: str) -> dict[str, Any]:
    """What the runner is to do. Raises ValueError for a network that is not there."""
    if name not in names():
        raise ValueError(f"no network {name!r} for pages; there are {', '.join(names())}")
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def weights(name: str) -> bytes:
    """Its weights."""
    return (FOLDER / f"{name}.bin").read_bytes()


def source() -> str:
    """The script of the worker: the runner, and what speaks with the page."""
    return RUNNER.read_text(encoding="utf-8") + "\n" + WORKER.read_text(encoding="utf-8")


def _registered(name: str, parts: dict[str, Any]) -> str:
    """A classic script that leaves its parts with the page: file:// allows no other."""
    told = json.dumps(parts, separators=(",", ":")).replace("<", "\\u003c")
    return f"(globalThis.ddpmNetworks??={{}})[{json.dumps(name)}]={told};\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def script(name: str) -> str:
    """The classic script of one network."""
    return _registered(name, {"program": program(name), "weights": _base64(weights(name))})


def runner_script() -> str:
    """The classic script that all networks of a page share."""
    return _registered("", {"source": source(), "kernel": _base64(KERNEL.read_bytes())})


def megabytes(name: str) -> float:
    """What a page fetches on the first click, to a tenth."""
    return round((len(script(name)) + len(runner_script())) / 1e6, 1)
