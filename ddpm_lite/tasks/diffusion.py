"""What all diffusion models of images share: a U-Net read as eps, trained on the simple loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..loss import Draw, Loss, denoising
from ..networks import UNETS, Denoiser, UNet, UNetConfig
from ..networks.denoiser import READ
from ..schedule import NoiseSchedule, linear_schedule
from ..training import Task, TrainConfig
from .drawing import Drawing, draw, most_images
from .inpainting import Part

RECIPE = TrainConfig(betas=(0.9, 0.99), clip=1.0, precision="auto")
BOOK = replace(RECIPE, steps=12_000, batch_size=128, lr=1.5e-3, warmup=100, ema_decay=0.999)
FULL = replace(
    RECIPE, steps=60_000, batch_size=512, lr=4e-4, warmup=500, ema_decay=0.9995, compile=True
)


@dataclass(frozen=True)
class Diffusion(Task):
    """A `Denoiser` around a `UNet`, on the linear schedule of T, beta_1 and beta_T."""

    train: TrainConfig = field(default_factory=lambda: BOOK)
    network: UNetConfig = field(default_factory=lambda: UNETS["book"])
    output: str = "v"  # what the network returns and is scored on: x_0, eps or v
    T: int = 1000  # steps of the schedule
    beta_1: float = 1e-4  # of its first step
    beta_T: float = 0.02  # of its last
    stratified: bool = True  # one t in each of batch_size equal parts of 1..T
    label_dropout: float = 0.1  # share of the labels that are hidden, so y = None is learned too

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output not in READ:
            raise ValueError(f"output must be one of {', '.join(READ)}, got {self.output!r}")
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout must lie in [0, 1], got {self.label_dropout}")

    @property
    def schedule(self) -> NoiseSchedule:
        """The linear schedule of T, beta_1 and beta_T."""
        return linear_schedule(self.T, self.beta_1, self.beta_T)

    @property
    def unet(self) -> UNetConfig:
        """The shape of the network that is built."""
        return self.network

    def build(self) -> Denoiser:
        return Denoiser(UNet(self.unet), self.schedule, self.output)

    def most(self, path: Path) -> int:
        return most_images(path, self.unet.channels, self.unet.size)

    def unlabelled(self, n: int | None) -> int:
        """How many to draw without a label; ValueError where none was ever hidden in training."""
        if self.unet.classes and not self.label_dropout:
            raise ValueError(
                "this model never saw a hidden label (label_dropout = 0): name classes"
            )
        if n is not None and n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        return 10 if n is None else n

    def sample(
        self, model: nn.Module, how: Drawing, labels: Tensor | int, part: Part | None = None
    ) -> Iterator[Tensor]:
        """See `drawing.draw`; ValueError for a guidance that the model was not trained for."""
        if how.guidance != 1 and not self.label_dropout:
            raise ValueError(
                "guidance needs a model that saw hidden labels too, but this one has label_dropout "
                "= 0: leave it out, or train with --label-dropout 0.1"
            )
        return draw(model, labels, how, part)

    @abstractmethod
    def source(self, device: torch.device) -> Draw:
        """The data, on the device: ``draw(n, generator)`` -> x_0, or (x_0, y)."""

    def batches(self, device: torch.device) -> tuple[Draw, Loss]:
        weight = output_weight(self.schedule, self.output)
        return denoising(self.source(device), self.schedule, weight, self.stratified)


def output_weight(schedule: NoiseSchedule, output: str) -> Tensor:
    """A table [T + 1] on the squared error of eps_hat, for a network that returns ``output``.

    For "x_0" and "eps" it makes the loss that quantity's own squared error; for "v" it is
    1 / sqrt(alpha_bar), halfway between the errors of eps (1) and of v (1 / alpha_bar): the first
    neglects large t, where digits get their shape, the second small t, where they get sharp.
    """
    tables = {
        "x_0": 1 / schedule.snr,
        "eps": torch.ones_like(schedule.beta),
        "v": schedule.alpha_bar**-0.5,
    }
    if output not in tables:
        raise ValueError(f"output must be one of {', '.join(tables)}, got {output!r}")
    return tables[output]
