"""From noise back to data: one step from t to s, and the walk over steps.

A model is any callable ``model(x_t, t) -> eps_hat``; what changes a model (`prediction.clipped`)
is a function from model to model. A step is a pure function of its arguments: the standard normal
z comes in by the door, and only `sample` owns a generator. What asks the model twice, or remembers
an earlier step, is a walk of its own in `solvers`. Times are int64, or real where the model takes
them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .checks import check_batch, check_finite, check_samples, kind
from .posterior import posterior, step_variances
from .prediction import Model, checked, predict_x_0
from .schedule import NoiseSchedule, alpha_bar_like, at, check_table
from .times import Times, walk_times

Variance = Callable[[NoiseSchedule, Tensor, Tensor, Tensor], Tensor]
Step = Callable[..., Tensor]
"""``step(schedule, x_t, t, s, eps_hat, z) -> x_s``, as `ddpm_step` and `ddim_step`."""
Walk = Iterator[tuple[float, Tensor, Tensor]]
"""(s, x_s, x_0_hat) after each step: what `sample` and every solver yields."""


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

    error: E (eps - eps_hat)^2 of a coordinate at each t, a table [T + 1], as `density.least_error`
    makes it. sigma^2 is error_t / alpha_bar_t of the way from beta_tilde to beta, or beyond. t must
    be int64. For the exact denoiser Bao, Li, Zhu and Zhang 2022, theorem 1; for an imperfect one
    Bao, Li, Sun, Zhu and Zhang 2022.
    """
    error = torch.as_tensor(error, dtype=torch.float64, device="cpu")  # once: steps do not wait

    def variance(schedule: NoiseSchedule, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
        check_table(schedule, error=error)
        place = at(error / schedule.alpha_bar, t, like.double())
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
) -> Tensor:
    """Algorithm 2 of Ho et al. 2020: the posterior's mean at x_0_hat, plus sigma z (eq-ddpm-step).

    x_t, eps_hat, z: [B, *D]; t: int64 [B] in 1..T; s: int64 [B] in 0..t-1; variance: sigma^2 of
    the step, any function like `beta_variance`. Returns x_s: [B, *D]. No noise is added at s = 0,
    so the last step returns x_0_hat.

    The ancestral step from t to any s (eq-ancestral-step); on neighbours, the textbook's. With
    s < t - 1, sigma^2 = beta is the sigma_hat of Song, Meng and Ermon 2021 (no eta has it,
    eq-ddim-excess).
    """
    check_samples(x_t=x_t, eps_hat=eps_hat, z=z)
    if not callable(variance):
        raise TypeError(
            f"variance must be a function as `beta_tilde_variance`, got {kind(variance)}: for a "
            "table [T + 1], lambda schedule, t, s, like: at(table, t, like)"
        )
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
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
) -> Tensor:
    """Predicted x_0, direction to x_t, noise (eq-ddim-step; Song, Meng and Ermon 2021, eq. 12).

    Arguments as `ddpm_step`; eta in [0, 1] scales the noise: 0 is deterministic, a step of
    Euler's (eq-ddim-euler), 1 the posterior q(x_s | x_t, x_0) (eq-ddim-posterior). Returns x_s:
    [B, *D].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    check_samples(x_t=x_t, eps_hat=eps_hat, z=z)
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    var = eta**2 * beta_tilde_variance(schedule, t, s, x_t)
    alpha_bar = alpha_bar_like(schedule, s, x_t, first=0)
    direction = (1 - alpha_bar - var).clamp(min=0).sqrt()
    mean = alpha_bar.sqrt().to(x_t.dtype) * x_0_hat + direction.to(x_t.dtype) * eps_hat
    return mean + var.sqrt().to(x_t.dtype) * z


def sample(
    model: Model,
    schedule: NoiseSchedule,
    shape: Sequence[int],
    step: Step = ddpm_step,
    steps: Times = None,
    generator: torch.Generator | None = None,
    x_T: Tensor | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    until: float = 0,
) -> Walk:
    """Walk from x_T ~ N(0, I) to x_0, yielding (s, x_s, x_0_hat) after each step, down to s = 0.

    shape: (B, *D); step: `ddpm_step`, `ddim_step` or a partial of them; steps: network calls, 1..T
    (None: all T), or the times themselves, as in `walk_times`; generator: on ``device``; x_T: start
    here instead of drawing it; dtype: None for torch's default; until: where given times end, if
    not at 0. The noise z is drawn once a step, so that walks of one seed meet the same noise,
    whatever their step. What is yielded is the caller's: changing it does not change the walk.
    """
    x, times = begin(schedule, shape, steps, generator, x_T, device, dtype, until)
    return _walk(model, schedule, x, times, step, generator)


@torch.no_grad()
def _walk(
    model: Model,
    schedule: NoiseSchedule,
    x: Tensor,
    times: Tensor,
    step: Step,
    generator: torch.Generator | None,
) -> Walk:
    """The loop of `sample`, apart from it so that wrong arguments raise at the call."""
    for t, s in stages(times):
        t_now, s_now = at_time(t, x), at_time(s, x)
        eps_hat = checked(model, x, t_now)
        z = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x_0_hat = predict_x_0(schedule, x, t_now, eps_hat)
        x = step(schedule, x, t_now, s_now, eps_hat, z)
        yield s, x.clone(), x_0_hat


def last(walk: Iterator[tuple]) -> Tensor:
    """The x at the end of a walk: of `sample`, of a solver, of `solvers.ddim_invert`."""
    stops = [x for _, x, *_ in deque(walk, maxlen=1)]
    if not stops:
        raise ValueError("the walk has ended already: a walk is an iterator, to be used once")
    return stops[0]


def begin(
    schedule: NoiseSchedule,
    shape: Sequence[int],
    steps: Times = None,
    generator: torch.Generator | None = None,
    x_T: Tensor | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    until: float = 0,
) -> tuple[Tensor, Tensor]:
    """Where a walk starts, [B, *D], and its times: the arguments of `sample`, checked."""
    if not isinstance(shape, Sequence) or not shape or shape[0] < 1:
        raise ValueError(f"shape must be (B, ...) with B >= 1, got {shape!r}")
    times = walk_times(schedule, steps)
    if not math.isclose(times[-1], until, rel_tol=1e-6):  # times may come in float32
        raise ValueError(
            f"times must end at {until:g}, got {times[-1]:g}: append {until:g}, or say where they "
            f"end with until={times[-1]:g}"
        )
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"dtype must be of floating-point numbers, got {dtype}")
    options: dict[str, Any] = {"generator": generator, "device": device, "dtype": dtype}
    x = torch.randn(*shape, **options) if x_T is None else x_T
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"x_T must have the given shape {tuple(shape)}, got {tuple(x.shape)}")
    check_batch(x_T=x)
    check_finite("x_T", x)  # once, at the door, on a device too
    return x, times


def stages(times: Tensor) -> Iterator[tuple[float, float]]:
    """The steps of a walk on these times: pairs (t, s)."""
    return zip(times.tolist(), times.tolist()[1:], strict=False)


def at_time(t: float, x: Tensor) -> Tensor:
    """The time t for each of the batch x, [B]: int64 for an int, float64 for a float."""
    dtype = torch.int64 if isinstance(t, int) else torch.float64
    return torch.full((len(x),), t, dtype=dtype, device=x.device)
