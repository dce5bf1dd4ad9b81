"""What all tasks on one's own pictures share: the pictures, and which are held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from ..data import Pictures, labelled, pictures
from ..data.images import listed
from ..loss import Draw
from ..training import Task
from ..training.distributed import chief

FEW = 50  # pictures: of fewer, none is held out


@dataclass(frozen=True)
class Pictured(Task):
    """A task on the pictures in ``data``, see `data.pictures`.

    They are read when a run begins, and when a model is measured; not to sample from it.
    """

    data: str = ""  # a folder of pictures (the folders in it are classes), or a .npz file
    size: int = 32  # rows and columns that the pictures are resized to
    channels: int = 3  # 3: in colour; 1: grey
    held_out: float = 0.1  # share of the pictures that is not trained on, but measured on
    names: tuple[str, ...] = ()  # of the classes: they come from the data when the run begins

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {self.channels}")
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")
        if not 0 <= self.held_out <= 0.5:
            raise ValueError(f"held_out must lie in [0, 0.5], got {self.held_out}")
        if len(set(self.names)) < len(self.names) or not all(type(n) is str for n in self.names):
            raise ValueError(f"names must be different words, got {self.names}")

    @cached_property
    def pictures(self) -> Pictures:
        """All pictures, read once."""
        if not self.data:
            raise ValueError("data must name a folder of pictures or a .npz file: --data FOLDER")
        found = pictures(self.data, self.size, self.channels, bar=chief())
        if self.names not in ((), found.names):
            raise ValueError(
                f"names must be those of the classes in {self.data}, "
                f"{listed(found.names, 20) or 'none'}, got {listed(self.names, 20)}: leave them "
                "out, or bring the pictures of that run back"
            )
        return found

    @cached_property
    def held(self) -> Tensor:
        """Which pictures are held out: bool [N], the share of each class; of `FEW`, none.

        Their content decides, so it is the same ones under other names and in another order.
        """
        images, labels, *_ = self.pictures
        held = torch.zeros(len(images), dtype=torch.bool)
        if len(held) < FEW or not self.held_out:
            return held
        keys = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
        order = torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))
        classes = torch.zeros(len(order)) if labels is None else labels[order]
        for label in classes.unique():
            one = order[classes == label]
            held[one[: int(self.held_out * len(one))]] = True
        return held

    def begun(self) -> Self:
        """The task with the names of its classes; what is done to the pictures is printed."""
        now = replace(self)  # reads them now, whatever self has read before
        task = replace(self, names=now.pictures.names)
        vars(task).update(pictures=now.pictures, held=now.held)  # it need not read them again
        if chief():
            held = int(now.held.sum())
            use = f"{len(now.held) - held} of them are trained on, {held} held out to measure on"
            print(*now.pictures.said, use, sep="\n")
        return task

    def reading(self, data: str | Path | None) -> Self:
        """The task, its pictures in another place; None: where they were."""
        return replace(self, data=str(data)) if data else self

    def own(self, device: torch.device, dropout: float = 0.0) -> Draw:
        """Those that are trained on: see `data.labelled`."""
        images, labels, names, _ = self.pictures
        kept = ~self.held
        y = None if labels is None else labels[kept].to(device)
        return labelled(images[kept].to(device), y, dropout, null=len(names))
