"""How far samples are from the truth, on the line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor


def w1(a: Tensor, b: Tensor) -> float:
    """Wasserstein-1 distance between two sets of points [n], [m]: mean distance moved (def-w1)."""
    _check(a=a, b=b)
    return float(stats.wasserstein_distance(a.detach().numpy(), b.detach().numpy()))


def w1_density(x: Tensor, p: Tensor, q: Tensor) -> float:
    """Wasserstein-1 between two densities [n] on an even grid: area between CDFs (eq-w1-cdf)."""
    _check(x=x, p=p, q=q)
    if not len(x) == len(p) == len(q) >= 2:
        raise ValueError(
            f"p and q must have one value per point of x, [{len(x)}], got [{len(p)}] and [{len(q)}]"
        )
    step = (x[-1] - x[0]) / (len(x) - 1)
    return float(((p - q).cumsum(0) * step).abs().sum() * step)


def ks(a: Tensor, cdf: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Kolmogorov-Smirnov: the largest gap between the samples' CDF and ``cdf``, and its p-value."""
    _check(a=a)
    result = stats.kstest(a.detach().numpy(), cdf)
    return float(result.statistic), float(result.pvalue)


def mixture_cdf(mixture) -> Callable[[np.ndarray], np.ndarray]:
    """The distribution function of a `GaussianMixture` on the line."""
    if mixture.means.ndim != 1:
        raise ValueError(f"mixture must be on the line, got {mixture.means.shape[1]} dimensions")
    weights, means, stds = (v.numpy() for v in (mixture.weights, mixture.means, mixture.stds))
    return lambda x: (weights * stats.norm.cdf(np.asarray(x)[..., None], means, stds)).sum(-1)


def _check(**samples: Tensor) -> None:
    for name, a in samples.items():
        if not isinstance(a, Tensor) or a.ndim != 1 or len(a) == 0:
            got = list(a.shape) if isinstance(a, Tensor) else type(a).__name__
            raise ValueError(f"{name} must be a tensor of points [n] with n >= 1, got {got}")
        if not torch.isfinite(a).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity: look at what made it")
