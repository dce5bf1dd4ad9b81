"""From noise back to data: one step from t to s, and the loop over steps.

A model is any callable ``model(x_t, t) -> eps_hat``. A step is a pure function of its arguments:
the standard normal z comes in by the door, and only `sample` owns a generator. Times are int64, or
real where the model takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .posterior import posterior, step_variances
from .prediction import Model, predict_eps, predict_x_0
from .schedule import (
    NoiseSchedule,
    alpha_bar_like,
    at,
    check_samples,
    check_times,
    scales,
    timestep_grid,
)

Variance = Callable[[NoiseSchedule, Tensor, Tensor, Tensor], Tensor]
Step = Callable[..., Tensor]
"""``step(schedule, x_t, t, s, eps_hat, z) -> x_s``, as `ddpm_step` and `ddim_step`."""


def beta_variance(schedule: NoiseSchedule, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
    """sigma^2 = beta: the variance of the forward step from s to t. float64 [B, 1, ...].

    The best one for normal data of variance 1 (eq-sigma-limits).
    """
    return step_variances(schedule, t, s, like)[0]


def beta_tilde_variance(schedule: NoiseSchedule, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
    """sigma^2 = beta_tilde: the variance of q(x_s | x_t, x_0). float64 [B, 1, ...].

    The best one for data that are a single point (eq-sigma-limits).
    """
    beta, noise_s, noise_t = step_variances(schedule, t, s, like)
    return noise_s / noise_t * beta


def zero_variance(schedule: NoiseSchedule, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
    """sigma^2 = 0: the ancestral step is its mean (eq-noise-free-mean). float64 [B, 1, ...]."""
    return torch.zeros_like(beta_variance(schedule, t, s, like))


def best_variance(error: Tensor) -> Variance:
    """The sigma^2 of the least bound, for a model with this mean squared error (eq-variance-place).

    error: E (eps - eps_hat)^2 of a coordinate at each t, a table [T + 1], as `oracle.least_error`
    makes it. sigma^2 is error_t / alpha_bar_t of the way from beta_tilde to beta, or beyond. t must
    be int64. Bao et al. 2022, theorem 1.
    """

    def variance(schedule: NoiseSchedule, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
        if error.shape != schedule.alpha_bar.shape:
            raise ValueError(f"error must have T + 1 = {schedule.T + 1} entries, got {len(error)}")
        place = at(error.double().cpu() / schedule.alpha_bar, t, like.double())
        beta_tilde = beta_tilde_variance(schedule, t, s, like)
        return beta_tilde + place * (beta_variance(schedule, t, s, like) - beta_tilde)

    return variance


def ddpm_step(
    schedule: NoiseSchedule,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    eps_hat: Tensor,
    z: Tensor,
    variance: Variance = beta_variance,
    clip: float | None = None,
) -> Tensor:
    """Algorithm 2 of Ho et al. 2020: the posterior's mean at x_0_hat, plus sigma z (eq-ddpm-step).

    x_t, eps_hat, z: [B, *D]; t: int64 [B] in 1..T; s: int64 [B] in 0..t-1; variance: sigma^2 of
    the step, any function like `beta_variance`; clip: x_0_hat is clamped to [-clip, clip].
    Returns x_s: [B, *D]. No noise is added at s = 0, so the last step returns x_0_hat.

    The ancestral step from t to any s (eq-ancestral-step); on neighbours, the textbook's. With
    s < t - 1, sigma^2 = beta is the sigma_hat of Song, Meng and Ermon 2021 (no eta has it,
    eq-ddim-excess).
    """
    check_samples(x_t=x_t, eps_hat=eps_hat, z=z)
    x_0_hat = _clip(predict_x_0(schedule, x_t, t, eps_hat), clip)
    mean, _ = posterior(schedule, x_0_hat, x_t, t, s)
    sigma = variance(schedule, t, s, x_t).sqrt().to(x_t.dtype)
    noisy = (s > 0).reshape(sigma.shape)
    return mean + torch.where(noisy, sigma, 0.0) * z


def ddim_step(
    schedule: NoiseSchedule,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    eps_hat: Tensor,
    z: Tensor,
    eta: float = 0.0,
    clip: float | None = None,
) -> Tensor:
    """Predicted x_0, direction to x_t, noise (eq-ddim-step; Song, Meng and Ermon 2021, eq. 12).

    Arguments as `ddpm_step`; eta in [0, 1] scales the noise: 0 is deterministic, a step of
    Euler's (eq-ddim-euler), 1 the posterior q(x_s | x_t, x_0) (eq-ddim-posterior). With clip,
    the direction keeps eps_hat consistent with the clamped x_0_hat. Returns x_s: [B, *D].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    check_samples(x_t=x_t, eps_hat=eps_hat, z=z)
    x_0_hat = _clip(predict_x_0(schedule, x_t, t, eps_hat), clip)
    if clip is not None:
        eps_hat = predict_eps(schedule, x_t, t, x_0_hat)
    var = eta**2 * beta_tilde_variance(schedule, t, s, x_t)
    alpha_bar = alpha_bar_like(schedule, s, x_t, first=0)
    direction = (1 - alpha_bar - var).clamp(min=0).sqrt()
    mean = alpha_bar.sqrt().to(x_t.dtype) * x_0_hat + direction.to(x_t.dtype) * eps_hat
    return mean + var.sqrt().to(x_t.dtype) * z


