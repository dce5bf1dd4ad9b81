"""Small convolutional networks that read images: clean ones, whose features `metrics` compares, and
noisy ones, whose gradient guides."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .unet import GROUPS, Embedding, Halve, ResBlock, UNetConfig


class Classifier(nn.Module):
    """The class of an image [B, channels, size, size] in [-1, 1], as logits [B, classes].

    width: channels of the first level; features: units of the last hidden layer. Three levels
    (28, 14, 7 rows) of 3 x 3 convolutions, batch normalisation and ReLU, after LeCun et al. 1998.
    """

    def __init__(
        self,
        classes: int = 10,
        width: int = 16,
        features: int = 128,
        size: int = 28,
        channels: int = 1,
    ) -> None:
        super().__init__()
        sizes = {"classes": classes, "width": width, "features": features, "channels": channels}
        for name, value in {**sizes, "size": size}.items():
            least = 4 if name == "size" else 1
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.shape = channels, size, size
        self.body = nn.Sequential(
            *_conv(channels, width),
            nn.MaxPool2d(2),
            *_conv(width, 2 * width),
            *_conv(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_conv(2 * width, 4 * width),
            *_conv(4 * width, 4 * width),
            nn.Flatten(),
            nn.Linear(4 * width * (size // 4) ** 2, features),
            nn.ReLU(),
        )
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer reads: [B, features], none of them negative."""
        if x.shape[1:] != self.shape:
            shape = ", ".join(map(str, self.shape))
            raise ValueError(f"x must be images [B, {shape}], got {list(x.shape)}")
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def _conv(n_in: int, n_out: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    )


class NoisyClassifier(nn.Module):
    """The class of a noisy image x_t, as logits [B, classes]: what classifier guidance asks.

    The way down of a `UNet`, told t by the same embedding, and one linear layer on the 4 x 4
    positions that are left of 28 x 28. width: channels of the first level, a multiple of 8.
    Dhariwal and Nichol 2021, section 4.
    """

    def __init__(
        self, classes: int = 10, width: int = 16, embedding: int = 64, size: int = 28
    ) -> None:
        super().__init__()
        config = UNetConfig(size, width=width, multipliers=(1,), embedding=embedding)
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}")
        self.shape, self.patch = (config.channels, size, size), config.patch
        self.embedding = Embedding(width, embedding, 0)
        self.stem = nn.Conv2d(config.channels * self.patch**2, width, 3, padding=1)
        self.body = nn.ModuleList(
            [
                ResBlock(width, width, embedding),
                Halve(width),
                ResBlock(width, 2 * width, embedding),
                Halve(2 * width),
            ]
        )
        self.norm = nn.GroupNorm(GROUPS, 2 * width)
        places = (-(-size // (4 * self.patch))) ** 2
        self.head = nn.Linear(2 * width * places, classes)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t: [B, 1, size, size]; t: int64 or real [B] in (0, T]. Returns logits [B, classes]."""
        if x_t.shape[1:] != self.shape:
            shape = ", ".join(map(str, self.shape))
            raise ValueError(f"x_t must be images [B, {shape}], got {list(x_t.shape)}")
        if t.shape != x_t.shape[:1]:
            raise ValueError(f"t must be [B] = [{x_t.shape[0]}], got {list(t.shape)}")
        e = self.embedding(t, None)
        h = self.stem(F.pixel_unshuffle(x_t, self.patch).to(self.stem.weight.dtype))
        for layer in self.body:
            h = layer(h, e)
        return self.head(F.silu(self.norm(h)).flatten(1)).to(x_t.dtype)
