"""Grids of times: where a walk from T to 0 stops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .checks import check_times, kind

if TYPE_CHECKING:
    from .schedule import NoiseSchedule

Times = int | Sequence[float] | np.ndarray | Tensor | None
"""``steps`` of a walk: a number of network calls, or the times themselves (a sequence, an array or
a tensor), or None for all T."""


def timestep_grid(T: int, steps: float) -> Tensor:
    """steps + 1 integers T = t_0 > t_1 > ... > t_steps = 0, as evenly spaced as integers can be.

    int64 [steps + 1]. Raises ValueError unless 1 <= steps <= T. Others call it "trailing".
    """
    n = _calls(T, steps) + 1
    return torch.linspace(T, 0, n, dtype=torch.float64, device="cpu").round().long()


def leading_grid(T: int, steps: float) -> Tensor:
    """steps + 1 integers that fall by T // steps down to 1, and then 0: the "linear" one of DDIM.

    As `timestep_grid`, but it starts at 1 + (steps - 1) (T // steps), which lies below T: there
    x_t still holds some of x_0, though a sampler starts from pure noise. Song, Meng and Ermon
    2021, D.2.
    """
    stride, k = T // _calls(T, steps), torch.arange(int(steps), 0, -1, device="cpu")
    return torch.cat([1 + stride * (k - 1), 0 * k[:1]])


def quadratic_grid(T: int, steps: float) -> Tensor:
    """steps + 1 integers from T to 0, with t_k near T (1 - k / steps)^2: dense where t is small.

    As `timestep_grid`; where the squares are closer than 1, neighbours follow one another. Song,
    Meng and Ermon 2021, D.2, where it starts below T.
    """
    k = torch.arange(_calls(T, steps), -1, -1, device="cpu")
    return torch.maximum(k, (T * (k.double() / steps) ** 2 + 0.5).floor().long())


def shifted_grid(schedule: NoiseSchedule, steps: float, shift: float = 1.0) -> Tensor:
    """steps + 1 integers from T to 0, even in noise / (noise + shift signal).

    Signal and noise are sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t): so with shift = 1 it is even
    on the straight path from data to noise. With a larger shift more of the steps are taken where
    there is more noise. As `timestep_grid`; where these times are closer than 1, neighbours follow
    one another. Esser et al. 2024.
    """
    if not 0 < shift < math.inf:
        raise ValueError(f"shift must be positive, got {shift}")
    T, k = schedule.T, torch.arange(_calls(schedule.T, steps) + 1, device="cpu")
    ratio = (1 / schedule.alpha_bar.cpu() - 1).sqrt()  # noise to signal
    u = ratio[T] / (ratio[T] + shift) * k / k[-1]
    alpha_bar = 1 / (1 + (shift * u / (1 - u)) ** 2)
    alpha_bar = alpha_bar.clamp(float(schedule.alpha_bar[T]), 1)  # but for rounding
    times = schedule.time_at(alpha_bar).round().long()
    apart = (times - k).cummax(0).values + k
    return torch.minimum(apart, T - k.flip(0)).flip(0)


def paused(times: Times, pauses: int = 1) -> Tensor:
    """The same times [n], each but the first and the last said ``pauses`` more times.

    On them `sde.predictor_corrector_step` makes so many corrections after each prediction but the
    last (no model knows clean data): [n + pauses (n - 2)].
    """
    if pauses < 0 or pauses != int(pauses):
        raise ValueError(f"pauses must be a whole number of at least 0, got {pauses}")
    times = given_times(times)
    return torch.cat([times[:1], times[1:-1].repeat_interleave(1 + int(pauses)), times[-1:]])


def walk_times(schedule: NoiseSchedule, steps: Times) -> Tensor:
    """The times of a walk: those given, or `timestep_grid` of so many steps (None: all T).

    Given times [n], n >= 2, are whole or real, lie in [0, T] and never rise; where two neighbours
    are the same, the walk stands still in time, which only some steps allow (`paused`). Whole
    times become int64, real ones float64, on the CPU. Raises TypeError or ValueError.
    """
    if steps is None or isinstance(steps, int | float):
        return timestep_grid(schedule.T, schedule.T if steps is None else steps)
    if getattr(steps, "ndim", 1) == 0:  # a number of steps in an array
        return timestep_grid(schedule.T, float(steps))  # type: ignore[arg-type]
    times = given_times(steps)
    check_times(times, schedule.T, times.double(), first=0, name="times", real=True)
    if (times.diff() > 0).any():
        raise ValueError("times must never rise on the way to data: flip them")
    return times


def given_times(times: Times) -> Tensor:
    """Times [n], n >= 2, out of any sequence, array or tensor: int64 or float64, on the CPU."""
    try:
        given = torch.as_tensor(times)
        if given.is_floating_point():  # a list of numbers too, before they are rounded to float32
            given = torch.as_tensor(times, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            "times must be numbers, in a sequence, an array or a tensor (or, as steps, how many), "
            f"got {times!r}"
        ) from None
    if given.ndim != 1 or len(given) < 2:
        raise ValueError(f"times must be [n] with n >= 2, got {list(given.shape)}")
    if given.dtype == torch.bool or given.is_complex():
        raise TypeError(f"times must be whole or real numbers, got {kind(given)}")
    dtype = torch.float64 if given.is_floating_point() else torch.int64
    return given.detach().to("cpu", dtype, copy=True)


def _calls(T: int, steps: float) -> int:
    if T != int(T) or T < 1:
        raise ValueError(f"T must be a whole number of at least 1, got {T}")
    if not 1 <= steps <= T or steps != int(steps):
        raise ValueError(
            f"steps must be a whole number in 1..T = {T}, got {steps}: no step may stand still"
        )
    return int(steps)
