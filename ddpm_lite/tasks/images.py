"""One's own pictures: a diffusion model of what is in a folder or a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data.images import listed
from ..loss import Draw
from ..networks import UNETS, UNetConfig
from .diffusion import FULL, Diffusion
from .drawing import Asked, Drawing, draw, in_turn, write_images
from .pictured import Pictured

OPEN = {
    name: replace(config, size=0, channels=0, classes=0)  # the pictures say them
    for name, config in UNETS.items()
}


@dataclass(frozen=True)
class Images(Pictured, Diffusion):
    """A diffusion model of pictures, each asked for by its class where there are classes.

    The size and channels of the network are those of the task, its classes those of the data.
    """

    kind: ClassVar[str] = "images"

    network: UNetConfig = field(default_factory=lambda: OPEN["book"])

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size", "channels", "classes"):
            if value := getattr(self.network, name):
                raise ValueError(
                    f"network.{name} must be left out (0), got {value}: it is that of the pictures"
                )
        self.unet  # noqa: B018  # ValueError where it does not take this size

    @property
    def unet(self) -> UNetConfig:
        """``network``, for these pictures."""
        classes = len(self.names)
        return replace(self.network, size=self.size, channels=self.channels, classes=classes)

    def source(self, device: torch.device) -> Draw:
        return self.own(device, self.label_dropout)

    def labels(self, asked: str | None, n: int | None) -> Tensor | int:
        """Labels of the classes asked for by name ("cat,dog"), in turn; all where none is asked."""
        if not self.names:
            return super().labels(asked, n)
        if asked == "none" and "none" not in self.names:
            return self.unlabelled(n)
        words = list(self.names) if asked is None else [asked]
        if asked is not None and asked not in self.names:
            words = [word.strip() for word in asked.split(",")]
        for word in words:
            if word not in self.names:
                raise ValueError(f"no class {word!r}: choose from {listed(self.names, 20)}")
        return in_turn([self.names.index(word) for word in words], len(words) if n is None else n)

    def preview(self, model: nn.Module, path: Path) -> None:
        """Four rows of about ten pictures, drawn in 25 steps; the first ten classes in turn."""
        classes = list(range(min(len(self.names), 10)))
        columns = 10 // len(classes) * len(classes) if classes else 10
        labels = in_turn(classes, 4 * columns) if classes else 4 * columns
        images = torch.cat(list(draw(model, labels, Drawing(steps=min(25, self.T)))))
        write_images(path.with_suffix(".png"), images, None, columns)

    def write(self, path: Path, samples: Tensor, labels: Tensor | None, columns: int = 10) -> None:
        write_images(path, samples, labels, columns)

    def evaluate(self, model: nn.Module, asked: Asked) -> dict[str, Any]:
        """The loss at each t, and pictures drawn and measured beside those of the data."""
        from .likeness import likeness

        return likeness(self.reading(asked.data), model, asked)


IMAGES = {
    "book": Images(),
    "full": Images(train=FULL, network=OPEN["full"]),
    "mnist": Images(size=28, channels=1),
}