def ddim_heun_step(
    schedule: NoiseSchedule,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    eps_hat: Tensor,
    z: Tensor,
    model: Model,
) -> Tensor:
    """The DDIM step with the mean of the two eps_hat at its ends (Karras et al. 2022, algorithm 1).

    Arguments as `ddpm_step`, with one s for the whole batch; model: asked a second time, at x_s, in
    each step but the one to s = 0. Use ``partial(ddim_heun_step, model=model)``. z has no part.
    """
    x_s = ddim_step(schedule, x_t, t, s, eps_hat, z)
    if not (s > 0).all():  # no model knows clean data
        return x_s
    return ddim_step(schedule, x_t, t, s, (eps_hat + model(x_s, s)) / 2, z)


def dpm_solver_step(
    schedule: NoiseSchedule,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    eps_hat: Tensor,
    z: Tensor,
    before: tuple[Tensor, Tensor] | None = None,
    clip: float | None = None,
) -> Tensor:
    """DPM-Solver++(2M): DDIM at an x_0_hat carried on to mid-step (Lu et al. 2022, algorithm 2).

    Arguments as `ddpm_step`, with one s for the whole batch; before: the time and the x_0_hat of
    the step before, from which x_0_hat is carried on in a straight line over log SNR (eq-dpm-step).
    Without it, and at s = 0, where log SNR is infinite, this is `ddim_step`. z has no part. Returns
    x_s. Pass ``multistep(dpm_solver_step)`` to `sample`.
    """
    if before is None or not (s > 0).all():
        return ddim_step(schedule, x_t, t, s, eps_hat, z, clip=clip)
    r, x_0_before = before
    if not (r > t).all():
        raise ValueError("before must hold a time above t: a step before this one started there")
    x_0_hat = _clip(predict_x_0(schedule, x_t, t, eps_hat), clip)
    log_snr_r, log_snr_t, log_snr_s = (
        alpha_bar_like(schedule, at_time, x_t).logit() for at_time in (r, t, s)
    )
    ahead = 0.5 * (log_snr_s - log_snr_t) / (log_snr_t - log_snr_r)
    x_0_middle = x_0_hat + ahead.to(x_t.dtype) * (x_0_hat - _clip(x_0_before, clip))
    return ddim_step(schedule, x_t, t, s, predict_eps(schedule, x_t, t, x_0_middle), z)


def multistep(step: Step) -> Step:
    """``step``, told the time and the x_0_hat of the step ``before``, for `sample`.

    It remembers one step, and only while the walk goes on from where that step ended: a new walk
    begins without memory.
    """
    ended: tuple[Tensor, Tensor] | None = None
    before: tuple[Tensor, Tensor] | None = None

    def remembering(
        schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor, eps_hat: Tensor, z: Tensor
    ) -> Tensor:
        nonlocal ended, before
        goes_on = ended is not None and ended[0] is x_t and torch.equal(ended[1], t)
        x_s = step(schedule, x_t, t, s, eps_hat, z, before=before if goes_on else None)
        ended, before = (x_s, s), (t, predict_x_0(schedule, x_t, t, eps_hat))
        return x_s

    return remembering


