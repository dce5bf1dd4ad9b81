"""The bug lab: wrong twins of right functions, each with one classic mistake (chapter 23).

A twin has the arguments of the function that it is a twin of, and differs from it in one place.
`BUGS` puts each into an otherwise right `Program`, in which `doctor.diagnose` must find it, and
nothing in the right one. Nothing else imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout

from .doctor import Program
from .forward import q_sample
from .guidance import classifier_free
from .prediction import Model, clipped, predict_x_0
from .sampling import Step, beta_variance, ddim_step, ddpm_step, last, sample
from .schedule import NoiseSchedule, at, linear_schedule
from .times import Times, leading_grid

# ---- noise: twins of forward.q_sample ------------------------------------------------------------


def q_sample_no_root(schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """alpha_bar x_0 + (1 - alpha_bar) eps: the roots are missing."""
    return at(schedule.alpha_bar, t, x_0) * x_0 + at(1 - schedule.alpha_bar, t, x_0) * eps


def q_sample_one_step(schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """alpha_t where alpha_bar_t should stand: the noise of one step, at every t."""
    return at(schedule.alpha.sqrt(), t, x_0) * x_0 + at(schedule.beta.sqrt(), t, x_0) * eps


def q_sample_late(schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """alpha_bar_{t-1} where alpha_bar_t should stand: the noise of one step before."""
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    return at(signal, t - 1, x_0) * x_0 + at(noise, t - 1, x_0) * eps


# ---- schedules -----------------------------------------------------------------------------------


def short_schedule(T: int = 100) -> NoiseSchedule:
    """The beta of a thousand steps for a hundred: at the end a good part of the data is left."""
    return linear_schedule(T, 1e-4, 0.02)


def unclipped_cosine(T: int = 1000, offset: float = 0.008) -> Tensor:
    """alpha_bar [T + 1] of the cosine schedule without its clip: at T it is 0, but for rounding."""
    angle = (torch.arange(T + 1, dtype=torch.float64) / T + offset) / (1 + offset)
    alpha_bar = (angle * math.pi / 2).cos() ** 2
    return alpha_bar / alpha_bar[0]


# ---- the loss: twins of a mean squared error, and of independent times ---------------------------


def squared_error(eps_hat: Tensor, eps: Tensor) -> Tensor:
    """The right one."""
    return ((eps_hat - eps) ** 2).mean()


def error_to_fresh_noise(eps_hat: Tensor, eps: Tensor) -> Tensor:
    """The target is another noise than the one in x_t."""
    return ((eps_hat - torch.randn_like(eps)) ** 2).mean()


def error_of_all_pairs(eps_hat: Tensor, eps: Tensor) -> Tensor:
    """[B, 1] minus [B] is [B, B]: each answer is compared with each noise of the batch."""
    return ((eps_hat[:, None] - eps) ** 2).mean()


def random_times(n: int, T: int) -> Tensor:
    """The right ones: n independent times in 1..T."""
    return torch.randint(1, T + 1, (n,))


def one_time(n: int, T: int) -> Tensor:
    """One t for all of the batch."""
    return torch.randint(1, T + 1, (1,)).expand(n)


# ---- steps: twins of sampling.ddpm_step ----------------------------------------------------------


def step_noisy_end(
    schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor, eps_hat: Tensor, z: Tensor
) -> Tensor:
    """The last step adds noise like all others: that of its first, of width sqrt(beta_1)."""
    mean = ddpm_step(schedule, x_t, t, s, eps_hat, z)
    ends = (s == 0).to(x_t).reshape(-1, *[1] * (x_t.ndim - 1))
    return mean + ends * float(schedule.beta[1].sqrt()) * z


def step_wrong_sign(
    schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor, eps_hat: Tensor, z: Tensor
) -> Tensor:
    """eps is added where it should be taken away."""
    return ddpm_step(schedule, x_t, t, s, -eps_hat, z)


def step_variance_for_width(
    schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor, eps_hat: Tensor, z: Tensor
) -> Tensor:
    """sigma^2 z where sigma z should stand: too little noise is put back."""

    def squared(*step: Any) -> Tensor:
        return beta_variance(*step) ** 2

    return ddpm_step(schedule, x_t, t, s, eps_hat, z, squared)


def step_one_z(
    schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor, eps_hat: Tensor, z: Tensor
) -> Tensor:
    """The same z for all of the batch."""
    return ddpm_step(schedule, x_t, t, s, eps_hat, z[:1].expand_as(z))


def step_clips_x_t(
    schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor, eps_hat: Tensor, z: Tensor
) -> Tensor:
    """x_s itself is clipped to [-1, 1], where only x_0_hat may be."""
    return ddpm_step(schedule, x_t, t, s, eps_hat, z).clamp(-1, 1)


# ---- models --------------------------------------------------------------------------------------


def told_s(model: Model) -> Model:
    """A loop over range(T) with tables from 1: the model is told t - 1, and shown x_t."""
    return lambda x_t, t: model(x_t, t - 1)


def without_t(model: Model, t: int = 500) -> Model:
    """A network that is not told the time."""
    return lambda x_t, _: model(x_t, torch.full_like(_, t))


def in_training_mode(model: Model, share: float = 0.1) -> Model:
    """A network whose dropout was left on."""
    return lambda x_t, t: model(dropout(x_t, share), t)


def as_x_0(model: Model, schedule: NoiseSchedule) -> Model:
    """A network that returns x_0, where eps is expected."""
    return lambda x_t, t: predict_x_0(schedule, x_t, t, model(x_t, t))


def guided_from_label(model: Callable[..., Tensor], y: Tensor, scale: float = 1.0) -> Model:
    """eps_y + scale (eps_y - eps_none): the scale of the other convention."""

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        with_label = model(x_t, t, y=y)
        return with_label + scale * (with_label - model(x_t, t))

    return guided


# ---- data ----------------------------------------------------------------------------------------


def to_half(images: Tensor) -> Tensor:
    """x_0 in [0, 1], where the sampler clips and draws in [-1, 1]; a twin of `data.to_unit`."""
    return images.float() / 255


def hidden(y: Tensor, classes: int = 10) -> Tensor:
    """The right one: a tenth of the labels becomes `classes`, "not told"."""
    return torch.where(torch.rand(len(y)) < 0.1, classes, y)


def never_hidden(y: Tensor) -> Tensor:
    """No label is ever replaced."""
    return y


def hidden_as_a_class(y: Tensor) -> Tensor:
    """A tenth of the labels becomes 0, which is a class."""
    return torch.where(torch.rand(len(y)) < 0.1, 0, y)


def shuffled(x: Tensor) -> Tensor:
    """The images in another order than their labels."""
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]


# ---- programs ------------------------------------------------------------------------------------


def right(schedule: NoiseSchedule | None = None, **parts: Any) -> Program:
    """A right program for samples in [-1, 1], of this package's own functions; parts: others."""
    schedule = schedule or linear_schedule()
    own: dict[str, Any] = {
        "scales": partial(scales_of, schedule.alpha_bar),
        "times": torch.arange(1, schedule.T + 1),
        "loss": loss_of(schedule),
        "sample": sampler_of(schedule),
        "guided": classifier_free,
        "limit": 1.0,
        "hide": hidden,
    }
    return Program(**own | parts)


