"""Tensors and the facts about them in one file, written whole or not at all.

A checkpoint is a safetensors file whose header carries JSON. No pickle is read or written, so a
file from a stranger can be wrong but cannot run code.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..files import write_whole

_KEY = "ddpm_lite"  # of our JSON among the header's metadata
_SUM = "sha256"  # of the tensors' bytes, beside it

WEIGHTS = Path(__file__).parents[1] / "assets" / "weights"


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
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    checksum = hashlib.sha256(_body(save(own))).hexdigest()
    content = save(own, {_KEY: text, _SUM: checksum})
    try:
        write_whole(path, content)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path} ({len(content) / 1e6:.1f} MB): {error.strerror}; "
            "free some space or choose another folder: what was saved before is untouched"
        ) from error


def load_checkpoint(path: str | Path, device: Any = "cpu") -> Checkpoint:
    """Read what `save_checkpoint` wrote; raises CheckpointError with what to do otherwise."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}: look at the path") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    try:
        tensors = load(content)
        (length,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
        facts = json.loads(metadata.get(_KEY, "{}"))
    except (SafetensorError, KeyError, ValueError, RecursionError, struct.error) as error:
        raise CheckpointError(
            f"{path} is damaged or is no safetensors file ({error}): use the checkpoint before it"
        ) from None
    if _KEY not in metadata or not isinstance(facts, dict):
        raise CheckpointError(
            f"{path} was not written by ddpm_lite: its header has no '{_KEY}' entry"
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
    if path.is_dir():
        newest = sorted(path.glob("checkpoint-*.safetensors"), reverse=True)
        found = [*path.glob("model.safetensors"), *newest]
    else:
        found = [file for file in (shipped, path) if file.is_file()]
    if not found:
        names = ", ".join(sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))) or "none"
        raise CheckpointError(
            f"no checkpoint {str(name)!r}: give a .safetensors file, the folder of a run, or a "
            f"name that comes with the package ({names})"
        )
    return found[0]


def checksum(path: str | Path) -> str:
    """The SHA-256 of a checkpoint's tensors, in 16 hexadecimal digits: which weights these are."""
    load_checkpoint(path)  # it is whole, or CheckpointError
    return hashlib.sha256(_body(Path(path).read_bytes())).hexdigest()[:16]


def _body(content: bytes) -> bytes:
    """The bytes of the tensors, after the header."""
    return content[8 + struct.unpack("<Q", content[:8])[0] :]
