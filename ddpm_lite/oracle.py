"""The case where all is exact: a Gaussian mixture, its denoiser, and densities on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .posterior import step_variances
from .prediction import Model, predict_eps, score
from .sampling import ddpm_step, walk_times
from .schedule import NoiseSchedule, alpha_bar_like, at, check_samples, check_times


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
        self.weights = self.weights / self.weights.sum()

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
        x, x_0 = x_t.double(), self.x_0(schedule, x_t.double(), t)
        return predict_eps(schedule, x, t, x_0).to(x_t.dtype)

    def score(self, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> Tensor:
        """The gradient of log q(x_t) with respect to x_t (eq-score-eps). t as in `x_0`."""
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


def grid(low: float = -8.0, high: float = 8.0, n: int = 4096) -> Tensor:
    """n evenly spaced points of the line, float64, for densities that vanish at both ends."""
    return torch.linspace(low, high, n, dtype=torch.float64)


def push_density(x: Tensor, density: Tensor, mean: Tensor, std: float) -> Tensor:
    """The density of mean(X) + std Z on the grid, X having ``density``, Z ~ N(0, 1) (eq-push).

    x: even grid [n], float64; density: [n]; mean: the map's values on the grid, [n]; std >= 0.
    The mass of each cell lands at mean(x), shared among the four nearest grid points by cubic
    interpolation, which keeps its first three moments; the noise is a product in Fourier space.
    Raises ValueError where more than 0.1 % of the mass lands outside the grid.
    """
    step = _grid_step(x)
    check_samples(x=x, density=density, mean=mean)
    if not std >= 0:
        raise ValueError(f"std must be at least 0, got {std}")
    ends = torch.stack([x[0] - mean, mean - x[-1]])
    beyond = torch.special.ndtr(ends / std) if std else (ends > 0).double()
    outside = float((density * beyond.sum(0)).sum() * step)
    if outside > 1e-3:
        raise ValueError(
            f"x must reach farther: {100 * outside:.2g} % of the mass lands outside "
            f"[{x[0]:g}, {x[-1]:g}]: use a wider grid"
        )
    landing = ((mean - x[0]) / step).clamp(1, len(x) - 3)
    left = landing.floor().long()
    f = landing - left
    shares = torch.stack(
        [
            -f * (f - 1) * (f - 2) / 6,
            (f + 1) * (f - 1) * (f - 2) / 2,
            -(f + 1) * f * (f - 2) / 2,
            (f + 1) * f * (f - 1) / 6,
        ]
    )
    landed = torch.zeros_like(density)
    for offset, share in zip((-1, 0, 1, 2), shares, strict=True):
        landed.index_add_(0, left + offset, share * density)
    if std == 0:
        return landed
    cycles = torch.fft.rfftfreq(len(x), float(step), dtype=x.dtype, device=x.device)
    frequency = 2 * math.pi * cycles
    blur = torch.exp(-0.5 * (std * frequency) ** 2)
    return torch.fft.irfft(torch.fft.rfft(landed) * blur, n=len(x))


@torch.no_grad()
def sampled_density(
    model: Model,
    schedule: NoiseSchedule,
    x: Tensor,
    step: Callable[..., Tensor] = ddpm_step,
    steps: int | Tensor | None = None,
    initial: Tensor | None = None,
) -> Tensor:
    """The density of what `sampling.sample` returns on the line, with no sampling noise (eq-push).

    Arguments as `sample`; x: an even grid [n], float64, e.g. `grid()`; initial: the density of x_T
    on it (None: N(0, 1)). Returns [n]. ``step`` must be mean + std z with std the same for every x,
    and without memory. A step without noise smears the density by a part of the grid's spacing: a
    thousand of them put a few 1e-4 on W1. So for samplers without noise, or with memory, rather
    walk from `metrics.quantiles` of the normal law.
    """
    times = walk_times(schedule, steps).to(x.device)
    density = torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi) if initial is None else initial
    mass = float(density.sum() * _grid_step(x))
    if not abs(mass - 1) < 1e-3:
        raise ValueError(
            f"initial must have mass 1 on the grid x, got {mass:.4g}: use a wider or finer grid"
        )
    zero, one = torch.zeros_like(x), torch.ones_like(x[:1])
    for t, s in zip(times, times[1:], strict=False):
        t_now, s_now = t.repeat(len(x)), s.repeat(len(x))
        eps_hat = model(x, t_now).to(x)
        mean = step(schedule, x, t_now, s_now, eps_hat, zero)
        noisy = step(schedule, x[:1], t_now[:1], s_now[:1], eps_hat[:1], one)
        density = push_density(x, density, mean, float(noisy[0] - mean[0]))
    return density


def chain_density(
    model: Model,
    schedule: NoiseSchedule,
    x: Tensor,
    variance: Tensor | None = None,
    variance_1: float | None = None,
) -> Tensor:
    """p_theta(x_0) on the line: the chain's own marginal, by a grid (eq-path-integral).

    The chain is the one whose log-density `objective.vlb_terms` bounds: a Gaussian step with the
    mean of `ddpm_step` at every t, the last one included. x: an even grid [n], float64, e.g.
    `grid()`; variance: sigma_t^2, a table [T + 1], positive at 2..T (None: beta_tilde);
    variance_1: sigma_1^2 > 0 (None: beta_tilde_2, as there). Returns a density [n].
    """
    variance = schedule.beta_tilde if variance is None else variance
    if variance.shape != schedule.beta.shape or not (variance[2:] > 0).all():
        raise ValueError(
            f"variance must be a table [T + 1] = [{schedule.T + 1}], positive at t = 2..T, got "
            f"{list(variance.shape)}, with {int((variance[2:] <= 0).sum())} values of 0 or below"
        )
    if variance_1 is None:
        if schedule.T < 2:
            raise ValueError("variance_1 must be given when T = 1: there is no beta_tilde_2")
        variance_1 = float(schedule.beta_tilde[2])
    if not variance_1 > 0:
        raise ValueError(f"variance_1 must be positive (a variance), got {variance_1}")
    step = partial(ddpm_step, variance=lambda _schedule, t, _s, like: at(variance, t, like))
    x_0_hat = sampled_density(model, schedule, x, step)
    return push_density(x, x_0_hat, x, math.sqrt(variance_1))


def least_error(data: GaussianMixture, schedule: NoiseSchedule, x: Tensor) -> Tensor:
    """E (eps - E[eps | x_t])^2 at each t, [T + 1]: the loss that no model can undercut.

    data: a mixture on the line; x: an even grid [n], float64. At t = 0, where x_t says nothing of
    eps, it is 1. Its integral over x is a sum on the grid.
    """
    step, error = _grid_step(x), torch.ones(schedule.T + 1, dtype=torch.float64)
    power = (data.weights * (data.means**2 + data.stds**2)).sum()  # E x_0^2
    for t in range(1, schedule.T + 1):
        now, mass = torch.full(x.shape, t), data.diffused(schedule, t).log_prob(x).exp() * step
        if not abs(float(mass.sum()) - 1) < 1e-3:
            raise ValueError(
                f"x must hold the mass of x_t, got {float(mass.sum()):.4g} of it at t = {t}: "
                "use a wider or finer grid"
            )
        if (snr := schedule.snr[t]) > 1:
            error[t] -= (mass * data.eps(schedule, x, now) ** 2).sum()
        else:  # 1 - E eps_hat^2 would be lost in rounding
            error[t] = snr * (power - (mass * data.x_0(schedule, x, now) ** 2).sum())
    return error


def reverse_density(
    data: GaussianMixture, schedule: NoiseSchedule, x_t: float, t: int, x: Tensor
) -> Tensor:
    """The exact q(x_{t-1} | x_t) of the mixture at the points x, by Bayes' rule (eq-reverse-exact).

    t in 1..T; x: [n] float64. Returns a density [n]. Gaussian only when beta_t is small.
    """
    now = torch.full((1,), t)
    check_times(now, schedule.T, x[:1])
    beta, _, _ = step_variances(schedule, now, now - 1, x[:1])
    forward = -0.5 * (x_t - (1 - beta).sqrt() * x) ** 2 / beta - 0.5 * (2 * math.pi * beta).log()
    evidence = data.diffused(schedule, t).log_prob(x.new_tensor([x_t]))
    return (forward + data.diffused(schedule, t - 1).log_prob(x) - evidence).exp()


def _grid_step(x: Tensor) -> Tensor:
    """The spacing of an even float64 grid [n]; TypeError or ValueError if it is not one."""
    if not isinstance(x, Tensor) or x.dtype != torch.float64:
        raise TypeError("x must be a float64 grid: make it with grid()")
    step = (x[-1] - x[0]) / (len(x) - 1) if x.ndim == 1 and len(x) >= 4 else x.new_tensor(0.0)
    if not step > 0 or not torch.allclose(x.diff(), step, rtol=1e-6):
        raise ValueError("x must be an even, rising grid of 4 points or more: make it with grid()")
    return step
