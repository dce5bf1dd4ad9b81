"""Tensors and the facts about them in one file, written whole or not at all.

A checkpoint is a safetensors file whose header carries JSON. No pickle is read or written, so a
file from a stranger can be wrong but cannot run code.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from .networks import VAE, Autoencoder, Classifier, Reading, UNet, UNetConfig
from .schedule import linear_schedule

_KEY = "ddpm_lite"  # of our JSON among the header's metadata


WEIGHTS = Path(__file__).parent / "assets" / "weights"


class CheckpointError(RuntimeError):
    """A file that is missing, damaged, or not one of ours: the message says what to do."""


class Checkpoint(NamedTuple):
    """tensors: by name; facts: what the JSON says (config, step, metrics, seed, commit ...)."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save_checkpoint(
    path: str | Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write ``tensors`` and ``facts`` to ``path``, whole or not at all.

    The bytes go to a temporary file beside it, reach the disk, and take the name in one rename: a
    kill or a full disk leaves the file of before. facts: anything JSON can hold. Raises
    CheckpointError when the disk refuses.
    """
    path = Path(path)
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {_KEY: json.dumps(facts, sort_keys=True, allow_nan=False)},
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path} ({len(content) / 1e6:.1f} MB): {error.strerror}; "
            "free some space or choose another folder: what was saved before is untouched"
        ) from error
    finally:  # it is there no more, unless the writing failed or was interrupted
        with suppress(OSError):
            temporary.unlink()


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
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
    except (SafetensorError, KeyError, ValueError, struct.error) as error:
        raise CheckpointError(
            f"{path} is damaged or is no safetensors file ({error}): use the checkpoint before it"
        ) from None
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path} was not written by ddpm_lite: its header has no '{_KEY}' entry"
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


def load_pretrained(name: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """A trained network, in eval mode, by a name that comes with the package, or a checkpoint.

    "digits" is a model(x_t, t, y=None) -> eps_hat for the linear schedule of T = 1000, with
    y in 0..9, or None where no digit is asked for; "classifier" returns logits [B, 10]; "vae" and
    "vae-plane" are a `VAE` of 16 and of 2 latent numbers, "autoencoder" an `Autoencoder` of 16.
    For a checkpoint see `find`: of one of training the averaged weights are taken. Raises
    CheckpointError otherwise.
    """
    path = find(name)
    tensors, facts = load_checkpoint(path, device)
    averaged = {k[4:]: v for k, v in tensors.items() if k.startswith("ema.")}
    try:
        model = untrained(facts["config"])
        model.load_state_dict(averaged or tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not hold a network of this version of ddpm_lite: {error}"
        ) from None
    return model.to(device).eval()


def untrained(config: Mapping[str, Any]) -> nn.Module:
    """A new network of the kind and the sizes that a checkpoint's ``config`` gives."""
    if "vae" in config:
        return VAE(**config["vae"])
    if "autoencoder" in config:
        return Autoencoder(**config["autoencoder"])
    if "network" not in config:
        return Classifier(**config)
    shape: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in config["network"].items()
    }
    schedule = linear_schedule(*(config[name] for name in ("T", "beta_1", "beta_T")))
    return Reading(UNet(UNetConfig(**shape)), schedule, config["output"])
