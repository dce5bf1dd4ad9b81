"""From noise back to data: one step from t to s, and the loop over steps.

A model is any callable ``model(x_t, t) -> eps_hat``. A step is a pure function of its arguments:
the standard normal z comes in by the door, and only `sample` owns a generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .posterior import posterior, step_variances
from .prediction import Model, predict_x_0
from .schedule import NoiseSchedule, at, check_samples, timestep_grid

Variance = Callable[[NoiseSchedule, Tensor, Tensor, Tensor], Tensor]


def beta_variance(schedule: NoiseSchedule, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
    """sigma^2 = beta: the variance of the forward step from s to t. float64 [B, 1, ...]."""
    return step_variances(schedule, t, s, like)[0]


def beta_tilde_variance(schedule: NoiseSchedule, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
    """sigma^2 = beta_tilde: the variance of q(x_s | x_t, x_0). float64 [B, 1, ...]."""
    beta, noise_s, noise_t = step_variances(schedule, t, s, like)
    return noise_s / noise_t * beta


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
    """
    check_samples(x_t=x_t, eps_hat=eps_hat, z=z)
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    if clip is not None:
        x_0_hat = _clip(x_0_hat, clip)
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
    """Predicted x_0, direction to x_t, noise (Song, Meng and Ermon 2021, eq. 12).

    Arguments as `ddpm_step`; eta in [0, 1] scales the noise: 0 is deterministic, 1 has the
    variance of the posterior q(x_s | x_t, x_0). With clip, the direction keeps eps_hat consistent
    with the clamped x_0_hat. Returns x_s: [B, *D].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    check_samples(x_t=x_t, eps_hat=eps_hat, z=z)
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    if clip is not None:
        x_0_hat = _clip(x_0_hat, clip)
        signal = at(schedule.alpha_bar.sqrt(), t, x_t)
        eps_hat = (x_t - signal * x_0_hat) / at((1 - schedule.alpha_bar).sqrt(), t, x_t)
    var = eta**2 * beta_tilde_variance(schedule, t, s, x_t)
    direction = (at(1 - schedule.alpha_bar, s, x_t.double()) - var).clamp(min=0).sqrt()
    mean = at(schedule.alpha_bar.sqrt(), s, x_t) * x_0_hat + direction.to(x_t.dtype) * eps_hat
    return mean + var.sqrt().to(x_t.dtype) * z


def sample(
    model: Model,
    schedule: NoiseSchedule,
    shape: Sequence[int],
    step: Callable[..., Tensor] = ddpm_step,
    steps: int | None = None,
    generator: torch.Generator | None = None,
    x_T: Tensor | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Walk from x_T ~ N(0, I) to x_0, yielding (s, x_s, x_0_hat) after each step, down to s = 0.

    shape: (B, *D); step: `ddpm_step`, `ddim_step` or a partial of them; steps: network calls, 1..T
    (None: all T); generator: on ``device``; x_T: start here instead of drawing it; dtype: None for
    torch's default. The noise z is drawn once a step, also where the step does not use it.
    """
    if not isinstance(shape, Sequence) or not shape or shape[0] < 1:
        raise ValueError(f"shape must be (B, ...) with B >= 1, got {shape!r}")
    times = timestep_grid(schedule.T, schedule.T if steps is None else steps).tolist()
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
    times: Sequence[int],
    step: Callable[..., Tensor],
    generator: torch.Generator | None,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The loop of `sample`, apart from it so that wrong arguments raise at the call."""
    for t, s in zip(times, times[1:], strict=False):
        t_now = torch.full((len(x),), t, device=x.device)
        eps_hat = model(x, t_now)
        x_0_hat = predict_x_0(schedule, x, t_now, eps_hat)
        z = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = step(schedule, x, t_now, torch.full_like(t_now, s), eps_hat, z)
        yield s, x, x_0_hat


def _clip(x_0_hat: Tensor, clip: float) -> Tensor:
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip} (None: no clipping)")
    return x_0_hat.clamp(-clip, clip)
