"""How much noise, when: beta, alpha, alpha_bar and the signal-to-noise ratio.

Steps are counted as in the papers: t = 1 is the first noisy step, t = T the last, and t = 0 is
clean data. Tables therefore have T + 1 entries, with ``beta[0] = 0`` and ``alpha_bar[0] = 1``.
They are float64 on the CPU; `at` casts what it gathers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .checks import check_times, extent, kind, readable
from .times import timestep_grid


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The variances beta_1 ... beta_T of the forward steps, and all that follows from them.

    beta: float [T + 1] with ``beta[0] = 0`` and 0 < beta_t < 1 for t in 1..T. Copied to float64 on
    the CPU. Raises TypeError or ValueError otherwise. Ho, Jain and Abbeel 2020, section 2.
    """

    beta: Tensor
    alpha: Tensor = field(init=False)
    """alpha_t = 1 - beta_t (def-alpha-bar), [T + 1]."""
    alpha_bar: Tensor = field(init=False)
    """alpha_bar_t = alpha_1 ... alpha_t (def-alpha-bar), [T + 1]; alpha_bar[0] = 1."""
    snr: Tensor = field(init=False)
    """Signal-to-noise ratio alpha_bar / (1 - alpha_bar) (def-snr), [T + 1]; snr[0] = inf."""
    beta_tilde: Tensor = field(init=False)
    """The posterior's variance (eq-beta-tilde), [T + 1]; entries 0 and 1 are 0."""

    def __post_init__(self) -> None:
        beta = _betas(self.beta)
        alpha = 1 - beta
        alpha_bar = alpha.cumprod(0)
        noise, beta_tilde = 1 - alpha_bar, torch.zeros_like(beta)
        snr = alpha_bar / noise
        beta_tilde[1:] = noise[:-1] / noise[1:] * beta[1:]
        tables = {"alpha": alpha, "alpha_bar": alpha_bar, "snr": snr, "beta_tilde": beta_tilde}
        for name, table in {"beta": beta, **tables}.items():  # attributes: torch can trace them
            object.__setattr__(self, name, table)

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.beta) - 1

    def alpha_bar_at(self, t: Tensor | float) -> Tensor:
        """alpha_bar at real times t in [0, T], by interpolating its logarithm: float64, as t.

        On the device of t; exact at the integers. Raises ValueError outside [0, T].
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        if readable(t) and not ((t >= 0) & (t <= self.T)).all():
            raise ValueError(f"t must lie in [0, {self.T}], got {extent(t)}")
        alpha_bar = self.alpha_bar.to(t.device)
        lower, upper = (r.long().clamp(0, self.T) for r in (t.floor(), t.ceil()))
        fraction, log_alpha_bar = t - lower, alpha_bar.log()
        between = torch.lerp(log_alpha_bar[lower], log_alpha_bar[upper], fraction)
        return torch.where(fraction == 0, alpha_bar[lower], between.exp())

    def time_at(self, alpha_bar: Tensor | float) -> Tensor:
        """The real t in [0, T] with this alpha_bar: the inverse of `alpha_bar_at`, float64.

        For times that are even in the signal-to-noise ratio, say. Raises ValueError outside
        [alpha_bar_T, 1].
        """
        wanted = torch.as_tensor(alpha_bar, dtype=torch.float64, device="cpu")
        if not ((wanted >= self.alpha_bar[-1]) & (wanted <= 1)).all():
            raise ValueError(
                f"alpha_bar must lie in [{self.alpha_bar[-1]:g}, 1], got {extent(wanted)}"
            )
        fall = -self.alpha_bar.log()
        upper = torch.searchsorted(fall, -wanted.log()).clamp(min=1)
        lower = upper - 1
        return lower + (-wanted.log() - fall[lower]) / (fall[upper] - fall[lower])

    def respaced(self, steps: int) -> NoiseSchedule:
        """A schedule of fewer steps on the same alpha_bar curve (eq-respaced).

        steps: 1..T. Step k of the new chain covers the old steps from t_{k-1} to t_k, where the
        t_k are `timestep_grid` read backwards. Nichol and Dhariwal 2021, section 4.
        """
        times = timestep_grid(self.T, steps).flip(0)
        alpha_bar = self.alpha_bar[times]
        return _from_steps(1 - alpha_bar[1:] / alpha_bar[:-1])

    def __repr__(self) -> str:
        return f"NoiseSchedule(T={self.T}, alpha_bar_T={self.alpha_bar[-1]:.3g})"


def linear_schedule(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> NoiseSchedule:
    """beta rises in a straight line from beta_1 to beta_T (Ho et al. 2020, section 4)."""
    return _from_steps(torch.linspace(beta_1, beta_T, _steps(T), dtype=torch.float64, device="cpu"))


def cosine_schedule(T: int = 1000, offset: float = 0.008) -> NoiseSchedule:
    """alpha_bar falls like a squared cosine; beta is clipped at 0.999 (Nichol, Dhariwal 2021).

    offset >= 0 keeps beta_1 from vanishing.
    """
    if not offset >= 0:
        raise ValueError(f"offset must be at least 0, got {offset}")
    step = torch.arange(_steps(T) + 1, dtype=torch.float64, device="cpu")
    angle = (step / T + offset) / (1 + offset)
    alpha_bar = (angle * math.pi / 2).cos() ** 2
    return _from_steps((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999))


def constant_schedule(T: int, beta: float) -> NoiseSchedule:
    """The same beta at every step."""
    return _from_steps(torch.full((_steps(T),), beta, dtype=torch.float64, device="cpu"))


def at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Gather table[t], shaped [B, 1, ...] to multiply ``like``, with its dtype and device.

    table: [T + 1] float64; t: int64 [B] in 0..T; like: [B, *D]. Take complements and roots of the
    table before this cast: in float32, 1 - alpha_bar_1 is wrong in the fourth digit.
    """
    if not isinstance(table, Tensor) or table.ndim != 1:
        got = list(table.shape) if isinstance(table, Tensor) else kind(table)
        raise TypeError(f"table must be a tensor [T + 1], got {got}")
    _check_like(like)
    check_times(t, len(table) - 1, like, first=0)
    return table.to(t.device)[t].to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def alpha_bar_like(
    schedule: NoiseSchedule, t: Tensor, like: Tensor, first: int = 1, name: str = "t"
) -> Tensor:
    """alpha_bar_t of each sample of ``like`` [B, *D]: float64 [B, 1, ...], on its device.

    t: int64 [B] in first..T, or real [B] in (0, T] ([0, T] if first is 0).
    """
    _check_like(like)
    check_times(t, schedule.T, like, first, name, real=True)
    if t.is_floating_point():
        alpha_bar = schedule.alpha_bar_at(t)
    else:
        alpha_bar = schedule.alpha_bar.to(t.device)[t]
    return alpha_bar.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def scales(
    schedule: NoiseSchedule, t: Tensor, like: Tensor, first: int = 1, name: str = "t"
) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), each [B, 1, ...] with the dtype of ``like``.

    Arguments as `alpha_bar_like`.
    """
    alpha_bar = alpha_bar_like(schedule, t, like, first, name)
    return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar).sqrt().to(like.dtype)


def _from_steps(beta: Tensor) -> NoiseSchedule:
    return NoiseSchedule(torch.cat([beta.new_zeros(1), beta]))


def check_table(schedule: NoiseSchedule, **tables: Tensor) -> None:
    """Raise TypeError or ValueError unless each is a table [T + 1]."""
    for name, table in tables.items():
        if not isinstance(table, Tensor):
            raise TypeError(f"{name} must be a table [T + 1], a tensor, got {kind(table)}")
        if table.shape != schedule.beta.shape:
            raise ValueError(
                f"{name} must be a table [T + 1] = [{schedule.T + 1}], got {list(table.shape)}"
            )


def _check_like(like: Tensor) -> None:
    if not isinstance(like, Tensor) or not like.is_floating_point():
        raise TypeError(f"like must be a floating-point tensor, got {kind(like)}: use like.float()")


def _betas(given: Tensor) -> Tensor:
    """A copy of the table beta, checked."""
    if not isinstance(given, Tensor) or not given.is_floating_point():
        raise TypeError(f"beta must be a floating-point tensor of length T + 1, got {kind(given)}")
    beta = given.detach().to("cpu", torch.float64, copy=True)
    if beta.ndim != 1 or len(beta) < 2:
        raise ValueError(
            f"beta must have shape [T + 1] with T >= 1, got {list(beta.shape)}: "
            "put a 0 in front of beta_1 ... beta_T"
        )
    if beta[0] != 0:
        raise ValueError(
            f"beta[0] must be 0 (t = 0 is clean data), got {beta[0]:g}: "
            "put a 0 in front of beta_1 ... beta_T"
        )
    bad = ~((beta[1:] > 0) & (beta[1:] < 1))  # NaN is bad too
    if bad.any():
        t = 1 + int(bad.nonzero()[0])
        raise ValueError(
            f"beta must lie strictly between 0 and 1, got beta[{t}] = {beta[t]:g}: "
            "clip it, or make the schedule gentler"
        )
    alpha_bar = (1 - beta).cumprod(0)
    if alpha_bar[1] == 1 or alpha_bar[-1] < 1e-300:
        raise ValueError(
            "beta must keep alpha_bar within float64, got "
            f"alpha_bar_1 = {alpha_bar[1]:g} and alpha_bar_T = {alpha_bar[-1]:g}: "
            "raise beta_1 if the first is 1, lower beta or T if the last is 0"
        )
    return beta


MOST_STEPS = 1_000_000


def _steps(T: int) -> int:
    if not isinstance(T, int) or not 1 <= T <= MOST_STEPS:
        raise ValueError(f"T must be a whole number in 1..{MOST_STEPS}, got {T!r}")
    return T
