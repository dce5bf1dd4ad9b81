"""x_0, eps, v and the score are one thing: the conversions, given x_t and t.

All x: [B, *D]; t: int64 [B] in 1..T, or real [B] in (0, T]. Everything returned has the shape of x.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .checks import check_samples, check_slope, kind
from .schedule import NoiseSchedule, scales

Model = Callable[[Tensor, Tensor], Tensor]
"""A denoiser: ``model(x_t, t) -> eps_hat``, with t a tensor [B], int64 for the chain or real. The
exact one, a network and a guided one are interchangeable everywhere."""


def predict_x_0(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """The x_0 that x_t and eps imply: eq-forward-closed solved for x_0 (eq-x0-from-eps)."""
    check_samples(x_t=x_t, eps=eps)
    signal, noise = scales(schedule, t, x_t)
    return (x_t - noise * eps) / signal


def predict_eps(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
    """The eps that x_t and x_0 imply: eq-forward-closed solved for eps (eq-eps-from-x0)."""
    check_samples(x_t=x_t, x_0=x_0)
    signal, noise = scales(schedule, t, x_t)
    return (x_t - signal * x_0) / noise


def to_v(schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (def-v). Salimans and Ho 2022."""
    check_samples(x_0=x_0, eps=eps)
    signal, noise = scales(schedule, t, x_0)
    return signal * eps - noise * x_0


def from_v(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """x_0 and eps from x_t and v: the rotation turned back (eq-v-rotation)."""
    check_samples(x_t=x_t, v=v)
    signal, noise = scales(schedule, t, x_t)
    return signal * x_t - noise * v, noise * x_t + signal * v


def score(schedule: NoiseSchedule, eps: Tensor, t: Tensor) -> Tensor:
    """The score that eps stands for: -eps / sqrt(1 - alpha_bar) (eq-score-eps)."""
    check_samples(eps=eps)
    _, noise = scales(schedule, t, eps)
    return -eps / noise


def checked(model: Model, x_t: Tensor, t: Tensor) -> Tensor:
    """eps_hat = model(x_t, t); raises ValueError where it has not the shape of x_t."""
    eps_hat = model(x_t, t)
    if not isinstance(eps_hat, Tensor) or eps_hat.shape != x_t.shape:
        got = list(eps_hat.shape) if isinstance(eps_hat, Tensor) else kind(eps_hat)
        raise ValueError(f"model must return eps_hat like x_t, {list(x_t.shape)}, got {got}")
    return eps_hat


def clipped(model: Model, schedule: NoiseSchedule, limit: float = 1.0) -> Model:
    """The model whose x_0_hat is that of ``model``, clamped to [-limit, limit].

    It returns the eps_hat that belongs to the clamped x_0_hat (eq-eps-from-x0), so every sampler
    sees the two agree. For images in [-1, 1]: limit = 1.
    """
    if not limit > 0:
        raise ValueError(f"limit must be positive, got {limit}")

    def model_in_range(x_t: Tensor, t: Tensor) -> Tensor:
        eps_hat = checked(model, x_t, t)
        check_slope(lambda x: model(x, t), x_t, eps_hat)  # x_t itself would hide that
        x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
        return predict_eps(schedule, x_t, t, x_0_hat.clamp(-limit, limit))

    return model_in_range
