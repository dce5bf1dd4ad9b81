"""Digits drawn by a trained network, as pixels and as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .checkpoint import CheckpointError, find, load_pretrained
from .data import to_bytes
from .networks import Reading
from .sampling import ddim_step, ddpm_step, sample

CHUNK = 100  # digits drawn at a time: enough for speed, and few MB


def load_digits(name: str | Path = "digits", device: torch.device | str = "cpu") -> Reading:
    """A network that draws, in eval mode; name: see `checkpoint.find`. Raises CheckpointError."""
    path = find(name)
    model = load_pretrained(path, device)
    if not isinstance(model, Reading):
        raise CheckpointError(f"{path} draws no digits: it holds a {type(model).__name__}")
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def dealt(digits: str, n: int) -> Tensor:
    """n labels, int64 [n]: the digits ("0123456789", or some of them) in turn, again and again."""
    if not digits or not set(digits) <= set("0123456789"):
        raise ValueError(f"digits must be some of 0123456789, got {digits!r}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return torch.tensor([int(digits[i % len(digits)]) for i in range(n)])


@dataclass(frozen=True)
class Drawing:
    """How digits are drawn; x_0_hat is clipped to [-1, 1], the range of images."""

    sampler: Literal["ddim", "ddpm"] = "ddim"  # ddpm: with sigma^2 = beta
    eta: float = 1.0  # of ddim: 0 adds no noise, 1 as much as the posterior has
    steps: int = 50  # network calls a digit
    seed: int = 0

    @property
    def step(self) -> Callable[..., Tensor]:
        """For `sampling.sample`."""
        ddim = partial(ddim_step, eta=self.eta, clip=1.0)
        return ddim if self.sampler == "ddim" else partial(ddpm_step, clip=1.0)


def draw(model: Reading, labels: Tensor, how: Drawing = Drawing()) -> Iterator[Tensor]:
    """Digits of the asked labels, `CHUNK` at a time: uint8 [CHUNK or fewer, 28, 28], on the CPU.

    labels: int64 [N]. All noise comes from one generator on the model's device: seed, N and device
    decide it, and no other random state moves. A full chunk is the same whatever follows it.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(how.seed)
    for y in labels.to(device).split(CHUNK):
        shape, asked = (len(y), 1, 28, 28), partial(model, y=y)
        walk = sample(asked, model.schedule, shape, how.step, how.steps, generator, device=device)
        *_, (_, x, _) = walk
        yield to_bytes(x[:, 0]).cpu()


def grid(images: Tensor, columns: int, gap: int = 2, zoom: int = 3) -> Image.Image:
    """A picture of images (uint8 [N, 28, 28]), row by row; each pixel becomes zoom x zoom."""
    rows = math.ceil(len(images) / columns)
    page = torch.zeros(rows * columns, 28 + gap, 28 + gap, dtype=torch.uint8)
    page[: len(images), :28, :28] = images
    page = page.unflatten(0, (rows, columns)).transpose(1, 2).flatten(2).flatten(0, 1)
    picture = Image.fromarray(page[: -gap or None, : -gap or None].numpy())
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def write_digits(path: Path, images: Tensor, labels: Tensor, columns: int = 10) -> None:
    """Write a PNG grid or, where the name ends in .npz, the arrays ``images`` and ``labels``.

    images: uint8 [N, 28, 28]; labels: int64 [N]. Raises OSError when the disk refuses.
    """
    with open(path, "wb") as file:
        if path.suffix == ".npz":
            np.savez_compressed(file, images=images.numpy(), labels=labels.numpy())
        else:
            grid(images, columns).save(file, "PNG")
