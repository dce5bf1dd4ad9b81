"""The classifier of images, whose features `metrics` compares."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import labelled, mnist
from ..loss import Draw, Loss
from ..metrics import accuracy
from ..networks import Classifier
from ..training import TrainConfig
from .pictured import Pictured

TURN, SCALE, SHIFT = math.radians(10), 0.1, 2 / 14  # at most: 10 degrees, 10 %, 2 pixels


@dataclass(frozen=True)
class Classify(Pictured):
    """A `Classifier` of one's own pictures or, without ``data``, of MNIST, whose training digits
    are turned, scaled and shifted a little."""

    kind: ClassVar[str] = "classifier"

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=2400, batch_size=256, lr=4e-3, warmup=200, ema_decay=0.99
        )
    )
    save_every: int = 600
    size: int = 28
    channels: int = 1
    classes: int = 10  # of MNIST; of one's own pictures: as many as there are names
    width: int = 16  # channels of the first level
    features: int = 128  # units of the last hidden layer

    def begun(self) -> Self:
        if not self.data and (self.size, self.channels) != (28, 1):
            raise ValueError(
                "size and channels must be 28 and 1, those of MNIST, got "
                f"{self.size} and {self.channels}: or give your own pictures (data)"
            )
        return super().begun() if self.data else self

    def build(self) -> Classifier:
        classes = len(self.names) or self.classes
        return Classifier(classes, self.width, self.features, self.size, self.channels)

    def batches(self, device: torch.device) -> tuple[Draw, Loss]:
        if self.data:
            if len(self.pictures.names) < 2:
                raise ValueError(f"data must have two classes or more, {self.data} has not")
            return self.own(device), cross_entropy
        images, labels = mnist("train")
        still = labelled(images.to(device), labels.to(device))

        def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            x, y = still(n, generator)
            return moved(x, generator), y

        return draw, cross_entropy

    def evaluate(self, model: nn.Module, asked: Any) -> dict[str, Any]:
        """The share of MNIST's 10,000 test digits, or of the held-out pictures, read right."""
        images, labels = mnist("test")
        if self.data:
            task = self.reading(asked.data)
            rows = task.held if task.held.any() else ~task.held
            images, labels = (part[rows] for part in task.pictures[:2])  # type: ignore[index]
        return {"measures": {"test_accuracy": {"value": accuracy(model, images, labels)}}}


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean of -log p(y | x): conditional maximum likelihood."""
    return F.cross_entropy(model(x), y)


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image [B, 1, H, W] turned, scaled and shifted by its own random amounts."""
    options: dict[str, Any] = {"generator": generator, "device": x.device, "dtype": x.dtype}
    turn, size, right, down = 2 * torch.rand(4, len(x), **options) - 1
    size = 1 + SCALE * size
    cos, sin = size * (TURN * turn).cos(), size * (TURN * turn).sin()
    rows = [cos, -sin, SHIFT * right], [sin, cos, SHIFT * down]
    maps = torch.stack([torch.stack(row, 1) for row in rows], 1)
    where = F.affine_grid(maps, list(x.shape), align_corners=False)
    # The border of a digit is background, which is -1: sample x + 1, where outside is 0.
    return F.grid_sample(x + 1, where, align_corners=False) - 1
