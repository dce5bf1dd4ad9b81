"""What a denoiser is trained on: the squared error of eps, its weights, and its batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .checks import check_batch
from .forward import q_sample
from .prediction import Model, checked
from .schedule import NoiseSchedule, at, check_table

Draw = Callable[[int, torch.Generator], Tensor | tuple[Tensor, ...]]
"""``draw(n, generator)``: all that is random in a batch of n."""
Loss = Callable[..., Tensor]
"""``loss(model, *batch)`` -> a scalar; nothing in it is random."""


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
        check_table(schedule, weight=weight)
    eps_hat = checked(model, q_sample(schedule, x_0, t, eps), t)
    error = (eps_hat - eps) ** 2
    return (error if weight is None else at(weight, t, error) * error).mean()


def denoising(
    draw: Draw,
    schedule: NoiseSchedule,
    weight: Tensor | None = None,
    stratified: bool = False,
    loss: Callable[..., Tensor] = simple_loss,
) -> tuple[Draw, Loss]:
    """What `training.train` asks for, of a diffusion model: its batches, and its loss.

    draw(n, generator) -> x_0 [n, *D], or (x_0, y); a batch is then (x_0, t, eps) or (x_0, t, eps,
    y), and its loss ``loss(model, schedule, x_0, t, eps, weight)``, where y is passed on as
    ``model(x_t, t, y=y)``. weight: a table [T + 1], or None for 1. t is uniform in 1..T or, if
    stratified, one t in each of n equal parts of 1..T, which leaves less to chance (Kingma et al.
    2021, appendix I.1). Ho et al. 2020, algorithm 1.
    """
    if weight is not None:
        check_table(schedule, weight=weight)

    def noised(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        drawn = draw(n, generator)
        x_0, *labels = drawn if isinstance(drawn, tuple) else (drawn,)
        check_batch(x_0=x_0)
        t = _times(n, schedule.T, stratified, generator)
        options: dict[str, Any] = {"generator": generator, "device": generator.device}
        eps = torch.randn(x_0.shape, dtype=torch.float64, **options)
        return x_0, t, eps, *labels

    def scored(
        model: Callable[..., Tensor], x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor | None = None
    ) -> Tensor:
        asked = model if y is None else partial(model, y=y)
        return loss(asked, schedule, x_0, t, eps, weight)

    return noised, scored


def _times(n: int, T: int, stratified: bool, generator: torch.Generator) -> Tensor:
    """n random times in 1..T: int64 [n]."""
    options: dict[str, Any] = {"generator": generator, "device": generator.device}
    if not stratified:
        return torch.randint(1, T + 1, (n,), **options)
    u = torch.rand(n, dtype=torch.float64, **options)
    place = (torch.arange(n, device=generator.device) + u) / n
    return 1 + (place * T).long().clamp(max=T - 1)


def eps_weight(schedule: NoiseSchedule, variance: Tensor) -> Tensor:
    """The bound's weight on |eps - eps_hat|^2 at each t in 2..T, in nats (eq-eps-weight).

    variance: sigma_t^2 of the reverse step, a table [T + 1], positive at 2..T. Returns [T + 1],
    0 at t < 2, where the bound has no such term. Ho et al. 2020, eq. 12.
    """
    check_variance(schedule, variance)
    weight = torch.zeros_like(schedule.beta)
    beta, alpha, noise = schedule.beta[2:], schedule.alpha[2:], 1 - schedule.alpha_bar[2:]
    weight[2:] = beta**2 / (2 * variance[2:] * alpha * noise)
    return weight


def x_0_weight(schedule: NoiseSchedule, variance: Tensor) -> Tensor:
    """The bound's weight on |x_0 - x_0_hat|^2 at each t in 2..T, in nats (eq-x0-weight).

    As `eps_weight`, from which it differs by the factor SNR_t. With variance = beta_tilde it is
    half the fall of the SNR in that step. Kingma et al. 2021, eq. 13.
    """
    weight = torch.zeros_like(schedule.beta)
    weight[2:] = eps_weight(schedule, variance)[2:] * schedule.snr[2:]
    return weight


def check_variance(schedule: NoiseSchedule, variance: Tensor) -> None:
    """Raise ValueError unless variance is a table [T + 1], positive at t = 2..T."""
    check_table(schedule, variance=variance)
    if not (variance[2:] > 0).all():
        raise ValueError(
            f"variance must be positive at t = 2..T, got {variance[2:].min():g}: "
            "the bound divides by it"
        )
