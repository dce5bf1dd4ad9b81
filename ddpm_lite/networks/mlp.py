"""A small network for points: x_t and t in, eps_hat out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..checks import check_samples


class MLP(nn.Module):
    """eps_hat(x_t, t) for points on the line ([B] or [B, 1]) or in D dimensions ([B, D]).

    dim: D; width: units of each hidden layer; depth: hidden layers; T: the last time step, which
    scales the time features. t: int64 or real [B] in (0, T]. Returns the shape and dtype of x_t,
    whatever the dtype of the weights.
    """

    def __init__(
        self, dim: int = 1, width: int = 128, depth: int = 3, T: int = 1000, frequencies: int = 8
    ) -> None:
        super().__init__()
        sizes = {"dim": dim, "width": width, "depth": depth, "T": T, "frequencies": frequencies}
        for name, value in sizes.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
        self.dim, self.T = dim, T
        self.octaves = [math.pi / 2 * 2**k for k in range(frequencies)]
        units = [dim + 2 * frequencies] + [width] * depth
        hidden = [
            layer
            for n_in, n_out in zip(units, units[1:], strict=False)
            for layer in (nn.Linear(n_in, n_out), nn.SiLU())
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dim))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x_t: [B] (if dim = 1) or [B, dim]; t: [B]; y is accepted and ignored. Returns eps_hat."""
        x = x_t[:, None] if x_t.ndim == 1 else x_t
        if x.ndim != 2 or x.shape[1] != self.dim or t.shape != x_t.shape[:1]:
            raise ValueError(
                f"x_t must be [B, {self.dim}] and t [B], got {list(x_t.shape)} and {list(t.shape)}"
            )
        check_samples(x_t=x_t)
        # Time in float32 at least: bfloat16 holds 8 bits of t, too few for 1000 steps.
        dtype = torch.promote_types(x.dtype, torch.float32)
        octaves = torch.tensor(self.octaves, dtype=dtype, device=x.device)
        angle = (t.to(x.device, dtype) / self.T)[:, None] * octaves
        features = torch.cat([x.to(dtype), angle.sin(), angle.cos()], dim=1)
        return self.layers(features.to(next(self.parameters()))).to(x_t).reshape(x_t.shape)
