"""The case where all is exact: a Gaussian mixture, its denoiser and its score."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .checks import check_samples
from .prediction import Model, predict_eps, score
from .schedule import NoiseSchedule, alpha_bar_like

LARGE = 1e150  # its square is still a float64


class GaussianMixture:
    """sum_k w_k N(m_k, s_k^2 I): diffusion turns it into another one (eq-mixture-marginal).

    weights: [K], positive, normalised here to sum 1; means: [K] for a mixture on the line (samples
    [n]) or [K, D] in D dimensions (samples [n, D]); stds: [K], positive. Kept in float64; results
    have the dtype of x. Raises ValueError where a shape or a sign is wrong.
    """

    def __init__(self, weights: object, means: object, stds: object) -> None:
        self.weights, self.means, self.stds = (
            torch.as_tensor(v, dtype=torch.float64).clone() for v in (weights, means, stds)
        )
        components = self.weights.shape
        if len(components) != 1 or self.means.ndim not in (1, 2) or self.weights.numel() == 0:
            raise ValueError(
                "weights must have shape [K] and means [K] or [K, D], with K >= 1, got "
                f"{list(components)} and {list(self.means.shape)}"
            )
        if self.stds.shape != components or self.means.shape[:1] != components:
            raise ValueError(
                f"weights, means and stds must have one entry per component, got "
                f"{len(self.weights)}, {len(self.means)} and {list(self.stds.shape)}"
            )
        for name, values in {"weights": self.weights, "stds": self.stds}.items():
            if not ((values > 0) & (values < math.inf)).all():
                raise ValueError(f"{name} must be positive and finite, got {values.tolist()}")
        if not self.means.isfinite().all():
            raise ValueError(f"means must be finite, got {self.means.tolist()}")
        if self.means.abs().max() > LARGE or self.stds.max() > LARGE or self.stds.min() < 1 / LARGE:
            raise ValueError(
                f"means must lie within {LARGE:g} of 0 and stds in {1 / LARGE:g}..{LARGE:g}, where "
                f"float64 holds their squares, got {self.means.tolist()} and {self.stds.tolist()}"
            )
        shares = self.weights / self.weights.max()  # whose sum is finite
        if not (shares > 0).all():
            raise ValueError(f"weights must be of like sizes, got {self.weights.tolist()}")
        self.weights = shares / shares.sum()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n points: float64 [n] or [n, D]."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        mean = self.means[k]
        z = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        return mean + self._per_sample(self.stds[k]) * z

    def log_prob(self, x: Tensor) -> Tensor:
        """log-density at x: [B] or [B, D] -> [B], in nats."""
        self._check(x)
        means, stds = self.means.to(x.device), self.stds.to(x.device)
        return self._log_joint(x.double(), means, stds**2).logsumexp(-1).to(x.dtype)

    def diffused(self, schedule: NoiseSchedule, t: float) -> GaussianMixture:
        """The law of x_t when x_0 has this law (eq-mixture-marginal). t: one number in [0, T]."""
        alpha_bar = schedule.alpha_bar_at(t)
        if alpha_bar.numel() != 1:
            raise ValueError(
                f"t must be one number, got {list(alpha_bar.shape)}: call it for each t"
            )
        stds = (alpha_bar * self.stds**2 + 1 - alpha_bar).sqrt()
        return GaussianMixture(self.weights, alpha_bar.sqrt() * self.means, stds)

    def x_0(self, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t], the best guess in the mean square (eq-exact-x0).

        t: int64 [B] in 1..T, or real [B] in (0, T].
        """
        self._check(x_t, "x_t")
        x = x_t.double()
        alpha_bar = alpha_bar_like(schedule, t, x).reshape(-1, 1)  # against [K]
        variance = alpha_bar * self.stds.to(x.device) ** 2 + 1 - alpha_bar
        signal = self._per_sample(alpha_bar.sqrt())
        responsibility = self._log_joint(x, signal * self.means.to(x.device), variance).softmax(-1)
        gain = self._per_sample(alpha_bar.sqrt() * self.stds.to(x.device) ** 2 / variance)
        means = self.means.to(x.device)
        given_k = means + gain * (x.unsqueeze(1) - signal * means)  # E[x_0 | x_t, component k]
        return (self._per_sample(responsibility) * given_k).sum(1).to(x_t.dtype)

    def eps(self, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> Tensor:
        """E[eps | x_t], what a perfect network returns (eq-exact-eps). t as in `x_0`."""
        self._check(x_t, "x_t")
        x, x_0 = x_t.double(), self.x_0(schedule, x_t.double(), t)
        return predict_eps(schedule, x, t, x_0).to(x_t.dtype)

    def score(self, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> Tensor:
        """The gradient of log q(x_t) with respect to x_t (eq-score-eps). t as in `x_0`."""
        self._check(x_t, "x_t")
        return score(schedule, self.eps(schedule, x_t.double(), t), t).to(x_t.dtype)

    def denoiser(self, schedule: NoiseSchedule) -> Model:
        """The exact eps as a model(x_t, t), for every sampler and figure."""
        return lambda x_t, t: self.eps(schedule, x_t, t)

    def _log_joint(self, x: Tensor, means: Tensor, variances: Tensor) -> Tensor:
        """log w_k N(x; m_k, v_k) for every sample and component: [B, K]."""
        squares = (x.unsqueeze(1) - means) ** 2
        dim = 1 if self.means.ndim == 1 else self.means.shape[1]
        squares = squares if self.means.ndim == 1 else squares.sum(-1)
        log_norm = 0.5 * dim * (2 * math.pi * variances).log()
        return self.weights.to(x.device).log() - 0.5 * squares / variances - log_norm

    def _per_sample(self, values: Tensor) -> Tensor:
        """Add the axis D to a number per sample, if the samples have one."""
        return values if self.means.ndim == 1 else values.unsqueeze(-1)

    def _check(self, x: Tensor, name: str = "x") -> None:
        check_samples(**{name: x})
        if x.shape[1:] != self.means.shape[1:] or x.ndim == 0:
            event = ", ".join(["B", *map(str, self.means.shape[1:])])
            raise ValueError(f"{name} must have shape [{event}], got {list(x.shape)}: reshape it")

    def __repr__(self) -> str:
        return (
            f"GaussianMixture(weights={self.weights.tolist()}, means={self.means.tolist()}, "
            f"stds={self.stds.tolist()})"
        )


def two_modes(weight: float = 0.5) -> GaussianMixture:
    """The book's mixture on the line: weight N(-2, 0.5^2) + (1 - weight) N(2, 0.5^2).

    0.5 is a standard deviation. weight in (0, 1); 0.2 makes the unequal mixture.
    """
    if not 0 < weight < 1:
        raise ValueError(f"weight must lie strictly between 0 and 1, got {weight}")
    return GaussianMixture([weight, 1 - weight], [-2.0, 2.0], [0.5, 0.5])
