"""What can be trained: one task a kind, and the registry that checkpoints and the CLI read.

A checkpoint's facts say its ``kind`` and ``config``: from these alone the task comes back, and with
it the model, how it is sampled and how it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import nn

from ..training import CheckpointError, Task, find, load_checkpoint, newest
from ..training.checkpoint import WRONG, check_fits, part_of
from .classifier import Classify
from .codes import AutoencoderTask, VAETask
from .diffusion import Diffusion, output_weight
from .digits import DIGITS, Digits
from .drawing import CHUNK, Asked, Drawing, draw, gathered, in_turn, settled, write_images
from .images import IMAGES, Images
from .line import Line
from .noisy import ClassifyNoisy

KINDS: dict[str, type[Task]] = {
    task.kind: task
    for task in (Digits, Images, Line, Classify, ClassifyNoisy, VAETask, AutoencoderTask)
}
PRESETS: dict[str, dict[str, Task]] = {
    "digits": {**DIGITS},
    "images": {**IMAGES},
    "line": {"book": Line()},
    "classifier": {"book": Classify()},
    "noisy-classifier": {"book": ClassifyNoisy()},
    "vae": {"book": VAETask(), "plane": VAETask(latent=2)},
    "autoencoder": {"book": AutoencoderTask()},
}
"""kind -> preset -> task; the first preset is the one that is meant where none is named."""


def from_facts(facts: Mapping[str, Any]) -> Task:
    """The task that a checkpoint's facts tell of. Raises CheckpointError."""
    kind = facts.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise CheckpointError(
            f"a checkpoint of kind {kind!r}, which this version of ddpm_lite does not know (it "
            f"knows {', '.join(KINDS)}): convert one of version 0.1 with tools/convert.py"
        )
    try:
        return _restored(KINDS[kind], facts["config"])
    except WRONG as error:
        raise CheckpointError(f"a checkpoint of kind {kind} with a wrong config: {error}") from None


def _restored(cls: type, values: Any) -> Any:
    """The dataclass that `dataclasses.asdict` and JSON made ``values`` of."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{cls.__name__} must be an object, got {values!r}")
    unknown = set(values) - {f.name for f in fields(cls)}
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
    hints = get_type_hints(cls)
    return cls(**{name: _read(hints[name], value) for name, value in values.items()})


def _read(hint: Any, value: Any) -> Any:
    """A value of JSON as one of a field's type; TypeError where it is none."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _restored(hint, value)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list):
        each = inner[:1] * len(value) if inner[-1] is ... else inner
        return tuple(_read(kind, v) for kind, v in zip(each, value, strict=True))
    if origin in (Union, UnionType):
        own = [kind for kind in inner if kind is not type(None)]
        return None if value is None and len(own) < len(inner) else _read(own[0], value)
    kinds = {int, float} if hint is float else {hint}
    if value not in inner if origin is Literal else type(value) not in kinds:
        raise TypeError(f"{value!r} is not {getattr(hint, '__name__', hint)}")
    return value


def load_task(name: str | Path, device: torch.device | str = "cpu") -> tuple[Task, nn.Module]:
    """The task of a checkpoint, and its trained network in eval mode; name: see `training.find`.

    Of a checkpoint of training the averaged weights are taken. Raises CheckpointError.
    """
    path = find(name)
    tensors, facts = load_checkpoint(path)
    weights = part_of(tensors, "ema.") if {"step", "generator"} <= tensors.keys() else tensors
    try:
        task = from_facts(facts)
        check_fits(task.build, weights)
        with torch.random.fork_rng([]):  # the random start, which draws from it, is thrown away
            model = task.build()
        model.load_state_dict(weights)
    except (CheckpointError, *WRONG) as error:
        raise CheckpointError(
            f"{path} does not hold a network of this version of ddpm_lite: {error}"
        ) from None
    return task, model.to(device, torch.get_default_dtype()).eval()


def load_pretrained(name: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """A trained network, in eval mode, by a name that comes with the package, or a checkpoint.

    "digits" is a model(x_t, t, y=None) -> eps_hat for the linear schedule of T = 1000, with
    y in 0..9, or None where no digit is asked for; "line" an `MLP` for points on the line, of the
    same schedule; "classifier" returns logits [B, 10], "noisy-classifier" those of x_t and t; "vae"
    and "vae-plane" are a `VAE` of 16 and of 2 latent numbers, "autoencoder" an `Autoencoder` of 16.
    For a checkpoint see `training.find`. Raises CheckpointError otherwise.
    """
    return load_task(name, device)[1]


def resumed(folder: str | Path) -> Task:
    """The task of the run in ``folder``, to go on with. Raises CheckpointError."""
    return from_facts(newest(folder).facts)


__all__ = [
    "CHUNK",
    "KINDS",
    "PRESETS",
    "Asked",
    "Classify",
    "ClassifyNoisy",
    "Diffusion",
    "Digits",
    "Drawing",
    "Images",
    "Line",
    "draw",
    "from_facts",
    "gathered",
    "in_turn",
    "load_pretrained",
    "load_task",
    "output_weight",
    "resumed",
    "settled",
    "write_images",
]
