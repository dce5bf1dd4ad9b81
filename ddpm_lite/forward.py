"""The forward process q: from data to noise, one step at a time or in one jump."""

from __future__ import annotations

from torch import Tensor

from .checks import check_samples, check_times
from .schedule import NoiseSchedule, at


def q_step(schedule: NoiseSchedule, x_prev: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Sample q(x_t | x_{t-1}): shrink a little, add a little noise (def-forward-step).

    x_prev, eps: [B, *D]; t: int64 [B] in 1..T. Returns x_t: [B, *D]. Ho et al. 2020, eq. 2.
    """
    check_samples(x_prev=x_prev, eps=eps)
    check_times(t, schedule.T, x_prev)
    return at(schedule.alpha.sqrt(), t, x_prev) * x_prev + at(schedule.beta.sqrt(), t, x_prev) * eps


def q_sample(schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Sample q(x_t | x_0) in one jump (eq-forward-closed).

    x_0, eps: [B, *D]; t: int64 [B] in 1..T. Returns x_t: [B, *D]. Ho et al. 2020, eq. 4.
    """
    check_samples(x_0=x_0, eps=eps)
    check_times(t, schedule.T, x_0)
    mean = at(schedule.alpha_bar.sqrt(), t, x_0) * x_0
    std = at((1 - schedule.alpha_bar).sqrt(), t, x_0)
    return mean + std * eps
