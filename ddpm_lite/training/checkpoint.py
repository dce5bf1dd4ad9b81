"""Tensors and the facts about them in one file, written whole or not at all.

A checkpoint is a safetensors file whose header carries JSON. No pickle is read or written, so a
file from a stranger can be wrong but cannot run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ..files import write_whole

_KEY = "ddpm_lite"  # of our JSON among the header's metadata
_SUM = "sha256"  # of the tensors' bytes, beside it

_NAME = re.compile(r"checkpoint-(\d{7,})\.safetensors")  # of a run's checkpoints
_DEEPEST = 50  # lists in lists: more is no fact of ours

WEIGHTS = Path(__file__).parents[1] / "assets" / "weights"


WRONG = (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)
"""What the values in a file that was made by hand may raise."""


class CheckpointError(RuntimeError):
    """A file that is missing, damaged, or not one of ours: the message says what to do."""


class Checkpoint(NamedTuple):
    """tensors: by name; facts: what the JSON says (kind, config, step, metrics, seed ...)."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save_checkpoint(
    path: str | Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write ``tensors`` and ``facts`` to ``path``, whole or not at all, with a checksum.

    facts: anything JSON can hold. Tensors that share memory are stored each by itself. Raises
    CheckpointError when the disk refuses, ValueError for a tensor that cannot be stored.
    """
    for name, tensor in tensors.items():
        if name == "__metadata__" or tensor.is_meta:
            raise ValueError(f"the tensor {name!r} cannot be stored: rename it, or give it values")
    own = {name: v.detach().cpu().contiguous().clone() for name, v in tensors.items()}
    content = _headed(save(own), json.dumps(facts, sort_keys=True, allow_nan=False))
    try:
        write_whole(path, content)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path} ({len(content) / 1e6:.1f} MB): {error.strerror}; "
            "free some space or choose another folder: what was saved before is untouched"
        ) from error


def load_checkpoint(path: str | Path, device: Any = "cpu") -> Checkpoint:
    """Read what `save_checkpoint` wrote; raises CheckpointError with what to do otherwise."""
    content = _read(path)
    try:
        tensors = load(content)
        metadata = _header(content).get("__metadata__") or {}
        facts = json.loads(metadata.get(_KEY, "{}"))
    except (SafetensorError, struct.error, RecursionError, *WRONG) as error:
        raise CheckpointError(
            f"{path} is damaged or is no safetensors file ({error}): use the checkpoint before it"
        ) from None
    if _KEY not in metadata or not isinstance(facts, dict) or _depth(facts) > _DEEPEST:
        raise CheckpointError(
            f"{path} was not written by ddpm_lite: its header has no proper {_KEY!r} entry"
        )
    if _SUM in metadata and metadata[_SUM] != hashlib.sha256(_body(content)).hexdigest():
        raise CheckpointError(
            f"{path} is damaged (its tensors do not have their checksum): use the checkpoint "
            "before it, or reinstall ddpm_lite if the file came with it"
        )
    return Checkpoint({k: v.to(device) for k, v in tensors.items()}, facts)


def find(name: str | Path) -> Path:
    """The file that is meant: weights in the package ("digits"), a checkpoint, a run's folder.

    Of a folder it is the final model, else the newest checkpoint. Raises CheckpointError.
    """
    path, shipped = Path(name), WEIGHTS / f"{name}.safetensors"
    if path.name == str(name) and os.path.isfile(shipped):
        return shipped
    if os.path.isdir(path):
        found = [*path.glob("model.safetensors"), *reversed(checkpoints(path))]
    else:
        found = [path] if os.path.isfile(path) else []
    if not found:
        names = ", ".join(sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))) or "none"
        raise CheckpointError(
            f"no checkpoint {str(name)!r}: give a .safetensors file, the folder of a run, or a "
            f"name that comes with the package ({names})"
        )
    return found[0]


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first; files with other names are not ours."""
    return sorted((p for p in folder.glob("checkpoint-*") if _NAME.fullmatch(p.name)), key=step_of)


def step_of(path: Path) -> int:
    """The step in the name of one of `checkpoints`."""
    return int(path.stem.removeprefix("checkpoint-"))


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def check_fits(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless ``tensors`` have the names and shapes of what ``build`` makes.

    It is built on the device "meta", where sizes cost nothing before they are known to be right.
    """
    try:
        with torch.device("meta"):
            own = {name: list(v.shape) for name, v in build().state_dict().items()}
    except WRONG as error:
        raise CheckpointError(f"its configuration makes no network: {error}") from None
    given = {name: list(v.shape) for name, v in tensors.items()}
    for name in sorted(own.keys() | given.keys()):
        if own.get(name) != given.get(name):
            raise CheckpointError(
                f"the tensors are not those of its configuration: {name} should be "
                f"{own.get(name, 'absent')}, is {given.get(name, 'absent')}"
            )


def checksum(path: str | Path) -> str:
    """The SHA-256 of a checkpoint's tensors, in 16 hexadecimal digits: which weights these are."""
    load_checkpoint(path)  # it is whole, or CheckpointError
    return hashlib.sha256(_body(Path(path).read_bytes())).hexdigest()[:16]


def _read(path: str | Path) -> bytes:
    """The bytes of a file; CheckpointError where there is none, or it cannot be read."""
    if not os.path.isfile(path):
        what = "it is no file" if os.path.exists(path) else "look at the path"
        raise CheckpointError(f"no checkpoint at {path}: {what}")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def _depth(value: Any) -> int:
    """How many lists and objects are in one another."""
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, dict | list)]:
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
        depth += 1
    return depth


def _headed(content: bytes, text: str) -> bytes:
    """A safetensors file, and in its header our JSON and the checksum: always in one order."""
    body = _body(content)
    ours = {"__metadata__": {_KEY: text, _SUM: hashlib.sha256(body).hexdigest()}}
    header = json.dumps(ours | _header(content), separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the tensors begin at a multiple of 8
    return struct.pack("<Q", len(header)) + header + body


def _header(content: bytes) -> dict[str, Any]:
    """The JSON before the tensors."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def _body(content: bytes) -> bytes:
    """The bytes of the tensors, after the header."""
    return content[8 + struct.unpack("<Q", content[:8])[0] :]
