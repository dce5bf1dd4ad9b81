"""An autoencoder of digits, and a variational one: an image becomes a few numbers, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..gaussian import kl, log_density

Decoder = Callable[[Tensor, Tensor, Tensor], Tensor]  # log p of each pixel: (x, mean, var)


class Elbo(NamedTuple):
    """The two terms of the bound on log p(x), in nats, [B]: one of each image."""

    reconstruction: Tensor  # log p(x | z), at the one z that was drawn from q(z | x)
    kl: Tensor  # KL(q(z | x) || p(z)), exact

    @property
    def total(self) -> Tensor:
        """An estimate of the bound, right on average (eq-vae-elbo)."""
        return self.reconstruction - self.kl


class Autoencoder(nn.Module):
    """An image [B, 1, 28, 28] in [-1, 1] to a code z [B, latent], and back to an image.

    width: channels of the first of three levels (14, 7 and 4 rows); hidden: units between the
    code and the last level.
    """

    def __init__(self, latent: int = 16, width: int = 8, hidden: int = 256) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = _encoder(latent, width, hidden)
        self.decoder = _decoder(latent, width, hidden)

    def encode(self, x: Tensor) -> Tensor:
        """The code of each image: [B, latent]."""
        return self.encoder(_images(x))

    def decode(self, z: Tensor) -> Tensor:
        """The image of each code: [B, 1, 28, 28] in [-1, 1]."""
        return self.decoder(_codes(z, self.latent))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class VAE(nn.Module):
    """A latent-variable model of digits and its encoder, trained together (Kingma, Welling 2014).

    Prior p(z) = N(0, I), decoder p(x | z) = N(decode(z), sigma2 I) with one learned sigma2 for all
    pixels, encoder q(z | x) = N(mean, diag(var)) (def-vae-encoder). Sizes: see `Autoencoder`.
    """

    def __init__(self, latent: int = 16, width: int = 8, hidden: int = 256) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = _encoder(2 * latent, width, hidden)
        self.decoder = _decoder(latent, width, hidden)
        self.log_sigma2 = nn.Parameter(torch.tensor(math.log(0.1)))

    @property
    def sigma2(self) -> Tensor:
        """The variance of a pixel around the decoder's image."""
        return self.log_sigma2.exp()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(z | x), each [B, latent]. x: [B, 1, 28, 28] in [-1, 1]."""
        mean, log_var = self.encoder(_images(x)).chunk(2, dim=1)
        return mean, log_var.exp()

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x | z): [B, 1, 28, 28] in [-1, 1]. z: [B, latent]."""
        return self.decoder(_codes(z, self.latent))

    def forward(self, x: Tensor) -> Tensor:
        """The image decoded from the mean of q(z | x)."""
        return self.decode(self.encode(x)[0])

    def elbo(self, x: Tensor, eps: Tensor, decoder: Decoder = log_density) -> Elbo:
        """The terms of the bound on log p(x), with one code for each image (eq-vae-elbo).

        x: [B, 1, 28, 28] in [-1, 1]; eps: standard normal, [B, latent]. decoder: `log_density`
        for a bound on the density of x, `bound.discretised_gaussian` for one on the
        probability of its 8-bit pixels, the one to turn into bits.
        """
        mean, var = self.encode(x)
        pixels = decoder(x, self.decode(reparameterise(mean, var, eps)), self.sigma2)
        zero, one = torch.zeros_like(mean), torch.ones_like(var)
        return Elbo(pixels.flatten(1).sum(1), kl(mean, var, zero, one).sum(1))


def reparameterise(mean: Tensor, var: Tensor, eps: Tensor) -> Tensor:
    """A draw from N(mean, var) that has a gradient by mean and var (eq-vae-reparameterisation).

    eps: standard normal, of the same shape.
    """
    return mean + var.sqrt() * eps


def _encoder(out: int, width: int, hidden: int) -> nn.Sequential:
    for name, value in {"latent": out, "width": width, "hidden": hidden}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return nn.Sequential(
        nn.Conv2d(1, width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(4 * width * 4 * 4, hidden),
        nn.SiLU(),
        nn.Linear(hidden, out),
    )


def _decoder(latent: int, width: int, hidden: int) -> nn.Sequential:
    """The encoder's levels in reverse."""
    return nn.Sequential(
        nn.Linear(latent, hidden),
        nn.SiLU(),
        nn.Linear(hidden, 4 * width * 4 * 4),
        nn.SiLU(),
        nn.Unflatten(1, (4 * width, 4, 4)),
        nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def _images(x: Tensor) -> Tensor:
    if x.shape[1:] != (1, 28, 28):
        raise ValueError(f"x must be images [B, 1, 28, 28], got {list(x.shape)}")
    return x


def _codes(z: Tensor, latent: int) -> Tensor:
    if z.shape[1:] != (latent,):
        raise ValueError(f"z must be codes [B, {latent}], got {list(z.shape)}")
    return z
