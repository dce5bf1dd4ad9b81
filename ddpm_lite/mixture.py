"""The case where all is exact: a Gaussian mixture, its denoiser, its score and its posterior."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .checks import check_labels, check_samples
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
        log_joint, given_k, _ = self._given(schedule, x_t, t)
        return (self._per_sample(log_joint.softmax(-1)) * given_k).sum(1).to(x_t.dtype)

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

    def log_likelihood(
        self, schedule: NoiseSchedule, x_t: Tensor, t: Tensor, A: Tensor, y: Tensor, std: float
    ) -> Tensor:
        """log p(y | x_t) of a measurement y = A x_0 + std n: [B], exact (eq-mixture-likelihood).

        A: [M, D], D = 1 on the line; y: [M]; std > 0; t as in `x_0`. Given x_t and its component,
        x_0 is normal, and so is y. `guidance.guided` by it is the exact posterior's model.
        """
        A, y = self._measurement(A, y, std)
        log_joint, given_k, spread = self._given(schedule, x_t, t)
        A, y, given_k = A.to(x_t.device), y.to(x_t.device), given_k.reshape(*spread.shape, -1)
        log_seen = _log_measured(A, y, std, given_k, spread)
        return (log_joint.log_softmax(-1) + log_seen).logsumexp(-1).to(x_t.dtype)

    def sample_given(
        self, A: Tensor, y: Tensor, std: float, n: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw n points of p(x_0 | y), the exact posterior: float64 [n] or [n, D].

        Arguments as `log_likelihood`. The component is drawn by its posterior weight; then a point
        of it, moved to agree with y.
        """
        A, y = self._measurement(A, y, std)
        means, spread = self.means.reshape(1, len(self.weights), -1), (self.stds**2)[None]
        share = (self.weights.log() + _log_measured(A, y, std, means, spread)[0]).softmax(-1)
        k = torch.multinomial(share, n, replacement=True, generator=generator)
        z = torch.randn((n, A.shape[1] + len(A)), generator=generator, dtype=torch.float64)
        x = means[0, k] + self.stds[k][:, None] * z[:, : A.shape[1]]
        miss = y - x @ A.T - std * z[:, A.shape[1] :]
        values, axes = torch.linalg.eigh(A @ A.T)
        scale = spread[0, k][:, None]
        moved = x + scale * (miss @ axes / (scale * values + std**2) @ axes.T) @ A
        return moved.reshape(self.means[k].shape)

    def _given(
        self, schedule: NoiseSchedule, x_t: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of each component: log w_k q(x_t | k), E[x_0 | x_t, k] [B, K, *D], Var[x_0 | x_t, k]."""
        self._check(x_t, "x_t")
        x = x_t.double()
        alpha_bar = alpha_bar_like(schedule, t, x).reshape(-1, 1)  # against [K]
        variance = alpha_bar * self.stds.to(x.device) ** 2 + 1 - alpha_bar
        signal = self._per_sample(alpha_bar.sqrt())
        means = self.means.to(x.device)
        log_joint = self._log_joint(x, signal * means, variance)
        gain = self._per_sample(alpha_bar.sqrt() * self.stds.to(x.device) ** 2 / variance)
        given_k = means + gain * (x.unsqueeze(1) - signal * means)
        return log_joint, given_k, self.stds.to(x.device) ** 2 * (1 - alpha_bar) / variance

    def _measurement(self, A: Tensor, y: Tensor, std: float) -> tuple[Tensor, Tensor]:
        """A [M, D] and y [M] in float64; ValueError where they are no measurement of this law."""
        dim = self.means[0].numel()
        if not isinstance(A, Tensor) or A.ndim != 2 or A.shape[1] != dim:
            got = list(A.shape) if isinstance(A, Tensor) else type(A).__name__
            raise ValueError(f"A must be a matrix [M, {dim}], got {got}")
        if not isinstance(y, Tensor) or y.shape != A.shape[:1]:
            got = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"y must be [M] = [{len(A)}], the rows of A, got {got}")
        if not 0 < std < math.inf:
            raise ValueError(f"std must be positive and finite, got {std}")
        return A.double(), y.double()

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


class Classes:
    """p(x) = sum_y p(y) p(x | y), with a mixture for each class y: where guidance is exact.

    classes: C mixtures of one dimension; prior: p(y), positive, [C] (None: all alike). ``whole`` is
    the mixture of all. Raises ValueError where there is no class, or they differ in dimension.
    """

    def __init__(self, classes: Sequence[GaussianMixture], prior: object = None) -> None:
        if not classes or any(c.means.shape[1:] != classes[0].means.shape[1:] for c in classes):
            raise ValueError("classes must be one mixture or more, all of one dimension")
        p = torch.as_tensor([1.0] * len(classes) if prior is None else prior, dtype=torch.float64)
        if p.shape != (len(classes),) or not ((p > 0) & (p < math.inf)).all():
            raise ValueError(f"prior must be [{len(classes)}], each positive, got {p.tolist()}")
        self.classes, self.prior = list(classes), p / p.sum()
        self.whole = GaussianMixture(
            torch.cat([w * c.weights for w, c in zip(self.prior, classes, strict=True)]),
            torch.cat([c.means for c in classes]),
            torch.cat([c.stds for c in classes]),
        )

    def denoiser(self, schedule: NoiseSchedule) -> Callable[..., Tensor]:
        """E[eps | x_t, y] for labels y int64 [B], E[eps | x_t] without: a model(x_t, t, y=None), as
        `guidance.classifier_free` takes it."""

        def model(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            if y is None:
                return self.whole.eps(schedule, x_t, t)
            check_labels(y, len(x_t), len(self.classes))
            each = torch.stack([c.eps(schedule, x_t, t) for c in self.classes])
            return each[y, torch.arange(len(x_t), device=x_t.device)]

        return model

    def classifier(self, schedule: NoiseSchedule) -> Callable[[Tensor, Tensor], Tensor]:
        """log p(x_t, y), a classifier(x_t, t) -> logits [B, C]: their softmax is p(y | x_t), by
        Bayes' rule (eq-exact-classifier)."""

        def logits(x_t: Tensor, t: Tensor) -> Tensor:
            given = [c._given(schedule, x_t, t)[0].logsumexp(-1) for c in self.classes]
            return (torch.stack(given, 1) + self.prior.log().to(x_t.device)).to(x_t.dtype)

        return logits


def two_modes(weight: float = 0.5) -> GaussianMixture:
    """The book's mixture on the line: weight N(-2, 0.5^2) + (1 - weight) N(2, 0.5^2).

    0.5 is a standard deviation. weight in (0, 1); 0.2 makes the unequal mixture.
    """
    if not 0 < weight < 1:
        raise ValueError(f"weight must lie strictly between 0 and 1, got {weight}")
    return GaussianMixture([weight, 1 - weight], [-2.0, 2.0], [0.5, 0.5])


def _log_measured(A: Tensor, y: Tensor, std: float, means: Tensor, variances: Tensor) -> Tensor:
    """log N(y; A m_k, std^2 I + v_k A A^T): [B, K], of means [B, K, D] and variances [B, K]."""
    values, axes = torch.linalg.eigh(A @ A.T)
    variance = std**2 + variances[..., None] * values
    squares = ((y - means @ A.T) @ axes) ** 2
    return -0.5 * (squares / variance + (2 * math.pi * variance).log()).sum(-1)
