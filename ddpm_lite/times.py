"""Grids of times: where a walk from T to 0 stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .checks import check_times

if TYPE_CHECKING:
    from .schedule import NoiseSchedule

Times = int | Sequence[float] | Any | None
"""``steps`` of a walk: a number of network calls, or the times themselves (a sequence, an array or
a tensor), or None for all T."""


def timestep_grid(T: int, steps: float) -> Tensor:
    """steps + 1 integers T = t_0 > t_1 > ... > t_steps = 0, as evenly spaced as integers can be.

    int64 [steps + 1]. Raises ValueError unless 1 <= steps <= T. Others call it "trailing".
    """
    return torch.linspace(T, 0, _calls(T, steps) + 1, dtype=torch.float64).round().long()


def leading_grid(T: int, steps: float) -> Tensor:
    """steps + 1 integers that fall by T // steps down to 1, and then 0: the "linear" one of DDIM.

    As `timestep_grid`, but it starts at 1 + (steps - 1) (T // steps), which lies below T: there
    x_t still holds some of x_0, though a sampler starts from pure noise. Song, Meng and Ermon
    2021, D.2.
    """
    stride = T // _calls(T, steps)
    return torch.cat([1 + stride * torch.arange(int(steps) - 1, -1, -1), torch.zeros(1).long()])


def quadratic_grid(T: int, steps: float) -> Tensor:
    """steps + 1 integers from T to 0, with t_k near T (1 - k / steps)^2: dense where t is small.

    As `timestep_grid`; where the squares are closer than 1, neighbours follow one another. Song,
    Meng and Ermon 2021, D.2, where it starts below T.
    """
    k = torch.arange(_calls(T, steps), -1, -1)
    return torch.maximum(k, (T * (k.double() / steps) ** 2 + 0.5).floor().long())


def paused(times: Tensor, pauses: int = 1) -> Tensor:
    """The same times [n], each but the first and the last said ``pauses`` more times.

    On them `sde.predictor_corrector_step` makes so many corrections after each prediction but the
    last (no model knows clean data): [n + pauses (n - 2)].
    """
    if pauses < 0:
        raise ValueError(f"pauses must be at least 0, got {pauses}")
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must be [n] with n >= 2, got {list(times.shape)}")
    return torch.cat([times[:1], times[1:-1].repeat_interleave(1 + pauses), times[-1:]])


def walk_times(schedule: NoiseSchedule, steps: Times) -> Tensor:
    """The times of a walk: those given, or `timestep_grid` of so many steps (None: all T).

    Given times [n], n >= 2, are whole or real, lie in [0, T] and never rise; where two neighbours
    are the same, the walk stands still in time, which only some steps allow (`paused`). Whole
    times become int64, real ones float64, on the CPU. Raises TypeError or ValueError.
    """
    if steps is None or isinstance(steps, int | float):
        return timestep_grid(schedule.T, schedule.T if steps is None else steps)
    try:
        times = torch.as_tensor(steps).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"steps must be a number of steps or the times themselves, got {steps!r}"
        ) from None
    if times.ndim == 0:
        return timestep_grid(schedule.T, times.item())
    times = times.double() if times.is_floating_point() else times.long()
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must be [n] with n >= 2, got {list(times.shape)}")
    check_times(times, schedule.T, times.double(), first=0, name="times", real=True)
    if (times.diff() > 0).any():
        raise ValueError("times must never rise on the way to data: flip them")
    return times


def _calls(T: int, steps: float) -> int:
    if T != int(T) or T < 1:
        raise ValueError(f"T must be a whole number of at least 1, got {T}")
    if not 1 <= steps <= T or steps != int(steps):
        raise ValueError(
            f"steps must be a whole number in 1..T = {T}, got {steps}: no step may stand still"
        )
    return int(steps)
