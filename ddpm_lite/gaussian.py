"""Gaussians with independent coordinates: log-density, KL, entropy, product.

Every function works elementwise on numbers or tensors that broadcast: ``mean`` and ``var`` are
the mean and the variance of one coordinate. For a vector, sum over its coordinates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Number = Tensor | float


def log_density(x: Number, mean: Number, var: Number) -> Tensor:
    """log N(x; mean, var) (def-gaussian), in nats. var > 0."""
    x, mean, var = _tensors(x, mean, var)
    _positive(var=var)
    return -0.5 * ((x - mean) ** 2 / var + (2 * math.pi * var).log())


def kl(mean_p: Number, var_p: Number, mean_q: Number, var_q: Number) -> Tensor:
    """KL(N(mean_p, var_p) || N(mean_q, var_q)) in nats (eq-gaussian-kl). Variances > 0."""
    mean_p, var_p, mean_q, var_q = _tensors(mean_p, var_p, mean_q, var_q)
    _positive(var_p=var_p, var_q=var_q)
    ratio = var_p / var_q
    return 0.5 * (ratio - 1 - ratio.log() + (mean_p - mean_q) ** 2 / var_q)


def entropy(var: Number) -> Tensor:
    """Differential entropy of N(., var), in nats. var > 0."""
    (var,) = _tensors(var)
    _positive(var=var)
    return 0.5 * (2 * math.pi * math.e * var).log()


def product(mean_a: Number, var_a: Number, mean_b: Number, var_b: Number) -> tuple[Tensor, Tensor]:
    """Mean and variance of the density proportional to N(x; a) N(x; b) (eq-gaussian-product).

    Precisions add; the mean is the precision-weighted mean. Variances > 0.
    """
    mean_a, var_a, mean_b, var_b = _tensors(mean_a, var_a, mean_b, var_b)
    _positive(var_a=var_a, var_b=var_b)
    precision = 1 / var_a + 1 / var_b
    return (mean_a / var_a + mean_b / var_b) / precision, 1 / precision


def _tensors(*values: Number) -> list[Tensor]:
    """Numbers become float64, tensors keep their dtype."""
    return [v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64) for v in values]


def _positive(**variances: Tensor) -> None:
    for name, var in variances.items():
        if not (var > 0).all():
            raise ValueError(f"{name} must be positive (a variance), got {var.min().item():g}")
