"""The score, learned and followed: four losses with one minimum, and Langevin's walk.

A score function is any ``score(x) -> [B, *D]`` with x: [B, *D], where each row of the result
depends on its own row of x alone. The losses return one number a sample, [B], so that a mean comes
with its error bar; gradients flow through them, to train by.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import prediction
from .checks import check_batch, check_samples, check_slope, readable
from .forward import q_sample
from .schedule import NoiseSchedule, alpha_bar_like

Field = Callable[[Tensor], Tensor]


def divergence(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """A field's value [B, *D] and its divergence sum_d d field_d / d x_d, [B], at x: [B, *D].

    Exact: one backward pass for each of the D coordinates. `sliced_divergence` needs one alone.
    """
    check_batch(x=x)
    with torch.inference_mode(False), torch.enable_grad():
        x, value = _differentiable(field, x)
        flat = value.reshape(len(x), -1)
        total = torch.zeros_like(flat[:, 0])
        for d in range(flat.shape[1]):
            total = total + _gradient(flat[:, d], x).reshape(len(x), -1)[:, d]
    return value, total


def sliced_divergence(field: Field, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """A field's value and v^T J v, J its Jacobian at x, [B]: the slope along v. Hutchinson 1989.

    x, v: [B, *D]. Where v has mean 0 and covariance I, its mean is the divergence
    (eq-sliced-trace); least noisy with entries -1 and 1 (eq-hutchinson-variance).
    """
    check_batch(x=x, v=v)
    with torch.inference_mode(False), torch.enable_grad():
        x, value = _differentiable(field, x)
        v = v.clone()  # of inference mode it could not be kept for the way back
        slope = _sum(v * _gradient((v * value).reshape(len(x), -1).sum(1), x))
    return value, slope


def explicit_loss(score: Field, x: Tensor, target: Tensor) -> Tensor:
    """1/2 |score(x) - target|^2, [B], with the true score as target: what cannot be had from data.

    x, target: [B, *D]; x has the law whose score is learned (def-score-explicit). Hyvarinen 2005.
    """
    check_batch(x=x, target=target)
    value = score(x)
    check_samples(x=x, value=value)
    return 0.5 * _sum((value - target) ** 2)


def implicit_loss(score: Field, x: Tensor) -> Tensor:
    """div score(x) + 1/2 |score(x)|^2, [B]: by parts, the explicit loss up to a constant.

    x: [B, *D]. The constant is 1/2 E |true score|^2 (eq-score-loss-implicit). Hyvarinen 2005,
    theorem 1.
    """
    value, slope = divergence(score, x)
    return slope + 0.5 * _sum(value**2)


def sliced_loss(score: Field, x: Tensor, v: Tensor) -> Tensor:
    """v^T J v + 1/2 |score(x)|^2, [B]: the implicit loss with the divergence seen along v alone.

    x, v: [B, *D], v as in `sliced_divergence` (eq-score-loss-sliced). Song, Garg, Shi and Ermon
    2019.
    """
    value, slope = sliced_divergence(score, x, v)
    return slope + 0.5 * _sum(value**2)


def denoising_loss(
    score: Field, schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor
) -> Tensor:
    """1/2 |score(x_t) - grad log q(x_t | x_0)|^2, [B]: the target is what one x_0 alone would say.

    x_0, eps: [B, *D]; t: int64 [B] in 1..T. For the law of x_t it differs from the explicit loss by
    a constant, by (eq-conditional-mean): (eq-score-loss-denoising). Vincent 2011.
    """
    target = prediction.score(schedule, eps, t)
    return explicit_loss(score, q_sample(schedule, x_0, t, eps), target)


def langevin_step(x: Tensor, score: Tensor, delta: float | Tensor, z: Tensor) -> Tensor:
    """x + delta score + sqrt(2 delta) z: uphill in density, with just enough noise to stay a law.

    x, score, z: [B, *D]; delta > 0: a number, or [B, 1, ...]. As delta goes to 0, the law of x
    goes to the one that has this score, from any start and in its own time (def-score-walk,
    eq-langevin-stationary).
    """
    check_samples(x=x, score=score, z=z)
    delta = torch.as_tensor(delta, dtype=x.dtype, device=x.device)
    column = [len(x), *[1] * (x.ndim - 1)]
    if delta.ndim and list(delta.shape) != column:
        raise ValueError(f"delta must be a number or {column}, got {list(delta.shape)}")
    if readable(delta) and not (delta > 0).all():
        raise ValueError(f"delta must be positive, got {delta.min():g}")
    return x + delta * score + (2 * delta).sqrt() * z


def annealed_langevin_step(
    schedule: NoiseSchedule,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    eps_hat: Tensor,
    z: Tensor,
    size: float = 0.1,
) -> Tensor:
    """A Langevin step at the noise level of t, for `sampling.sample`; s does not matter.

    Arguments as `sampling.ddpm_step`; size: delta over the noise's variance 1 - alpha_bar_t. On
    times that pause, as those of `times.paused`, this is annealed Langevin dynamics; on times that
    are all the same, the plain one. Song and Ermon 2019, algorithm 1.
    """
    delta = size * (1 - alpha_bar_like(schedule, t, x_t)).to(x_t.dtype)
    return langevin_step(x_t, prediction.score(schedule, eps_hat, t), delta, z)


def _differentiable(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """x, ready to be differentiated by, and the field there; ValueError where no slope is seen."""
    x = x if x.requires_grad else x.detach().clone().requires_grad_()
    value = field(x)
    check_samples(x=x, value=value)
    check_slope(field, x, value)
    return x, value


def _gradient(outputs: Tensor, x: Tensor) -> Tensor:
    """The gradient of each sample's output [B] with respect to its x: [B, *D]."""
    if not outputs.requires_grad:  # a constant field
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(
        outputs.sum(), x, create_graph=True, allow_unused=True, materialize_grads=True
    )
    return gradient


def _sum(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).sum(1)
