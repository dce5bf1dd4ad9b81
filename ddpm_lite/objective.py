"""What a denoiser is trained on: the simple loss and the weights of the variational bound."""

from __future__ import annotations

import torch
from torch import Tensor

from .forward import q_sample
from .prediction import Model
from .schedule import NoiseSchedule, at


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
    eps_hat = model(q_sample(schedule, x_0, t, eps), t)
    if eps_hat.shape != eps.shape:
        raise ValueError(f"model must return {list(eps.shape)} like eps, got {list(eps_hat.shape)}")
    error = (eps_hat - eps) ** 2
    return (error if weight is None else at(weight, t, error) * error).mean()


def eps_weight(schedule: NoiseSchedule, variance: Tensor) -> Tensor:
    """The bound's weight on |eps - eps_hat|^2 at each t in 2..T, in nats (eq-eps-weight).

    variance: sigma_t^2 of the reverse step, a table [T + 1], positive at 2..T. Returns [T + 1],
    0 at t < 2, where the bound has no such term. Ho et al. 2020, eq. 12.
    """
    _check_table(schedule, variance=variance)
    if not (variance[2:] > 0).all():
        raise ValueError(
            f"variance must be positive at t = 2..T, got {variance[2:].min():g}: "
            "the bound divides by it"
        )
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


def _check_table(schedule: NoiseSchedule, **tables: Tensor) -> None:
    for name, table in tables.items():
        if table.shape != schedule.beta.shape:
            raise ValueError(
                f"{name} must be a table [T + 1] = [{schedule.T + 1}], got {list(table.shape)}"
            )
