"""Handwritten digits: the diffusion model of MNIST."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data import labelled, mnist
from ..files import keep
from ..loss import Draw
from ..networks import UNETS
from .diffusion import FULL, Diffusion
from .drawing import Asked, Drawing, draw, gathered, in_turn, settled, write_images


@dataclass(frozen=True)
class Digits(Diffusion):
    """A diffusion model of MNIST's 60,000 training digits, each asked for by its label."""

    kind: ClassVar[str] = "digits"

    def __post_init__(self) -> None:
        super().__post_init__()
        net = self.network
        if (net.size, net.channels, net.classes) != (28, 1, 10):
            raise ValueError(
                "network must be for MNIST: size 28, channels 1, classes 10, got "
                f"{net.size}, {net.channels}, {net.classes}"
            )

    def source(self, device: torch.device) -> Draw:
        images, labels = mnist("train")
        return labelled(images.to(device), labels.to(device), self.label_dropout, null=10)

    def labels(self, asked: str | None, n: int | None) -> Tensor | int:
        """Labels of the digits asked for ("38"), in turn; all ten where none is asked; for "none"
        how many, without a label."""
        if asked == "none":
            return self.unlabelled(n)
        digits = "0123456789" if asked is None else asked
        return in_turn(digits, len(digits) if n is None else n)

    def preview(self, model: nn.Module, path: Path) -> None:
        """40 digits, drawn in 25 steps."""
        labels = in_turn("0123456789", 40)
        images = torch.cat(list(draw(model, labels, Drawing(steps=min(25, self.T)))))
        write_images(path.with_suffix(".png"), images, labels)

    def write(self, path: Path, samples: Tensor, labels: Tensor | None, columns: int = 10) -> None:
        write_images(path, samples, labels, columns)

    def evaluate(self, model: nn.Module, asked: Asked) -> dict[str, Any]:
        """Digits drawn and measured beside real ones, and the bound on the likelihood."""
        from . import evaluation, load_pretrained  # here, for its SciPy takes a second to import

        evaluation.check_size(asked.n)
        labels = evaluation.random_labels(asked.n, asked.how.seed)
        device = next(model.parameters()).device
        classifier, bound = load_pretrained("classifier", device), None
        if asked.bound_images:
            sizes = asked.bound_images, asked.bound_times
            bound = evaluation.bound(model, *sizes, asked.how.seed)  # type: ignore[arg-type]
        how, start = settled(asked.how, model), time.perf_counter()  # type: ignore[arg-type]
        images = gathered(draw(model, labels, how), asked.n, "digit")
        seconds = round(time.perf_counter() - start)
        if asked.images:
            keep(asked.images, lambda path: write_images(path, images, labels))
        return {
            "drawing": {"n": asked.n, **asdict(how), "seconds": seconds},
            "measures": evaluation.measure(classifier, images, labels, asked.how.seed),
            "bits_per_dim": bound,
        }


DIGITS = {"book": Digits(), "full": Digits(train=FULL, network=UNETS["full"])}
