"""The variational bound on -log p(x_0), term by term."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_batch, check_finite, check_samples, readable
from .forward import q_sample
from .gaussian import Number, kl
from .loss import check_variance
from .posterior import posterior
from .prediction import Model, checked
from .sampling import ddpm_step
from .schedule import NoiseSchedule, at

Decoder = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``decoder(x_0, mean, var) -> log p(x_0 | x_1)`` for each coordinate, in nats: use
`discretised_gaussian` for 8-bit images and `gaussian.log_density` for real numbers."""


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
    check_samples(x=x)
    if x.numel() == 0:
        raise ValueError(f"x must hold pixels, got {list(x.shape)}")
    k = _levels(x)
    mean, var = (torch.as_tensor(v, dtype=torch.float64, device=x.device) for v in (mean, var))
    check_finite("mean", mean)
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
    `sampling.ddpm_step`. The model is called K + 1 times, with all of x_0 in its order and dtype;
    the terms are float64. Ho et al. 2020, eq. 5; Luo 2022, eq. 58.
    """
    check_batch(x_0=x_0)
    variance = schedule.beta_tilde if variance is None else variance
    check_variance(schedule, variance)
    drawn, sizes = _strata(schedule.T, times, x_0, generator)

    def step_back(t: Tensor) -> tuple[Tensor, Tensor]:
        """A draw of x_t, and mu_theta there."""
        eps = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
        x_t = q_sample(schedule, x_0, t, eps)
        eps_hat, x_t = checked(model, x_t, t).double(), x_t.double()
        return x_t, ddpm_step(schedule, x_t, t, t - 1, eps_hat, torch.zeros_like(x_t))

    x = x_0.double()  # the KL of nearly equal variances is lost in float32
    alpha_bar = schedule.alpha_bar[-1]
    prior = _sum(kl(alpha_bar.sqrt() * x, 1 - alpha_bar, 0.0, 1.0))
    _, x_0_hat = step_back(torch.ones_like(drawn[:, 0]))
    log_p = decoder(x, x_0_hat, schedule.beta_tilde[2])
    if log_p.shape != x.shape:
        raise ValueError(
            f"decoder must return one log p a coordinate, {list(x.shape)}, got {list(log_p.shape)}"
        )
    middle = []
    for t in drawn.unbind(1):
        x_t, mu_theta = step_back(t)
        mu_tilde, beta_tilde = posterior(schedule, x, x_t, t)
        middle.append(_sum(kl(mu_tilde, beta_tilde, mu_theta, at(variance, t, x))))
    return Terms(prior, drawn, torch.stack(middle, 1), sizes, -_sum(log_p))


def bits_per_dim(nats: Number, dims: int) -> Number:
    """Nats a sample as bits a coordinate: nats / (dims log 2) (eq-bits-per-dim). dims >= 1."""
    if dims < 1:
        raise ValueError(f"dims must be at least 1 (28 * 28 for a digit), got {dims}")
    return nats / (dims * math.log(2))


def dequantised(x: Tensor, u: Tensor) -> Tensor:
    """8-bit pixels, each spread over its bin: x + (2u - 1) / 255.

    x: the 256 levels in [-1, 1]; u: like x, uniform in [0, 1]. A density can be asked for the
    result, as it cannot for x itself, where it could grow without limit. Uria, Murray
    and Larochelle 2013.
    """
    check_samples(x=x, u=u)
    _levels(x)
    if u.shape != x.shape:
        raise ValueError(f"u must have the shape of x, {list(x.shape)}, got {list(u.shape)}")
    if readable(u) and not ((u >= 0) & (u <= 1)).all():
        raise ValueError(f"u must lie in [0, 1], got {u.min():g} to {u.max():g}")
    return x + (2 * u - 1) / 255


def dequantised_bits(log_p: Number, dims: int) -> Number:
    """Bits a coordinate that a density spends on 8-bit pixels in [-1, 1].

    log_p: the density's logarithm, in nats, at a `dequantised` image. The bin of a pixel is 2 / 255
    wide, and holds that much of the density: so log2(255 / 2) bits more than -log_p itself, which
    may be negative. The mean over u is at least the bits that the bin's true mass costs (Jensen).
    """
    return bits_per_dim(-log_p, dims) + math.log2(255 / 2)


def _levels(x: Tensor) -> Tensor:
    """k = 0..255, of pixels 2k / 255 - 1; ValueError for any other x."""
    level = 127.5 * (x.double() + 1)
    k = level.round()
    if not ((k - level).abs() < 1e-3).all() or k.min() < 0 or k.max() > 255:
        raise ValueError(
            "x must have the 256 levels of 8-bit images in [-1, 1], got values from "
            f"{x.min():g} to {x.max():g} in {x.dtype}: use data.to_unit, or gaussian.log_density "
            "for other data"
        )
    return k


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
