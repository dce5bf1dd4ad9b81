"""Digits as a few numbers and back: the autoencoder and the variational one of chapter 5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..bound import bits_per_dim, discretised_gaussian
from ..data import mnist, to_bytes, to_unit
from ..loss import Draw, Loss
from ..networks import VAE, Autoencoder
from ..training import Task, TrainConfig
from .drawing import CHUNK, most_images, write_images

RECIPE = TrainConfig(steps=4700, batch_size=128, lr=2e-3, warmup=200, ema_decay=0.99)


@dataclass(frozen=True)
class _Coded(Task):
    """What the two have in common: sizes, data, and what is written of a picture."""

    train: TrainConfig = field(default_factory=lambda: RECIPE)
    latent: int = 16  # numbers in a code
    width: int = 8  # channels of the first level
    hidden: int = 256  # units between the code and the last level

    def images(self, device: torch.device) -> Draw:
        """draw(n, generator) -> x [n, 1, 28, 28] and a normal eps for each code."""
        images = mnist("train")[0].to(device)

        def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            options: dict[str, Any] = {"generator": generator, "device": generator.device}
            chosen = torch.randint(len(images), (n,), **options)
            return to_unit(images[chosen])[:, None], torch.randn(n, self.latent, **options)

        return draw

    @torch.no_grad()
    def preview(self, model: nn.Module, path: Path) -> None:
        """20 test digits, and below each the network's picture of it."""
        x = to_unit(mnist("test")[0][::500])[:, None].to(next(model.parameters()).device)
        images = torch.cat([to_bytes(v[:, 0]).cpu() for v in (x, model(x))])
        write_images(path.with_suffix(".png"), images, None, columns=20)

    def most(self, path: Path) -> int:
        return most_images(path, 1, 28)

    def write(self, path: Path, samples: Tensor, labels: Tensor | None, columns: int = 10) -> None:
        write_images(path, samples, None, columns)


@dataclass(frozen=True)
class AutoencoderTask(_Coded):
    """An `Autoencoder` of MNIST, trained on the squared error."""

    kind: ClassVar[str] = "autoencoder"

    def build(self) -> Autoencoder:
        return Autoencoder(self.latent, self.width, self.hidden)

    def batches(self, device: torch.device) -> tuple[Draw, Loss]:
        return self.images(device), squared_error

    @torch.no_grad()
    def evaluate(self, model: nn.Module, asked: Any) -> dict[str, Any]:
        """The squared error of a test digit."""
        device = next(model.parameters()).device
        parts = [to_unit(some)[:, None].to(device) for some in mnist("test")[0].split(CHUNK)]
        error = torch.stack([squared_error(model, x) for x in parts]).mean()
        return {"measures": {"squared_error": {"value": round(float(error), 4)}}}


@dataclass(frozen=True)
class VAETask(_Coded):
    """A `VAE` of MNIST, trained on the bound."""

    kind: ClassVar[str] = "vae"

    def build(self) -> VAE:
        return VAE(self.latent, self.width, self.hidden)

    def batches(self, device: torch.device) -> tuple[Draw, Loss]:
        return self.images(device), negative_elbo

    @torch.no_grad()
    def sample(self, model: nn.Module, how: Any, labels: Tensor | int) -> Iterator[Tensor]:
        """Means of p(x | z) at codes from the prior; a VAE knows no labels."""
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(how.seed)
        n = labels if isinstance(labels, int) else len(labels)
        z = torch.randn(n, self.latent, generator=generator, device=device)
        for some in z.split(CHUNK):
            yield to_bytes(model.decode(some)[:, 0]).cpu()  # type: ignore[operator]

    @torch.no_grad()
    def evaluate(self, model: nn.Module, asked: Any) -> dict[str, Any]:
        """The bound of MNIST's test digits, in bits/dim of their 8-bit pixels."""
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(asked.how.seed)
        nats = []
        for some in mnist("test")[0].split(CHUNK):
            x = to_unit(some)[:, None].to(device)
            eps = torch.randn(len(x), self.latent, generator=generator, device=device)
            nats.append(-model.elbo(x, eps, discretised_gaussian).total)  # type: ignore[operator]
        bits = bits_per_dim(torch.cat(nats).mean(), 28 * 28)
        return {"measures": {"bits_per_dim": {"value": round(float(bits), 4)}}}


def squared_error(model: nn.Module, x: Tensor, eps: Tensor | None = None) -> Tensor:
    """Of an image: the sum over its pixels, mean over the batch. eps has no part."""
    return (model(x) - x).square().sum((1, 2, 3)).mean()


def negative_elbo(model: VAE, x: Tensor, eps: Tensor) -> Tensor:
    """Minus the bound on log p(x), in nats an image, with one code each (eq-vae-elbo).

    Raises FloatingPointError where a variance is no longer one: 0, infinite or NaN.
    """
    try:
        return -model.elbo(x, eps).total.mean()
    except ValueError as error:
        raise FloatingPointError(str(error)) from None
