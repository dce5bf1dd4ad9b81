"""What a denoiser is trained on: the simple loss, and the variational bound behind it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .forward import q_sample
from .gaussian import Number, kl
from .posterior import posterior
from .prediction import Model
from .sampling import ddpm_step
from .schedule import NoiseSchedule, at, check_samples

Decoder = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``decoder(x_0, mean, var) -> log p(x_0 | x_1)`` for each coordinate, in nats: use
`discretised_gaussian` for 8-bit images and `gaussian.log_density` for real numbers."""


def simple_loss(
    model: Model,
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    """Mean of weight_t (eps_hat - eps)^2 over the batch and all coordinates (eq-simple-loss).

    x_0, eps: [B, *D]; t: int64 [B] in 1..T; weight: a table [T + 1], or None for 1 at every t.
    Returns a scalar. Ho et al. 2020, eq. 14.
    """
    if weight is not None:
        _check_table(schedule, weight=weight)
    eps_hat = _predict(model, q_sample(schedule, x_0, t, eps), t)
    error = (eps_hat - eps) ** 2
    return (error if weight is None else at(weight, t, error) * error).mean()


def eps_weight(schedule: NoiseSchedule, variance: Tensor) -> Tensor:
    """The bound's weight on |eps - eps_hat|^2 at each t in 2..T, in nats (eq-eps-weight).

    variance: sigma_t^2 of the reverse step, a table [T + 1], positive at 2..T. Returns [T + 1],
    0 at t < 2, where the bound has no such term. Ho et al. 2020, eq. 12.
    """
    _check_variance(schedule, variance)
    weight = torch.zeros_like(schedule.beta)
    beta, alpha, noise = schedule.beta[2:], schedule.alpha[2:], 1 - schedule.alpha_bar[2:]
    weight[2:] = beta**2 / (2 * variance[2:] * alpha * noise)
    return weight


def x_0_weight(schedule: NoiseSchedule, variance: Tensor) -> Tensor:
    """The bound's weight on |x_0 - x_0_hat|^2 at each t in 2..T, in nats (eq-x0-weight).

    As `eps_weight`, from which it differs by the factor SNR_t. With variance = beta_tilde it is
    half the fall of the SNR in that step. Kingma et al. 2021, eq. 14.
    """
    weight = torch.zeros_like(schedule.beta)
    weight[2:] = eps_weight(schedule, variance)[2:] * schedule.snr[2:]
    return weight


class Terms(NamedTuple):
    """The terms of a bound on -log p_theta(x_0), in nats, one estimate a sample (eq-bound-terms).

    prior: [B], L_T; times: int64 [B, K], the t that a sample drew; middle: [B, K], L_{t-1} there;
    sizes: int64 [B, K], how many t each stands for; decoder: [B], L_0. To join batches of one K:
    ``Terms(*map(torch.cat, zip(*parts)))``.
    """

    prior: Tensor
    times: Tensor
    middle: Tensor
    sizes: Tensor
    decoder: Tensor

    @property
    def total(self) -> Tensor:
        """An unbiased estimate of each sample's bound: [B]."""
        return self.prior + (self.sizes * self.middle).sum(1) + self.decoder

    @property
    def standard_error(self) -> float:
        """Of ``total.mean()`` as an estimate of the mean bound over all data, in nats. B >= 2.

        Each sample has its own draws, so the totals are independent if the samples are, and their
        spread holds all that is random: the samples, the noise and the t.
        """
        if len(self.total) < 2:
            raise ValueError("a standard error needs 2 samples or more, got 1")
        return float(self.total.std() / math.sqrt(len(self.total)))


def discretised_gaussian(x: Tensor, mean: Number, var: Number) -> Tensor:
    """log of the mass that N(mean, var) has in the bin of x (eq-discretised-decoder), in nats.

    x: 8-bit pixels in [-1, 1], that is 2k / 255 - 1 with k = 0..255. Its bin has the width 2 / 255;
    those of -1 and 1 reach to infinity, so that the masses add up to 1. mean, var (> 0): numbers or
    tensors that broadcast. Returns float64 like x, finite however far from the mean. Raises
    ValueError for any other x. Ho et al. 2020, eq. 13.
    """
    level = 127.5 * (x.double() + 1)
    k = level.round()
    if not ((k - level).abs() < 1e-3).all() or k.min() < 0 or k.max() > 255:
        raise ValueError(
            "x must have the 256 levels of 8-bit images in [-1, 1], got values from "
            f"{x.min():g} to {x.max():g}: use data.to_unit, or gaussian.log_density for other data"
        )
    mean, var = (torch.as_tensor(v, dtype=torch.float64, device=x.device) for v in (mean, var))
    if not (var > 0).all():
        raise ValueError(f"var must be positive (a variance), got {var.min():g}")
    left = torch.where(k > 0, (k - 0.5) / 127.5 - 1, -math.inf)
    right = torch.where(k < 255, (k + 0.5) / 127.5 - 1, math.inf)
    a, b = (left - mean) / var.sqrt(), (right - mean) / var.sqrt()
    # Mirror the bins right of the mean: there both CDFs would round to 1.
    a, b = torch.where(a + b > 0, -b, a), torch.where(a + b > 0, -a, b)
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    return log_b + (-(log_a - log_b).expm1()).log()


@torch.no_grad()
def vlb_terms(
    model: Model,
    schedule: NoiseSchedule,
    x_0: Tensor,
    times: int | None = None,
    generator: torch.Generator | None = None,
    decoder: Decoder = discretised_gaussian,
    variance: Tensor | None = None,
    clip: float | None = None,
) -> Terms:
    """Estimate every term of the bound on -log p_theta(x_0), for each sample (eq-dvlb-ho).

    With one draw of each x_t, t = 1..T, the terms are::

        L_T     = KL(q(x_T | x_0) || N(0, I))
        L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || N(mu_theta, sigma_t^2)) at t = 2..T
        L_0     = -log p(x_0 | x_1), p being the decoder at x_0_hat and sigma_1^2

    x_0: [B, *D]; times: None for every t, or K: 2..T is cut into K strata, narrow at small t, and
    each sample draws one uniform t in each, which stands for all of it; generator: on the device
    of x_0; variance: sigma_t^2, a table [T + 1], positive at 2..T (None: beta_tilde), while
    sigma_1^2 is always beta_tilde_2, as beta_tilde_1 = 0. mu_theta is the mean of
    `sampling.ddpm_step`, which says what clip does. The model is called K + 1 times, with all of
    x_0 in its order and dtype; the terms are float64. Ho et al. 2020, eq. 5; Luo 2022, eq. 58.
    """
    check_samples(x_0=x_0)
    if x_0.ndim == 0 or len(x_0) == 0:
        raise ValueError(f"x_0 must be a batch [B, *D] with B >= 1, got {list(x_0.shape)}")
    variance = schedule.beta_tilde if variance is None else variance
    _check_variance(schedule, variance)
    drawn, sizes = _strata(schedule.T, times, x_0, generator)

    def step_back(t: Tensor) -> tuple[Tensor, Tensor]:
        """A draw of x_t, and mu_theta there."""
        eps = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
        x_t = q_sample(schedule, x_0, t, eps)
        eps_hat, x_t = _predict(model, x_t, t).double(), x_t.double()
        return x_t, ddpm_step(schedule, x_t, t, t - 1, eps_hat, torch.zeros_like(x_t), clip=clip)

    x = x_0.double()  # the KL of nearly equal variances is lost in float32
    alpha_bar = schedule.alpha_bar[-1]
    prior = _sum(kl(alpha_bar.sqrt() * x, 1 - alpha_bar, 0.0, 1.0))
    _, x_0_hat = step_back(torch.ones_like(drawn[:, 0]))
    nats_0 = -_sum(decoder(x, x_0_hat, schedule.beta_tilde[2]))
    middle = []
    for t in drawn.unbind(1):
        x_t, mu_theta = step_back(t)
        mu_tilde, beta_tilde = posterior(schedule, x, x_t, t)
        middle.append(_sum(kl(mu_tilde, beta_tilde, mu_theta, at(variance, t, x))))
    return Terms(prior, drawn, torch.stack(middle, 1), sizes, nats_0)


def bits_per_dim(nats: Number, dims: int) -> Number:
    """Nats a sample as bits a coordinate: nats / (dims log 2) (eq-bits-per-dim). dims >= 1."""
    if dims < 1:
        raise ValueError(f"dims must be at least 1 (28 * 28 for a digit), got {dims}")
    return nats / (dims * math.log(2))


def _strata(
    T: int, strata: int | None, x_0: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """For each sample a uniform t from every stratum of 2..T, and the stratum's size: [B, K].

    The edges grow as T^(k / K), since the terms fall steeply with t, but by 1 at least.
    """
    if T < 2:
        raise ValueError("T must be at least 2: the decoder's variance is beta_tilde_2")
    K = T - 1 if strata is None else strata
    if not 1 <= K <= T - 1 or K != int(K):
        raise ValueError(f"times must be None (every t) or 1..{T - 1} strata, got {strata}")
    k = torch.arange(K + 1, dtype=torch.float64)
    edges = torch.maximum(k + 1, T ** (k / K)).round().long().to(x_0.device)  # from 1 to T
    sizes = edges.diff().expand(len(x_0), -1)
    place = torch.rand(len(x_0), K, generator=generator, device=x_0.device, dtype=torch.float64)
    return edges[:-1] + 1 + (place * sizes).long(), sizes


def _sum(nats: Tensor) -> Tensor:
    """Over the coordinates of each sample: [B, *D] -> [B]."""
    return nats.reshape(len(nats), -1).sum(1)


def _predict(model: Model, x_t: Tensor, t: Tensor) -> Tensor:
    eps_hat = model(x_t, t)
    if eps_hat.shape != x_t.shape:
        raise ValueError(f"model must return {list(x_t.shape)} like eps, got {list(eps_hat.shape)}")
    return eps_hat


def _check_variance(schedule: NoiseSchedule, variance: Tensor) -> None:
    _check_table(schedule, variance=variance)
    if not (variance[2:] > 0).all():
        raise ValueError(
            f"variance must be positive at t = 2..T, got {variance[2:].min():g}: "
            "the bound divides by it"
        )


def _check_table(schedule: NoiseSchedule, **tables: Tensor) -> None:
    for name, table in tables.items():
        if table.shape != schedule.beta.shape:
            raise ValueError(
                f"{name} must be a table [T + 1] = [{schedule.T + 1}], got {list(table.shape)}"
            )
