"""What can be trained: a task says which model, on which batches, with which loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ..loss import Draw, Loss
from .config import TrainConfig
from .loop import Players


@dataclass(frozen=True)
class Task(ABC):
    """All that decides what a run ends with; its fields are a checkpoint's ``config``.

    ``kind`` names the task in checkpoints and on the command line. The fields hold what JSON can,
    tuples and dataclasses of it. Raises ValueError where a number is out of range.
    """

    kind: ClassVar[str]

    train: TrainConfig = field(default_factory=TrainConfig)
    save_every: int = 500  # steps from one checkpoint to the next

    def __post_init__(self) -> None:
        if self.save_every < 1 or self.save_every % self.train.log_every:
            raise ValueError(
                f"save_every must be a multiple of log_every = {self.train.log_every}, "
                f"got {self.save_every}"
            )

    def begun(self) -> Self:
        """The task when its run begins: with what it learns from its data. ValueError if not."""
        return self

    @abstractmethod
    def build(self) -> nn.Module:
        """The untrained model."""

    @abstractmethod
    def batches(self, device: torch.device) -> tuple[Draw, Loss | Players]:
        """What `training.train` asks for: ``draw`` and ``loss``, with the data on the device."""

    def preview(self, model: nn.Module, path: Path) -> None:  # noqa: B027
        """Write something to look at while it trains, to ``path`` with a suffix."""

    def labels(self, asked: str | None, n: int | None) -> Tensor | int:
        """What `sample` is to draw: labels int64 [N], or how many where there are no classes.

        asked: the classes, as the command line has them, or None for all; n: how many, or None.
        """
        if asked is not None:
            raise ValueError(f"this model of kind {self.kind!r} knows no classes: leave them out")
        if n is not None and n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        return 16 if n is None else n

    def most(self, path: Path) -> int:
        """How many samples `write` can put in one file of this name."""
        return 1_000_000

    def sample(self, model: nn.Module, how: Any, labels: Tensor | int) -> Iterator[Tensor]:
        """Samples of a trained model, some at a time; ValueError where there are none to draw.

        how: a `tasks.Drawing`; labels: int64 [N], or how many where there are no classes.
        """
        raise ValueError(f"a model of kind {self.kind!r} draws nothing")

    def write(self, path: Path, samples: Tensor, labels: Tensor | None, columns: int = 10) -> None:
        """Write what `sample` drew, as a picture or as arrays. OSError where the disk refuses."""
        raise ValueError(f"a model of kind {self.kind!r} draws nothing")

    def evaluate(self, model: nn.Module, asked: Any) -> dict[str, Any]:
        """How good a trained model is, as JSON holds it. asked: a `tasks.Asked`."""
        raise ValueError(f"a model of kind {self.kind!r} has no measures")
