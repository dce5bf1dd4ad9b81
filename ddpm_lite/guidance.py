"""From p(x) to p(x | y): what bends a model towards a label, by its own hand or a classifier's.

Bayes' rule for scores holds at every noise level (eq-guidance-bayes): grad log p(x_t | y) =
grad log p(x_t) + grad log p(y | x_t). So each of these is a function from model to model: it takes
eps_hat to eps_hat - sqrt(1 - alpha_bar) times what is added to the score. `measurement` does the
same for what was seen of x_0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .checks import check_labels, check_slope, kind, readable
from .prediction import Model, checked
from .schedule import NoiseSchedule, scales

Labelled = Callable[..., Tensor]
"""``model(x_t, t, y=None) -> eps_hat``: y int64 [B], or left out where no label is asked for."""
LogLikelihood = Callable[[Tensor, Tensor], Tensor]
"""``log_likelihood(x_t, t)`` -> log p(y | x_t) of each sample, [B], for the y that is wanted."""


def classifier_free(model: Labelled, y: Tensor, scale: float | Tensor = 1.0) -> Model:
    """eps_none + scale (eps_y - eps_none): away from no label, through y (eq-classifier-free).

    y: int64 [B], a label for each sample of the batches to come; scale: a number, or [B]. 0 is the
    model that knows no label, 1 the conditional one; beyond 1 it is as if log p(y | x_t), which the
    two models imply, were multiplied by ``scale``. Ho and Salimans 2021 count from the conditional
    model: (1 + w) eps_y - w eps_none, with w = scale - 1. Two network calls, but one at 0 and at 1.
    """
    check_labels_given(y)
    check_scale(scale)

    def guided_by_label(x_t: Tensor, t: Tensor) -> Tensor:
        check_length("y", y, x_t)
        by, asked = column(scale, x_t), partial(model, y=y.to(x_t.device))
        if not isinstance(scale, Tensor) and scale in (0, 1):
            return checked(asked if scale else model, x_t, t)
        eps_none = checked(model, x_t, t)
        return eps_none + by * (checked(asked, x_t, t) - eps_none)

    return guided_by_label


def guided(
    model: Model,
    schedule: NoiseSchedule,
    log_likelihood: LogLikelihood,
    scale: float | Tensor = 1.0,
) -> Model:
    """The model whose score has scale times grad log p(y | x_t) added (eq-guided-eps).

    log_likelihood(x_t, t) -> [B], of noisy x_t, each of its own sample alone; autograd must see it.
    scale: a number, or [B]. With scale = 1 and the true log p(y | x_t) it is the exact conditional
    model; with any other scale not that of p(x) p(y | x)^scale, see the book.
    """
    check_scale(scale)

    def model_guided(x_t: Tensor, t: Tensor) -> Tensor:
        eps_hat, (_, noise) = checked(model, x_t, t), scales(schedule, t, x_t)
        return eps_hat - column(scale, x_t) * noise * slope(log_likelihood, x_t, t)

    return model_guided


def classifier_guided(
    model: Model,
    schedule: NoiseSchedule,
    classifier: Callable[[Tensor, Tensor], Tensor],
    y: Tensor,
    scale: float | Tensor = 1.0,
) -> Model:
    """`guided` by a classifier of noisy samples (def-classifier-guidance).

    classifier(x_t, t) -> logits [B, C]; y: int64 [B] in 0..C - 1. Dhariwal and Nichol 2021,
    algorithm 2.
    """
    check_labels_given(y)

    def log_likelihood(x_t: Tensor, t: Tensor) -> Tensor:
        logits = classifier(x_t, t)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x_t):
            got = list(logits.shape) if isinstance(logits, Tensor) else kind(logits)
            raise ValueError(f"classifier must return logits [B, C] = [{len(x_t)}, C], got {got}")
        check_labels(y, len(x_t), logits.shape[1])
        own = y.to(x_t.device)[:, None]
        return logits.log_softmax(1).gather(1, own)[:, 0]

    return guided(model, schedule, log_likelihood, scale)


def within(guided: Model, plain: Model, low: float, high: float) -> Model:
    """``guided`` at low <= t <= high, and ``plain`` elsewhere (def-guidance-interval).

    0 <= low <= high, in steps of the schedule. Kynkaanniemi et al. 2024. Where all of a batch are
    at one side, as in a walk, the other model is not asked.
    """
    if not 0 <= low <= high:
        raise ValueError(f"low and high must be 0 <= low <= high, got {low} and {high}")

    def model_within(x_t: Tensor, t: Tensor) -> Tensor:
        inside = (low <= t) & (t <= high)
        if inside.all():
            return checked(guided, x_t, t)
        if not inside.any():
            return checked(plain, x_t, t)
        chosen = inside.reshape(-1, *[1] * (x_t.ndim - 1))
        return torch.where(chosen, checked(guided, x_t, t), checked(plain, x_t, t))

    return model_within


# ---- what they share -----------------------------------------------------------------------------


def check_scale(scale: float | Tensor) -> None:
    """Raise TypeError or ValueError unless scale is a finite number, or finite numbers [B]."""
    if isinstance(scale, Tensor) and scale.is_floating_point() and scale.ndim <= 1:
        finite = not readable(scale) or bool(scale.isfinite().all())
    elif isinstance(scale, int | float) and not isinstance(scale, bool):
        finite = math.isfinite(scale)
    else:
        raise TypeError(f"scale must be a number, or a floating-point tensor [B], got {scale!r}")
    if not finite:
        raise ValueError(f"scale must be finite, got {scale}")


def check_labels_given(y: Tensor) -> None:
    """Raise TypeError or ValueError unless y are labels int64 [B], none negative."""
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.ndim != 1 or not len(y):
        got = f"{y.dtype} {list(y.shape)}" if isinstance(y, Tensor) else kind(y)
        raise TypeError(f"y must be int64 [B], got {got}: torch.full((B,), 3) for all threes")
    if readable(y) and y.min() < 0:
        raise ValueError(f"y must not be negative, got {y.min()}: for no label leave y out")


def column(scale: float | Tensor, x: Tensor) -> float | Tensor:
    """The scale, to multiply x: a number as it is, [B] as [B, 1, ...]."""
    if not isinstance(scale, Tensor) or scale.ndim == 0:
        return scale if not isinstance(scale, Tensor) else scale.to(x)
    check_length("scale", scale, x)
    return scale.to(x).reshape(-1, *[1] * (x.ndim - 1))


def slope(log_likelihood: LogLikelihood, x_t: Tensor, t: Tensor) -> Tensor:
    """The gradient of log_likelihood(x_t, t) by x_t, for each sample: [B, *D], without a graph."""
    with torch.inference_mode(False), torch.enable_grad():
        x = leaf(x_t)
        value = log_likelihood(x, t)
        if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
            got = list(value.shape) if isinstance(value, Tensor) else kind(value)
            raise ValueError(f"log_likelihood must return one number a sample, [B], got {got}")
        check_slope(lambda x: log_likelihood(x, t), x, value)
        return gradient_of(value.sum(), x)


def leaf(x_t: Tensor) -> Tensor:
    """A copy of x_t to differentiate by."""
    return x_t.detach().clone().requires_grad_()


def gradient_of(total: Tensor, x: Tensor) -> Tensor:
    """The gradient of a scalar by x; 0 where it does not depend on x."""
    if not total.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(total, x, allow_unused=True, materialize_grads=True)
    return gradient


def check_length(name: str, values: Tensor, x_t: Tensor) -> None:
    if len(values) != len(x_t):
        raise ValueError(
            f"{name} must have an entry for each sample of the batch, {len(x_t)}, got {len(values)}"
        )
