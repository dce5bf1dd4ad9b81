"""Gaussians: affine map, sum, product, marginal, conditional, KL and entropy.

The functions are for independent coordinates: they work elementwise on numbers or tensors that
broadcast, where ``mean`` and ``var`` belong to one coordinate. (Sum log-densities, KL and entropies
over the coordinates of a vector.) `Gaussian` is a law of vectors, with any covariance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .checks import check_real, readable

Number = Tensor | float


def log_density(x: Number, mean: Number, var: Number) -> Tensor:
    """log N(x; mean, var) (def-gaussian), in nats. var > 0."""
    x, mean, var = _tensors(x, mean, var)
    _positive(var=var)
    return -0.5 * ((x - mean) ** 2 / var + (2 * math.pi * var).log())


def affine(mean: Number, var: Number, a: Number, b: Number = 0.0) -> tuple[Tensor, Tensor]:
    """Mean and variance of a X + b, X ~ N(mean, var) (eq-gaussian-affine). var > 0, a not 0."""
    mean, var, a, b = _tensors(mean, var, a, b)
    _positive(var=var)
    if readable(a) and (a == 0).any():
        raise ValueError("a must not be 0: the map would send every x to b, with variance 0")
    return a * mean + b, a**2 * var


def add(mean_a: Number, var_a: Number, mean_b: Number, var_b: Number) -> tuple[Tensor, Tensor]:
    """Mean and variance of X + Y, for independent X and Y (eq-gaussian-sum). Variances > 0."""
    mean_a, var_a, mean_b, var_b = _tensors(mean_a, var_a, mean_b, var_b)
    _positive(var_a=var_a, var_b=var_b)
    return mean_a + mean_b, var_a + var_b


def product(mean_a: Number, var_a: Number, mean_b: Number, var_b: Number) -> tuple[Tensor, Tensor]:
    """Mean and variance of the density proportional to N(x; a) N(x; b) (eq-gaussian-product).

    Precisions add; the mean is the precision-weighted mean. Variances > 0.
    """
    mean_a, var_a, mean_b, var_b = _tensors(mean_a, var_a, mean_b, var_b)
    _positive(var_a=var_a, var_b=var_b)
    precision = 1 / var_a + 1 / var_b
    return (mean_a / var_a + mean_b / var_b) / precision, 1 / precision


def kl(mean_p: Number, var_p: Number, mean_q: Number, var_q: Number) -> Tensor:
    """KL(N(mean_p, var_p) || N(mean_q, var_q)) in nats (eq-gaussian-kl). Variances > 0."""
    mean_p, var_p, mean_q, var_q = _tensors(mean_p, var_p, mean_q, var_q)
    _positive(var_p=var_p, var_q=var_q)
    ratio = var_p / var_q
    return 0.5 * (ratio - 1 - ratio.log() + (mean_p - mean_q) ** 2 / var_q)


def entropy(var: Number) -> Tensor:
    """Differential entropy of N(., var) (eq-gaussian-entropy), in nats. var > 0."""
    (var,) = _tensors(var)
    _positive(var=var)
    return 0.5 * (2 * math.pi * math.e * var).log()


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, cov) on R^D, or a batch of such laws. What returns a law returns a new Gaussian.

    mean: [*B, D]; cov: [*B, D, D], symmetric and positive definite; batches broadcast, and lists
    and integers become float64. ``scale`` is the lower triangular L with L L^T = cov, so
    x = mean + L eps with eps ~ N(0, I). Raises ValueError where a shape is wrong or cov is not a
    covariance, TypeError in half precision.
    """

    mean: Tensor
    cov: Tensor
    scale: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mean, cov = _tensors(self.mean, self.cov)
        D = mean.shape[-1] if mean.ndim else 0
        if D == 0 or cov.ndim < 2 or cov.shape[-2:] != (D, D):
            raise ValueError(
                "mean must have shape [*B, D] and cov [*B, D, D], D >= 1, got "
                f"{list(mean.shape)} and {list(cov.shape)} (variances alone: Gaussian.diagonal)"
            )
        batch = torch.broadcast_shapes(mean.shape[:-1], cov.shape[:-2])
        mean, cov = (v.double() if _whole(v) else v for v in (mean, cov))
        check_real(mean=mean, cov=cov)
        dtype = torch.promote_types(mean.dtype, cov.dtype)
        mean, cov = mean.to(dtype).expand(*batch, D), cov.to(dtype).expand(*batch, D, D)
        scale = _cholesky(mean, cov)
        for name, value in {"mean": mean, "cov": (cov + cov.mT) / 2, "scale": scale}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def diagonal(cls, mean: Number, var: Number) -> Gaussian:
        """Independent coordinates: mean and var, [*B, D] or what broadcasts to it. var > 0."""
        means, variances = torch.broadcast_tensors(*torch.atleast_1d(*_tensors(mean, var)))
        _positive(var=variances)
        return cls(means, torch.diag_embed(variances))

    @property
    def D(self) -> int:
        """How many coordinates."""
        return self.mean.shape[-1]

    def log_density(self, x: Tensor) -> Tensor:
        """log N(x; mean, cov) (def-gaussian-vector) in nats, [*B]. x: [*B, D]."""
        x = self._vector("x", x, self.D)
        constant = self.D * math.log(2 * math.pi) + self._log_det()
        return -0.5 * (self._square(x - self.mean) + constant)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n points, [n, *B, D]."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        eps = torch.randn((n, *self.mean.shape), generator=generator, dtype=self.mean.dtype)
        return self.mean + _times(self.scale, eps)

    def affine(self, M: Tensor, b: Number = 0.0) -> Gaussian:
        """The law of M x + b (eq-gaussian-affine-vectors). M: [K, D], rank K; b: [K] or number."""
        M = self._map(M)
        b = self._vector("b", b, M.shape[-2]) if isinstance(b, Tensor) and b.ndim else b
        return Gaussian(_times(M, self.mean) + b, M @ self.cov @ M.mT)

    def add(self, other: Gaussian) -> Gaussian:
        """The law of x + y, for y ~ other independent of x: means and covariances add."""
        self._same(other)
        return Gaussian(self.mean + other.mean, self.cov + other.cov)

    def product(self, other: Gaussian) -> Gaussian:
        """The law with density p(x) q(x), up to a factor (eq-gaussian-product-vectors)."""
        self._same(other)
        mine, theirs = torch.cholesky_inverse(self.scale), torch.cholesky_inverse(other.scale)
        cov = torch.cholesky_inverse(torch.linalg.cholesky(mine + theirs))
        return Gaussian(_times(cov, _times(mine, self.mean) + _times(theirs, other.mean)), cov)

    def joint(self, M: Tensor, noise: Gaussian) -> Gaussian:
        """The law of x and y = M x + e side by side, [D + K], for e ~ noise independent of x.

        M: [K, D], of any rank; noise: a law of K coordinates (its mean may be an offset).
        """
        M = self._map(M)
        if M.shape[-2] != noise.D:
            raise ValueError(f"noise must have {M.shape[-2]} coordinates like M x, got {noise.D}")
        across = M @ self.cov
        top = torch.cat([self.cov, across.mT], -1)
        bottom = torch.cat([across, across @ M.mT + noise.cov], -1)
        mean = torch.cat([self.mean, _times(M, self.mean) + noise.mean], -1)
        return Gaussian(mean, torch.cat([top, bottom], -2))

    def marginal(self, keep: Sequence[int]) -> Gaussian:
        """The law of the coordinates ``keep``, in that order (eq-gaussian-marginal)."""
        order = self._coordinates("keep", keep)
        return Gaussian(self.mean[..., order], self.cov[..., order, :][..., order])

    def conditional(self, given: Sequence[int], value: Tensor) -> Gaussian:
        """The law of the other coordinates when the K ``given`` ones have ``value`` [*B, K].

        With the given coordinates first in x = mean + L eps, value fixes the first K of eps:
        the result is (eq-gaussian-conditional).
        """
        given = self._coordinates("given", given)
        K, value = len(given), self._vector("value", value, len(given))
        rest = [i for i in range(self.D) if i not in given]
        if not rest:
            raise ValueError(f"given must leave a coordinate, got all of 0..{self.D - 1}")
        ordered = self.marginal([*given, *rest])
        mean, L = ordered.mean, ordered.scale
        eps = _solve(L[..., :K, :K], value - mean[..., :K])
        mean = mean[..., K:] + _times(L[..., K:, :K], eps)
        return Gaussian(mean, L[..., K:, K:] @ L[..., K:, K:].mT)

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other) (eq-gaussian-kl-vectors) in nats, [*B]; no term is negative."""
        self._same(other)
        ratio = torch.linalg.solve_triangular(other.scale, self.scale, upper=False)
        square = ratio.diagonal(dim1=-2, dim2=-1) ** 2
        stretch = (square - 1 - square.log()).sum(-1) + ratio.tril(-1).square().sum((-2, -1))
        return 0.5 * (stretch + other._square(self.mean - other.mean))

    def entropy(self) -> Tensor:
        """Differential entropy (eq-gaussian-entropy) in nats, [*B]."""
        return 0.5 * (self.D * math.log(2 * math.pi * math.e) + self._log_det())

    def _log_det(self) -> Tensor:
        return 2 * self.scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def _square(self, d: Tensor) -> Tensor:
        """d^T cov^-1 d, as the squared length of L^-1 d."""
        return _solve(self.scale, d).square().sum(-1)

    def _like(self, value: Number) -> Tensor:
        return _tensors(value)[0].to(self.mean)

    def _vector(self, name: str, value: Tensor, size: int) -> Tensor:
        value = self._like(value)
        if value.shape[-1:] != (size,):
            raise ValueError(f"{name} must have shape [*B, {size}], got {list(value.shape)}")
        return value

    def _map(self, M: Tensor) -> Tensor:
        M = self._like(M)
        if M.ndim < 2 or M.shape[-1] != self.D:
            raise ValueError(f"M must have shape [K, {self.D}], got {list(M.shape)}")
        return M

    def _same(self, other: Gaussian) -> None:
        if self.D != other.D:
            raise ValueError(f"both must have the same D, got {self.D} and {other.D}")

    def _coordinates(self, name: str, indices: Sequence[int]) -> list[int]:
        found = [int(i) for i in indices]
        if not found or len(set(found)) < len(found) or not set(found) <= set(range(self.D)):
            raise ValueError(
                f"{name} must list different coordinates out of 0..{self.D - 1}, got {found}"
            )
        return found


def _cholesky(mean: Tensor, cov: Tensor) -> Tensor:
    """The lower triangular L with L L^T = cov; ValueError if cov is not a covariance."""
    if not (mean.isfinite().all() and cov.isfinite().all()):
        raise ValueError("mean and cov must be finite, got NaN or infinity")
    gap, size = (cov - cov.mT).abs(), cov.abs().amax((-2, -1), keepdim=True)
    if (gap > 1e-5 * size).any():
        raise ValueError(f"cov must be symmetric, got entries that differ by {gap.max().item():g}")
    L, failed = torch.linalg.cholesky_ex((cov + cov.mT) / 2)
    # What earlier coordinates leave open of each variance; below rounding it is 0.
    left = L.diagonal(dim1=-2, dim2=-1) ** 2 / cov.diagonal(dim1=-2, dim2=-1)
    if failed.any() or (left < 4 * cov.shape[-1] * torch.finfo(cov.dtype).eps).any():
        raise ValueError(
            "cov must be positive definite, got the eigenvalue "
            f"{torch.linalg.eigvalsh(cov).min().item():.3g} (if about 0, a combination of "
            "coordinates never varies: leave one of them out)"
        )
    return L


def _times(M: Tensor, x: Tensor) -> Tensor:
    """M x for vectors x [..., D]."""
    return (M @ x[..., None])[..., 0]


def _solve(L: Tensor, x: Tensor) -> Tensor:
    """L^-1 x for vectors x [..., D] and lower triangular L [..., D, D]."""
    if L.ndim == 2:  # one law: all vectors as columns of one matrix, instead of L for each
        columns = x.reshape(-1, L.shape[-1]).mT
        return torch.linalg.solve_triangular(L, columns, upper=False).mT.reshape(x.shape)
    return torch.linalg.solve_triangular(L, x[..., None], upper=False)[..., 0]


def _tensors(*values: Number) -> list[Tensor]:
    """Numbers and lists become float64, tensors keep their dtype."""
    return [v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64) for v in values]


def _whole(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex())


def _positive(**variances: Tensor) -> None:
    """Raise ValueError for a variance of 0 or below, or NaN, where it is `readable`."""
    for name, var in variances.items():
        if readable(var) and not (var > 0).all():
            raise ValueError(f"{name} must be positive (a variance), got {var.min().item():g}")
