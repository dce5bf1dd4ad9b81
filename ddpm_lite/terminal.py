"""What every command needs: a device that works, and a voice."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO

import torch

from .training.distributed import chief
from .training.precision import memory_format


def device_of(name: str) -> torch.device:
    """The device, if it works; Apple's mps does not: it holds no float64, as the tables are."""
    for kind in ("cuda", "cpu") if name == "auto" else (name,):
        with suppress(AssertionError, RuntimeError):
            if torch.device(kind).type in ("cuda", "cpu"):
                return torch.zeros(1, device=kind).device
    raise ValueError(f"device {name!r} does not work here: try --device auto, or cpu")


def laid_out(model: torch.nn.Module, precision: str) -> torch.nn.Module:
    """The model, laid out as convolutions of this precision like it."""
    layout = memory_format(next(model.parameters()).device, precision)
    return model.to(memory_format=layout)  # type: ignore[call-overload]


def say(text: str, file: TextIO | None = None) -> None:
    """Print it, in one process of many."""
    if chief():
        print(text, file=file)


def complain(text: object) -> None:
    """Say what is wrong, in one line."""
    say(f"ddpm-lite: {' '.join(str(text).split())}", sys.stderr)
