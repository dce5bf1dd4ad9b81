"""A U-Net for images: x_t, t and, where there are classes, y in; eps_hat out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_labels, check_samples


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a `UNet`. Raises ValueError where a number is out of range."""

    size: int = 28  # rows and columns of an image; 0: not yet known
    channels: int = 1  # 0: not yet known
    patch: int = 2  # the stem folds patch x patch pixels into channels
    width: int = 32  # channels of the first level
    multipliers: tuple[int, ...] = (1, 2)  # of width, one a level; each has half the rows
    blocks: int = 2  # residual blocks of a level on the way down; one more on the way up
    classes: int = 10  # labels 0 .. classes - 1, and ``classes`` itself for "none asked"; 0: no y
    embedding: int = 128  # units of the embedding of t and y

    def __post_init__(self) -> None:
        for name in ("size", "channels", "patch", "width", "blocks", "embedding", "classes"):
            least = int(name not in ("size", "channels", "classes"))
            most = 100 if name == "blocks" else MOST
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name} must be a whole number in {least}..{most}, got {value!r}")
        if not self.multipliers or not all(1 <= m <= MOST for m in self.multipliers):
            raise ValueError(f"multipliers must name one level or more, got {self.multipliers}")
        if any(self.width * m % GROUPS for m in (1, *self.multipliers)):
            raise ValueError(f"width must be a multiple of {GROUPS} (GroupNorm), got {self.width}")
        fold = self.patch * 2 ** (len(self.multipliers) - 1)
        if self.size % fold:
            raise ValueError(
                f"size must be a multiple of {fold} (patch {self.patch}, halved "
                f"{len(self.multipliers) - 1} times), got {self.size}: fewer multipliers, or pad "
                f"or cut: to {_nearest(self.size, fold)}"
            )


GROUPS = 8
MOST = 65_536  # of any size: beyond, a file is damaged
UNETS = {
    "book": UNetConfig(),
    "full": UNetConfig(patch=1, width=64, multipliers=(1, 2, 4), embedding=256),
}


class UNet(nn.Module):
    """eps_hat(x_t, t, y) for square images. Ho et al. 2020, section 4 and appendix B.

    Going down, each level keeps its features for the way up (skips); at the lowest level each
    position sees all others (attention); t and y steer every block by a scale and a shift of each
    channel (Dhariwal and Nichol 2021, "adaptive group normalisation").
    """

    def __init__(self, config: UNetConfig = UNetConfig()) -> None:
        super().__init__()
        if not (config.size and config.channels):
            raise ValueError(
                f"size and channels must be at least 1, got {config.size} and {config.channels}"
            )
        self.config = config
        folded = config.channels * config.patch**2
        widths = [config.width * m for m in config.multipliers]
        self.embedding = Embedding(config.width, config.embedding, config.classes)
        self.stem = nn.Conv2d(folded, config.width, 3, padding=1)
        kept, now = [config.width], config.width  # channels of the skips, and of h
        self.down = nn.ModuleList()
        for level, out in enumerate(widths):
            if level:
                self.down.append(Halve(now))
                kept.append(now)
            for _ in range(config.blocks):
                self.down.append(ResBlock(now, out, config.embedding))
                now = out
                kept.append(now)
        self.middle = nn.ModuleList(
            [
                ResBlock(now, now, config.embedding),
                Attention(now),
                ResBlock(now, now, config.embedding),
            ]
        )
        self.up = nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(config.blocks + 1):
                self.up.append(ResBlock(now + kept.pop(), out, config.embedding))
                now = out
            if level:
                self.up.append(Double(now))
        self.norm = nn.GroupNorm(GROUPS, now)
        self.head = _zero(nn.Conv2d(now, folded, 3, padding=1))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x_t: [B, channels, size, size]; t: int64 or real [B] in (0, T]; y: int64 [B], or None
        where no label is asked for. Returns eps_hat, with the shape and dtype of x_t."""
        self._check(x_t, t, y)
        e = self.embedding(t, y)
        h = self.stem(F.pixel_unshuffle(x_t, self.config.patch).to(self.stem.weight.dtype))
        skips = [h]
        for layer in self.down:
            h = layer(h, e)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, e)
        for layer in self.up:
            if isinstance(layer, ResBlock):
                h = torch.cat([h, skips.pop()], dim=1)
            h = layer(h, e)
        h = self.head(F.silu(self.norm(h)))
        return F.pixel_shuffle(h, self.config.patch).to(x_t.dtype)

    def _check(self, x_t: Tensor, t: Tensor, y: Tensor | None) -> None:
        c = self.config
        check_samples(x_t=x_t)
        if x_t.ndim != 4 or x_t.shape[1:] != (c.channels, c.size, c.size):
            raise ValueError(
                f"x_t must be [B, {c.channels}, {c.size}, {c.size}], got {list(x_t.shape)}"
            )
        if t.shape != x_t.shape[:1]:
            raise ValueError(f"t must be [B] = [{x_t.shape[0]}], got {list(t.shape)}")
        if y is None:
            return
        if not c.classes:
            raise ValueError("y was given, but this network knows no classes: leave y out")
        check_labels(y, x_t.shape[0], c.classes + 1)


class Embedding(nn.Module):
    """t by its sines and cosines (def-time-features), and y: a vector [B, out] for every block."""

    def __init__(self, width: int, out: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.octaves = [10_000 ** (-k / (width // 2)) for k in range(width // 2)]
        self.time = nn.Sequential(
            nn.Linear(2 * len(self.octaves), out), nn.SiLU(), nn.Linear(out, out)
        )
        self.label = nn.Embedding(classes + 1, out) if classes else None

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        kept = next(self.parameters()).dtype
        # Time in float32 at least: bfloat16 holds 8 bits of t, too few for 1000 steps.
        dtype = torch.promote_types(kept, torch.float32)
        angle = t.to(dtype)[:, None] * torch.tensor(self.octaves, dtype=dtype, device=t.device)
        e = self.time(torch.cat([angle.sin(), angle.cos()], dim=1).to(kept))
        if self.label is not None:
            e = e + self.label(torch.full_like(t, self.classes).long() if y is None else y)
        return F.silu(e)


class ResBlock(nn.Module):
    """x + f(x) (eq-residual): two 3 x 3 convolutions; before the second, the normalised features
    are scaled and shifted by t and y (eq-steer)."""

    def __init__(self, n_in: int, n_out: int, embedding: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(GROUPS, n_in)
        self.conv_1 = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.steer = nn.Linear(embedding, 2 * n_out)
        self.norm_2 = nn.GroupNorm(GROUPS, n_out, affine=False)
        self.conv_2 = _zero(nn.Conv2d(n_out, n_out, 3, padding=1))
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.steer(e)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm_2(h), 1 + scale)
        return self.skip(x) + self.conv_2(F.silu(h))


class Attention(nn.Module):
    """Each position asks all others (eq-attention), one head. Vaswani et al. 2017.

    Written out: on a CPU, at 49 positions, this is faster to differentiate than torch's own.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = _zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # each [B, C, positions]
        weights = (q.mT @ k / math.sqrt(q.shape[1])).softmax(dim=2)  # [B, asking, asked]
        return x + self.out((v @ weights.mT).reshape(x.shape))


class Halve(nn.Module):
    """Half the rows and columns, by a convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.conv(x)


class Double(nn.Module):
    """Twice the rows and columns: each value four times, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _nearest(size: int, fold: int) -> str:
    below = size // fold * fold
    return f"{below} or {below + fold}" if below else f"{fold}"


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Start at 0, so that a block starts as the identity and the network as eps_hat = 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
