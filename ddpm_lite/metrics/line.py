"""How far points on the line are from a law: W1, Kolmogorov-Smirnov, quantiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def w1(a: Tensor, b: Tensor) -> float:
    """Wasserstein-1 distance between two sets of points [n], [m]: mean distance moved (def-w1)."""
    from scipy import stats

    return float(stats.wasserstein_distance(_points("a", a).numpy(), _points("b", b).numpy()))


def w1_density(x: Tensor, p: Tensor, q: Tensor) -> float:
    """Wasserstein-1 between two densities [n] on an even grid: area between CDFs (eq-w1-cdf)."""
    x, p, q = _points("x", x), _points("p", p), _points("q", q)
    if not len(x) == len(p) == len(q) >= 2:
        raise ValueError(
            f"p and q must have one value per point of x, [{len(x)}], got [{len(p)}] and [{len(q)}]"
        )
    step = (x[-1] - x[0]) / (len(x) - 1)
    if not step > 0 or not torch.allclose(x.diff(), step, rtol=1e-6, atol=0):
        raise ValueError("x must be an even, rising grid: make it with density.grid()")
    return float(((p - q).cumsum(0) * step).abs().sum() * step)


def ks(a: Tensor, cdf: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Kolmogorov-Smirnov: the largest gap between the samples' CDF and ``cdf``, and its p-value."""
    from scipy import stats

    result = stats.kstest(_points("a", a).numpy(), cdf)
    return float(result.statistic), float(result.pvalue)


def mixture_cdf(mixture) -> Callable[[np.ndarray], np.ndarray]:
    """The distribution function of a `GaussianMixture` on the line."""
    if mixture.means.ndim != 1:
        raise ValueError(f"mixture must be on the line, got {mixture.means.shape[1]} dimensions")
    weights, means, stds = (v.numpy() for v in (mixture.weights, mixture.means, mixture.stds))

    def cdf(x: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        return (weights * ndtr((np.asarray(x)[..., None] - means) / stds)).sum(-1)

    return cdf


def quantiles(cdf: Callable[[np.ndarray], np.ndarray], n: int, reach: float = 100.0) -> Tensor:
    """The n points where ``cdf`` passes (i + 1/2) / n: the most even sample of a law, float64 [n].

    Rising; by bisection in [-reach, reach]. Two laws' quantiles have their W1 up to about 1 / n.
    """
    if n < 1 or n != int(n):
        raise ValueError(f"n must be a whole number of at least 1, got {n}")
    level = (np.arange(n) + 0.5) / n
    if not (cdf(np.array([-reach])) < level[0] and cdf(np.array([reach])) >= level[-1]):
        raise ValueError(f"the quantiles must lie in [-reach, reach], reach = {reach:g}: raise it")
    low, high = np.full(n, -reach), np.full(n, reach)
    for _ in range(64):  # halvings: below the spacing of float64
        middle = (low + high) / 2
        below = cdf(middle) < level
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return torch.from_numpy((low + high) / 2)


def _points(name: str, a: Tensor) -> Tensor:
    """a [n] in float64 on the CPU, checked."""
    if not isinstance(a, Tensor) or a.ndim != 1 or len(a) == 0 or a.is_complex():
        got = f"{a.dtype} {list(a.shape)}" if isinstance(a, Tensor) else type(a).__name__
        raise ValueError(f"{name} must be a tensor of points [n] with n >= 1, got {got}")
    if not torch.isfinite(a).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity: look at what made it")
    return a.detach().cpu().double()
