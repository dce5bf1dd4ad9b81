"""Walks that ask the model twice in a step, or remember an earlier one; and the walk up to noise.

Each is a short loop of its own over the steps from x_T, with the yield of `sampling.sample`: its
memory is a local variable, and the model it asks is the one it was given. One of them adds noise,
if it is asked to.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .checks import check_batch, check_finite
from .prediction import Model, checked, predict_eps, predict_x_0
from .sampling import Walk, at_time, begin, ddim_step, stages
from .schedule import NoiseSchedule, alpha_bar_like, scales
from .sde import elapsed, velocity
from .times import Times, walk_times


def ddim_heun(
    model: Model, schedule: NoiseSchedule, x_T: Tensor, steps: Times = None, until: float = 0
) -> Walk:
    """DDIM steps with the mean of the two eps_hat at their ends (Karras et al. 2022, algorithm 1).

    x_T: [B, *D]; steps, until: as in `sampling.sample`. Yields (s, x_s, x_0_hat). Two network
    calls a step, but one in that to s = 0: no model knows clean data.
    """
    return _ddim_heun(model, schedule, *_start(schedule, x_T, steps, until))


@torch.no_grad()
def _ddim_heun(model: Model, schedule: NoiseSchedule, x: Tensor, times: Tensor) -> Walk:
    for t, s in stages(times):
        t_now, s_now = at_time(t, x), at_time(s, x)
        eps_hat = checked(model, x, t_now)
        x_0_hat = predict_x_0(schedule, x, t_now, eps_hat)
        x_s = _ddim(schedule, x, t_now, s_now, eps_hat)
        if s > 0:
            eps_hat = (eps_hat + checked(model, x_s, s_now)) / 2
            x_s = _ddim(schedule, x, t_now, s_now, eps_hat)
        x = x_s
        yield s, x.clone(), x_0_hat


def heun(
    model: Model, schedule: NoiseSchedule, x_T: Tensor, steps: Times = None, until: float = 0
) -> Walk:
    """Heun's method for the probability-flow ODE on its clock: the mean velocity of two ends.

    Arguments and yield as `ddim_heun` (eq-order-heun). Two network calls a step, but one, Euler's,
    in that to s = 0.
    """
    return _heun(model, schedule, *_start(schedule, x_T, steps, until))


@torch.no_grad()
def _heun(model: Model, schedule: NoiseSchedule, x: Tensor, times: Tensor) -> Walk:
    for t, s in stages(times):
        t_now, s_now = at_time(t, x), at_time(s, x)
        eps_hat = checked(model, x, t_now)
        x_0_hat = predict_x_0(schedule, x, t_now, eps_hat)
        dtau, before = elapsed(schedule, s_now, t_now, x), velocity(schedule, x, t_now, eps_hat)
        x_s = x - dtau * before
        if s > 0:
            after = velocity(schedule, x_s, s_now, checked(model, x_s, s_now))
            x_s = x - dtau * (before + after) / 2
        x = x_s
        yield s, x.clone(), x_0_hat


def dpm_solver(
    model: Model,
    schedule: NoiseSchedule,
    x_T: Tensor,
    steps: Times = None,
    until: float = 0,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Walk:
    """DPM-Solver++(2M): DDIM at an x_0_hat carried on to mid-step (Lu et al. 2025, algorithm 2).

    Arguments and yield as `ddim_heun`; one network call a step. x_0_hat is carried on in a straight
    line over log SNR, through this step's and that of the step before (eq-dpm-step). The first
    step, and that to s = 0, where log SNR is infinite, are `sampling.ddim_step`. The times must
    fall. eta in [0, 1] scales the noise of each step, which ``generator`` draws on the device of
    x_T: at 1 this is their SDE-DPM-Solver++(2M).
    """
    x, times = _start(schedule, x_T, steps, until)
    if not (times.diff() < 0).all():
        raise ValueError("times must fall at each step: this solver divides by the step before")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    return _dpm_solver(model, schedule, x, times, eta, generator)


@torch.no_grad()
def _dpm_solver(
    model: Model,
    schedule: NoiseSchedule,
    x: Tensor,
    times: Tensor,
    eta: float,
    generator: torch.Generator | None,
) -> Walk:
    before: tuple[Tensor, Tensor] | None = None  # log SNR and x_0_hat of the step before
    for t, s in stages(times):
        t_now, s_now = at_time(t, x), at_time(s, x)
        eps_hat = checked(model, x, t_now)
        x_0_hat, log_snr_t = predict_x_0(schedule, x, t_now, eps_hat), _log_snr(schedule, t_now, x)
        if before is not None and s > 0:
            log_snr_r, x_0_before = before
            log_snr_s = _log_snr(schedule, s_now, x)
            ahead = 0.5 * (log_snr_s - log_snr_t) / (log_snr_t - log_snr_r)
            x_0_middle = x_0_hat + ahead.to(x.dtype) * (x_0_hat - x_0_before)
            eps_hat = predict_eps(schedule, x, t_now, x_0_middle)
        before = log_snr_t, x_0_hat
        z = _noise(x, generator) if eta else torch.zeros_like(x)
        x = ddim_step(schedule, x, t_now, s_now, eps_hat, z, eta)
        yield s, x.clone(), x_0_hat.clone()


def ddim_invert(
    model: Model,
    schedule: NoiseSchedule,
    x_0: Tensor,
    steps: Times = None,
    refine: int = 0,
) -> Walk:
    """Walk from x_0 up to the x_T that `ddim_step` (eta = 0) takes back to it: (t, x_t, x_0_hat).

    x_0: [B, *D]; steps: as in `sampling.sample`, down to 0. The step down from x_t uses
    eps_hat(x_t, t), which is known only once x_t is. So eps_hat is first read at (x_s, t), the
    point where the step starts, and then ``refine`` times at the x_t so found: a fixed-point
    iteration, one network call each. It ends in the exact x_T where the steps are small against the
    slope of eps_hat. Where the way down contracts, as it does towards images, x_T is found less
    well than the x_0 that it leads to (eq-invert-step, eq-invert-slope).
    Song, Meng and Ermon 2021, section 5.4; Pan et al. 2023 for the refinement.
    """
    if refine < 0:
        raise ValueError(f"refine must be at least 0, got {refine}")
    check_batch(x_0=x_0)
    times = walk_times(schedule, steps)
    if times[-1] != 0 or not (times.diff() < 0).all():
        raise ValueError(
            f"times must fall at each step, down to 0, where x_0 is; they end at {times[-1]:g}"
        )
    return _climb(model, schedule, x_0, times.flip(0), refine)


@torch.no_grad()
def _climb(model: Model, schedule: NoiseSchedule, x_s: Tensor, times: Tensor, refine: int) -> Walk:
    """The loop of `ddim_invert`."""
    for s, t in stages(times):
        t_now = at_time(t, x_s)
        signal_s, noise_s = scales(schedule, at_time(s, x_s), x_s, first=0)
        signal_t, noise_t = scales(schedule, t_now, x_s)
        x_t = x_s
        for _ in range(1 + refine):
            eps_hat = checked(model, x_t, t_now)
            x_0_hat = (x_s - noise_s * eps_hat) / signal_s
            x_t = signal_t * x_0_hat + noise_t * eps_hat
        x_s = x_t
        yield t, x_s.clone(), x_0_hat


def slerp(a: Tensor, b: Tensor, u: Tensor | float) -> Tensor:
    """From a (u = 0) to b (u = 1) on the arc between them (eq-slerp): how to blend two x_T.

    a, b: [B, *D]; u: a number, or [B]. Where a and b have one length, so has the blend; halfway on
    the straight line between two noises it would be 0.7 of theirs (eq-slerp-line). Raises
    ValueError for opposite or zero vectors, which name no arc. Shoemake 1985; Song, Meng and Ermon
    2021, D.5.
    """
    check_batch(a=a, b=b)
    column, given = (-1, *[1] * (a.ndim - 1)), a.dtype
    a, b = (x.to(torch.promote_types(given, torch.float32)) for x in (a, b))
    u = torch.as_tensor(u, dtype=a.dtype, device=a.device)
    if u.ndim and u.shape != a.shape[:1]:
        raise ValueError(f"u must be a number or [B] = [{len(a)}], got {list(u.shape)}")
    check_finite("u", u)
    u = u.reshape(column)
    flat_a, flat_b = (x.reshape(len(x), -1).double() for x in (a, b))
    lengths = flat_a.norm(dim=1) * flat_b.norm(dim=1)
    cosine = (flat_a * flat_b).sum(1) / lengths
    if not (cosine > -1 + 1e-12).all():  # NaN fails too
        raise ValueError("a and b must be neither zero nor opposite: no one arc joins them")
    cosine = cosine.clamp(max=STRAIGHT)  # beyond it a straight line, and a slope that is finite
    angle = cosine.acos().to(a.dtype).reshape(column)
    return ((((1 - u) * angle).sin() * a + (u * angle).sin() * b) / angle.sin()).to(given)


STRAIGHT = math.cos(1e-4)  # of the smallest angle that `slerp` takes


def _start(
    schedule: NoiseSchedule, x_T: Tensor, steps: Times, until: float
) -> tuple[Tensor, Tensor]:
    check_batch(x_T=x_T)
    return begin(schedule, x_T.shape, steps, x_T=x_T, until=until)


def _ddim(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor, eps_hat: Tensor) -> Tensor:
    """`ddim_step` without noise."""
    return ddim_step(schedule, x_t, t, s, eps_hat, torch.zeros_like(x_t))


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _log_snr(schedule: NoiseSchedule, t: Tensor, like: Tensor) -> Tensor:
    return alpha_bar_like(schedule, t, like).logit()