def scales_of(alpha_bar: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise at whole times t."""
    return alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt()


def loss_of(
    schedule: NoiseSchedule,
    noised: Callable[..., Tensor] = q_sample,
    error: Callable[..., Tensor] = squared_error,
    times: Callable[..., Tensor] = random_times,
) -> Callable[[Model, Tensor], Tensor]:
    """loss(model, x_0) of these parts."""

    def loss(model: Model, x_0: Tensor) -> Tensor:
        t, eps = times(len(x_0), schedule.T), torch.randn_like(x_0)
        return error(model(noised(schedule, x_0, t, eps), t), eps)

    return loss


def sampler_of(
    schedule: NoiseSchedule,
    step: Step = ddpm_step,
    steps: Times = 50,
    limit: float | None = 1.0,
    told: Callable[[Model], Model] = lambda model: model,
) -> Callable[[Model, int], Tensor]:
    """sample(model, n) of these parts."""

    def walk(model: Model, n: int) -> Tensor:
        model = clipped(told(model), schedule, limit) if limit else told(model)
        return last(sample(model, schedule, (n,), step, steps))

    return walk


LINEAR = linear_schedule()
BUGS: dict[str, Callable[[], Program]] = {
    "no root": lambda: right(loss=loss_of(LINEAR, q_sample_no_root)),
    "one step": lambda: right(loss=loss_of(LINEAR, q_sample_one_step)),
    "late noise": lambda: right(loss=loss_of(LINEAR, q_sample_late)),
    "short schedule": lambda: right(short_schedule()),
    "unclipped schedule": lambda: right(
        scales=partial(scales_of, unclipped_cosine()), loss=None, sample=None
    ),
    "fresh noise": lambda: right(loss=loss_of(LINEAR, error=error_to_fresh_noise)),
    "all pairs": lambda: right(loss=loss_of(LINEAR, error=error_of_all_pairs)),
    "one t": lambda: right(loss=loss_of(LINEAR, times=one_time)),
    "noisy end": lambda: right(sample=sampler_of(LINEAR, step_noisy_end)),
    "wrong sign": lambda: right(sample=sampler_of(LINEAR, step_wrong_sign, limit=None), limit=None),
    "variance for width": lambda: right(sample=sampler_of(LINEAR, step_variance_for_width, None)),
    "one z": lambda: right(sample=sampler_of(LINEAR, step_one_z)),
    "clipped x_t": lambda: right(sample=sampler_of(LINEAR, step_clips_x_t)),
    "no clip": lambda: right(sample=sampler_of(LINEAR, limit=None)),
    "early t": lambda: right(sample=sampler_of(LINEAR, told=told_s)),
    "leading grid": lambda: right(sample=sampler_of(LINEAR, ddim_step, leading_grid(1000, 10))),
    "other scale": lambda: right(guided=guided_from_label),
    "no label hidden": lambda: right(hide=never_hidden),
    "null is a class": lambda: right(hide=hidden_as_a_class),
}
"""Programs with one bug each; those that need a trained network or images are in `of_digits`."""


def of_digits(network: Model, images: Tensor, labels: Tensor) -> dict[str, Program]:
    """Programs with a network of eps and bytes of digits: the right one, and those with a bug."""
    x_0 = images.float()[:, None] / 127.5 - 1
    parts: dict[str, Any] = {"network": network, "images": x_0, "labels": labels}
    return {
        "": right(**parts),
        "no t": right(**parts | {"network": without_t(network)}),
        "training mode": right(**parts | {"network": in_training_mode(network)}),
        "another output": right(**parts | {"network": as_x_0(network, LINEAR)}),
        "half range": right(**parts | {"images": to_half(images)[:, None]}),
        "shuffled labels": right(**parts | {"images": shuffled(x_0)}),
    }
