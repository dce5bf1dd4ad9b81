"""What was seen of x_0 bends what is drawn: a noisy linear measurement, or a part of an image.

p(y | x_0) is known here, but p(y | x_t), which Bayes' rule for scores asks for (eq-guidance-bayes),
is not: `measured` puts a normal law around x_0_hat in its place, and `inpaint` replaces a part of
x_t. Both are approximations; `mixture.GaussianMixture.log_likelihood` has the exact one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .checks import check_batch, check_samples, check_slope, kind
from .guidance import check_length, check_scale, column, gradient_of, leaf
from .posterior import step_variances
from .prediction import Model, checked, predict_x_0
from .sampling import Step, Walk, at_time, begin, ddpm_step, stages
from .schedule import NoiseSchedule, alpha_bar_like, scales
from .times import Times


def measured(
    model: Model,
    schedule: NoiseSchedule,
    A: Tensor,
    y: Tensor,
    std: float,
    data_std: float = 1.0,
    scale: float | Tensor = 1.0,
) -> Model:
    """The model guided by a measurement y = A x_0 + std n, through x_0_hat (eq-measured).

    A: [M, D], where D coordinates make a sample; y: [B, M], or [M] for all; std >= 0. As if x_0,
    given x_t, were normal around x_0_hat, its variance r^2 = d^2 (1 - alpha_bar) / (alpha_bar d^2 +
    1 - alpha_bar) with d = data_std: that of data of this std, for which all is exact. Then y is
    normal around A x_0_hat with covariance std^2 I + r^2 A A^T. data_std = 1: the pseudo-inverse
    guidance of Song, Vahdat, Mardani and Kautz 2023; data_std = 0: x_0_hat taken for x_0 itself, as
    Chung et al. 2023 do, whose gradient grows as 1 / std^2, so that steps must be short. The model
    must be differentiable, and not `clipped`: clip the guided one.
    """
    check_scale(scale)
    values, axes = _spectrum(A, std, data_std)
    if not isinstance(y, Tensor) or y.ndim not in (1, 2) or y.shape[-1] != len(A):
        got = list(y.shape) if isinstance(y, Tensor) else kind(y)
        raise ValueError(f"y must be [B, M] or [M] with M = {len(A)}, the rows of A, got {got}")
    check_samples(y=y)

    def model_measured(x_t: Tensor, t: Tensor) -> Tensor:
        _check_rows(A, y, x_t)
        rows, turn = A.to(x_t), axes.to(x_t)
        alpha_bar = alpha_bar_like(schedule, t, x_t).reshape(-1, 1)
        r = data_std**2 * (1 - alpha_bar) / (alpha_bar * data_std**2 + 1 - alpha_bar)
        variances = (std**2 + r * values.to(r)).to(x_t)  # [B, M]
        with torch.inference_mode(False), torch.enable_grad():
            x = leaf(x_t)
            eps_hat = checked(model, x, t)
            check_slope(lambda x: model(x, t), x, eps_hat)
            seen = predict_x_0(schedule, x, t, eps_hat).reshape(len(x), -1) @ rows.T
            residual = (y.to(x_t) - seen).detach() @ turn
            gradient = gradient_of((seen * (residual / variances @ turn.T)).sum(), x)
        _, noise = scales(schedule, t, x_t)
        return eps_hat.detach() - column(scale, x_t) * noise * gradient

    return model_measured


def inpaint(
    model: Model,
    schedule: NoiseSchedule,
    x_0: Tensor,
    hidden: Tensor,
    step: Step = ddpm_step,
    steps: Times = None,
    generator: torch.Generator | None = None,
    resample: int = 1,
) -> Walk:
    """Draw what is hidden of x_0: at each t the rest of x_t is one of q(x_t | x_0) (def-inpaint).

    x_0: [B, *D], its hidden part of no matter but finite; hidden: bool [B, *D], or [*D] for all,
    True where x is to be drawn; step, steps, generator and yield as of `sampling.sample`; the last
    x_s has x_0's own values where nothing is hidden. resample: how often each step but the last is
    taken; before each again, x_s is noised back to t (Lugmayr et al. 2022, algorithm 1). Not a draw
    of p(hidden | rest): what is drawn at t fits a rest that was noised anew.
    """
    check_batch(x_0=x_0)
    if not isinstance(hidden, Tensor) or hidden.dtype != torch.bool:
        raise TypeError(f"hidden must be a bool tensor, True where x is drawn, got {kind(hidden)}")
    if hidden.shape not in (x_0.shape, x_0.shape[1:]):
        raise ValueError(
            f"hidden must be {list(x_0.shape)} as x_0, or {list(x_0.shape[1:])} for all of them, "
            f"got {list(hidden.shape)}"
        )
    if not isinstance(resample, int) or resample < 1:
        raise ValueError(f"resample must be a whole number of at least 1, got {resample!r}")
    options: dict[str, Any] = {"generator": generator, "device": x_0.device, "dtype": x_0.dtype}
    x, times = begin(schedule, x_0.shape, steps, **options)
    if not (times.diff() < 0).all():
        raise ValueError("times must fall at each step: what is replaced belongs to its time")
    return _inpaint(
        model, schedule, x, x_0, hidden.to(x_0.device), times, step, generator, resample
    )


@torch.no_grad()
def _inpaint(
    model: Model,
    schedule: NoiseSchedule,
    x: Tensor,
    x_0: Tensor,
    hidden: Tensor,
    times: Tensor,
    step: Step,
    generator: torch.Generator | None,
    resample: int,
) -> Walk:
    """The loop of `inpaint`."""

    def z() -> Tensor:
        return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)

    def replaced(x: Tensor, t: Tensor) -> Tensor:
        signal, noise = scales(schedule, t, x_0, first=0)
        return torch.where(hidden, x, signal * x_0 + noise * z())

    x = replaced(x, at_time(times[0].item(), x))
    for t, s in stages(times):
        t_now, s_now = at_time(t, x), at_time(s, x)
        for turn in range(resample if s > 0 else 1):
            if turn:
                beta = step_variances(schedule, t_now, s_now, x)[0]
                x = (1 - beta).sqrt().to(x.dtype) * x + beta.sqrt().to(x.dtype) * z()
                x = replaced(x, t_now)
            eps_hat = checked(model, x, t_now)
            x_0_hat = predict_x_0(schedule, x, t_now, eps_hat)
            x = replaced(step(schedule, x, t_now, s_now, eps_hat, z()), s_now)
        yield s, x.clone(), x_0_hat


def _spectrum(A: Tensor, std: float, data_std: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues [M] and eigenvectors [M, M] of A A^T, float64; A, std and data_std checked."""
    if not isinstance(A, Tensor) or not A.is_floating_point() or A.ndim != 2 or not A.numel():
        got = list(A.shape) if isinstance(A, Tensor) else kind(A)
        raise ValueError(f"A must be a floating-point matrix [M, D], got {got}")
    check_samples(A=A)
    for name, value in (("std", std), ("data_std", data_std)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {value}")
    values, axes = torch.linalg.eigh((A.double() @ A.double().T).cpu())
    values = values.clamp(min=0)
    least = float(std**2 + data_std**2 * values[0])
    if not least > 1e-12 * float(values[-1]):
        raise ValueError(
            "std must be positive where data_std is 0, or where rows of A depend on one another: "
            f"the measurement would have no variance, got std = {std}"
        )
    return values, axes


def _check_rows(A: Tensor, y: Tensor, x_t: Tensor) -> None:
    """Raise ValueError unless A takes samples like x_t, and y has one row for each."""
    if x_t[0].numel() != A.shape[1]:
        raise ValueError(
            f"A must have a column for each of the {x_t[0].numel()} coordinates of a sample, got "
            f"{list(A.shape)} for a batch {list(x_t.shape)}"
        )
    if y.ndim == 2:
        check_length("y", y, x_t)