def sample(
    model: Model,
    schedule: NoiseSchedule,
    shape: Sequence[int],
    step: Step = ddpm_step,
    steps: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    x_T: Tensor | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Walk from x_T ~ N(0, I) to x_0, yielding (s, x_s, x_0_hat) after each step, down to s = 0.

    shape: (B, *D); step: `ddpm_step`, `ddim_step` or a partial of them; steps: network calls, 1..T
    (None: all T), or the times themselves, as in `walk_times`; generator: on ``device``; x_T: start
    here instead of drawing it; dtype: None for torch's default. The noise z is drawn once a step,
    also where the step does not use it.
    """
    if not isinstance(shape, Sequence) or not shape or shape[0] < 1:
        raise ValueError(f"shape must be (B, ...) with B >= 1, got {shape!r}")
    times = walk_times(schedule, steps)
    options: dict[str, Any] = {"generator": generator, "device": device, "dtype": dtype}
    x = torch.randn(*shape, **options) if x_T is None else x_T
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"x_T must have the given shape {tuple(shape)}, got {tuple(x.shape)}")
    return _walk(model, schedule, x, times, step, generator)


@torch.no_grad()
def _walk(
    model: Model,
    schedule: NoiseSchedule,
    x: Tensor,
    times: Tensor,
    step: Step,
    generator: torch.Generator | None,
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """The loop of `sample`, apart from it so that wrong arguments raise at the call."""
    for t, s in zip(times.tolist(), times.tolist()[1:], strict=False):
        t_now = torch.full((len(x),), t, dtype=times.dtype, device=x.device)
        eps_hat = model(x, t_now)
        x_0_hat = predict_x_0(schedule, x, t_now, eps_hat)
        z = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = step(schedule, x, t_now, torch.full_like(t_now, s), eps_hat, z)
        yield s, x, x_0_hat


def walk_times(schedule: NoiseSchedule, steps: int | Tensor | None) -> Tensor:
    """The times of a walk: those given, or `timestep_grid` of so many steps (None: all T).

    Given times [n], n >= 2, are int64 or real, lie in [0, T] and never rise; where two neighbours
    are the same, the walk stands still in time, which only some steps allow (`sde.paused`). Real
    times become float64. Raises TypeError or ValueError.
    """
    if not isinstance(steps, Tensor):
        return timestep_grid(schedule.T, schedule.T if steps is None else steps)
    times = steps.double() if steps.is_floating_point() else steps
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must be [n] with n >= 2, got {list(times.shape)}")
    check_times(times, schedule.T, times.double(), first=0, name="times", real=True)
    if (times.diff() > 0).any():
        raise ValueError("times must never rise on the way to data: flip them")
    return times


def ddim_invert(
    model: Model,
    schedule: NoiseSchedule,
    x_0: Tensor,
    steps: int | Tensor | None = None,
    refine: int = 0,
) -> Iterator[tuple[float, Tensor]]:
    """Walk from x_0 up to the x_T that `ddim_step` (eta = 0) takes back to it: (t, x_t) a step.

    x_0: [B, *D]; steps: as in `sample`. The step down from x_t uses eps_hat(x_t, t), which is known
    only once x_t is. So eps_hat is first read at (x_s, t), the point where the step starts, and
    then ``refine`` times at the x_t so found: a fixed-point iteration, one network call each. It
    ends in the exact x_T where the steps are small against the slope of eps_hat. Where the way down
    contracts, as it does towards images, x_T is found less well than the x_0 that it leads to
    (eq-invert-step, eq-invert-slope).
    Song, Meng and Ermon 2021, section 5.4; Pan et al. 2023 for the refinement.
    """
    if refine < 0:
        raise ValueError(f"refine must be at least 0, got {refine}")
    check_samples(x_0=x_0)
    return _climb(model, schedule, x_0, walk_times(schedule, steps).flip(0), refine)


@torch.no_grad()
def _climb(
    model: Model, schedule: NoiseSchedule, x_s: Tensor, times: Tensor, refine: int
) -> Iterator[tuple[float, Tensor]]:
    """The loop of `ddim_invert`."""
    for s, t in zip(times.tolist(), times.tolist()[1:], strict=False):
        t_now = torch.full((len(x_s),), t, dtype=times.dtype, device=x_s.device)
        signal_s, noise_s = scales(schedule, torch.full_like(t_now, s), x_s, first=0)
        signal_t, noise_t = scales(schedule, t_now, x_s)
        x_t = x_s
        for _ in range(1 + refine):
            eps_hat = model(x_t, t_now)
            check_samples(x_t=x_t, eps_hat=eps_hat)
            x_t = signal_t * (x_s - noise_s * eps_hat) / signal_s + noise_t * eps_hat
        x_s = x_t
        yield t, x_s


def slerp(a: Tensor, b: Tensor, u: Tensor | float) -> Tensor:
    """From a (u = 0) to b (u = 1) on the arc between them (eq-slerp): how to blend two x_T.

    a, b: [B, *D]; u: a number, or [B]. Where a and b have one length, so has the blend; halfway on
    the straight line between two noises it would be 0.7 of theirs (eq-slerp-line). Raises
    ValueError for opposite or zero vectors, which name no arc. Shoemake 1985; Song, Meng and Ermon
    2021, D.5.
    """
    check_samples(a=a, b=b)
    column = (-1, *[1] * (a.ndim - 1))
    u = torch.as_tensor(u, dtype=a.dtype, device=a.device).reshape(column)
    flat_a, flat_b = (x.reshape(len(x), -1).double() for x in (a, b))
    lengths = flat_a.norm(dim=1) * flat_b.norm(dim=1)
    cosine = ((flat_a * flat_b).sum(1) / lengths).clamp(-1, 1)
    if not (cosine > -1 + 1e-12).all():  # NaN fails too
        raise ValueError("a and b must be neither zero nor opposite: no one arc joins them")
    angle = cosine.acos().clamp(min=1e-4).to(a.dtype).reshape(column)  # below it, a straight line
    return (((1 - u) * angle).sin() * a + (u * angle).sin() * b) / angle.sin()


def _clip(x_0_hat: Tensor, clip: float | None) -> Tensor:
    if clip is None:
        return x_0_hat
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip} (None: no clipping)")
    return x_0_hat.clamp(-clip, clip)
