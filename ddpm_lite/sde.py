"""The chain in continuous time: a diffusion, and two ways back from noise, one random, one smooth.

With beta(t) = -d log alpha_bar / dt the forward process is dx = -beta/2 x dt + sqrt(beta) dw
(eq-sde-forward). Its law at a real t is the chain's closed form with `alpha_bar_at`, so at the
integers it is the chain. On the clock tau = -log alpha_bar (def-sde-clock) it is one and the same
for every schedule: dx = -x/2 dtau + dw. A step from t to s takes all of tau_t - tau_s, so that
beta(t) itself is never needed.

With the clock running back, the reverse SDE is dx = (x/2 + score) dtau + dw and the ODE of the
probability flow dx = (x + score)/2 dtau; both have the laws of the forward process. Their steps are
steps for `sampling.sample`, and t and s are int64 or real. Song et al. 2021, "Score-based
generative modeling through stochastic differential equations".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .checks import (
    check_batch,
    check_finite,
    check_real,
    check_samples,
    check_slope,
    check_times,
    readable,
)
from .gaussian import log_density
from .posterior import step_variances
from .prediction import Model, checked, score
from .sampling import Step
from .schedule import NoiseSchedule, alpha_bar_like
from .score import Field, annealed_langevin_step, divergence
from .times import Times, given_times


def elapsed(schedule: NoiseSchedule, s: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """The clock from s to t, log(alpha_bar_s / alpha_bar_t), the area under beta: [B, 1, ...].

    s, t: [B] in [0, T]; like: [B, *D], whose dtype it gets. Negative where t < s.
    """
    alpha_bar_s, alpha_bar_t = (alpha_bar_like(schedule, r, like, first=0) for r in (s, t))
    return (alpha_bar_s.log() - alpha_bar_t.log()).to(like.dtype)


def transition(schedule: NoiseSchedule, x_s: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [B, *D] and variance [B, 1, ...] of q(x_t | x_s), exact for real 0 <= s < t <= T.

    With s = 0 it is the closed form, with s = t - 1 the chain's own step (eq-sde-transition).
    """
    check_samples(x_s=x_s)
    variance, _, _ = step_variances(schedule, t, s, x_s)
    return (1 - variance).sqrt().to(x_s.dtype) * x_s, variance.to(x_s.dtype)


def forward_sde_step(
    schedule: NoiseSchedule, x_s: Tensor, s: Tensor, t: Tensor, z: Tensor
) -> Tensor:
    """Euler-Maruyama from s to t > s: with the factor 1 - dtau/2, where q(x_t | x_s) has a root.

    x_s, z: [B, *D]. The error of a step is of the order dtau^2.
    """
    check_samples(x_s=x_s, z=z)
    dtau = _moving(elapsed(schedule, s, t, x_s))
    return x_s - dtau / 2 * x_s + dtau.sqrt() * z


def velocity(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, eps_hat: Tensor) -> Tensor:
    """dx / dtau of the probability-flow ODE: -(x_t + score) / 2, [B, *D] (eq-ode-flow)."""
    check_samples(x_t=x_t, eps_hat=eps_hat)
    return -(x_t + score(schedule, eps_hat, t)) / 2


def reverse_sde_step(
    schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor, eps_hat: Tensor, z: Tensor
) -> Tensor:
    """Euler-Maruyama of the reverse SDE (eq-reverse-sde) from t to s < t.

    Arguments as `sampling.ddpm_step`.
    """
    check_samples(x_t=x_t, eps_hat=eps_hat, z=z)
    dtau = _moving(elapsed(schedule, s, t, x_t))
    return x_t + dtau * (x_t / 2 + score(schedule, eps_hat, t)) + dtau.sqrt() * z


def euler_step(
    schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor, eps_hat: Tensor, z: Tensor
) -> Tensor:
    """Euler's step of the probability-flow ODE from t to s. Arguments as `sampling.ddpm_step`.

    On the clock (eq-order-euler); `sampling.ddim_step` is Euler's step of the same ODE in other
    variables. z has no part.
    """
    return x_t - elapsed(schedule, s, t, x_t) * velocity(schedule, x_t, t, eps_hat)


def predictor_corrector_step(
    schedule: NoiseSchedule,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    eps_hat: Tensor,
    z: Tensor,
    predictor: Step = reverse_sde_step,
    size: float = 0.1,
) -> Tensor:
    """A step of ``predictor`` where time moves; where it stands still, one of Langevin's.

    Arguments as `sampling.ddpm_step`, with s <= t; size: as in `score.annealed_langevin_step`. For
    a small size the corrector leaves the law of x_t where it should be, and draws it there where it
    is not (eq-reverse-sde-split); a large one moves it. For times as those of `times.paused`. Song
    et al. 2021, algorithm 1.
    """
    check_times(t, schedule.T, x_t, real=True)
    check_times(s, schedule.T, x_t, first=0, name="s", real=True)
    if readable(s) and readable(t) and (s > t).any():
        raise ValueError("s must be below t, or equal to it where time stands still")
    still = s == t
    predicted = predictor(schedule, x_t, t, torch.where(still, 0, s), eps_hat, z)
    corrected = annealed_langevin_step(schedule, x_t, t, s, eps_hat, z, size)
    return torch.where(still.reshape(-1, *[1] * (x_t.ndim - 1)), corrected, predicted)


@torch.no_grad()
def solve_ode(
    model: Model,
    schedule: NoiseSchedule,
    x_t: Tensor,
    t: float,
    s: float,
    rtol: float = 1e-8,
    atol: float = 1e-8,
    method: str = "DOP853",
) -> Tensor:
    """The probability-flow ODE from t to s, either way, by SciPy's adaptive solver: a reference.

    x_t: [B, *D]; t, s: in (0, T]; rtol, atol, method: of `scipy.integrate.solve_ivp`, for the whole
    batch at once. In the variables y = x / sqrt(alpha_bar) and r = sqrt(1 / alpha_bar - 1), where
    dy / dr = eps_hat stays of order 1 (eq-ode-straight). Returns x_s like x_t, float32 or float64;
    raises RuntimeError where SciPy fails, ValueError where the model returns NaN or a wrong shape.
    """
    from scipy.integrate import solve_ivp  # here, because it takes a second to import

    check_batch(x_t=x_t)
    check_real(x_t=x_t)
    ends = schedule.alpha_bar_at(torch.tensor([t, s], dtype=torch.float64))
    if not min(t, s) > 0:
        raise ValueError(f"t and s must lie in (0, {schedule.T}], got {t:g} and {s:g}")
    if t == s:
        return x_t.clone()
    signal, ratio = ends.sqrt().tolist(), (1 / ends - 1).sqrt().tolist()

    def slope(r: float, y: Any) -> Any:
        alpha_bar = torch.tensor(1 / (1 + r**2), dtype=torch.float64)
        alpha_bar = alpha_bar.clamp(ends.min(), ends.max())  # rounding may leave the interval
        now = schedule.time_at(alpha_bar).to(x_t.device).repeat(len(x_t))
        x = torch.from_numpy(y).to(x_t).reshape(x_t.shape) * alpha_bar.sqrt().to(x_t)
        eps_hat = checked(model, x, now)
        check_finite("eps_hat", eps_hat)
        return eps_hat.double().cpu().numpy().ravel()

    start = (x_t.double() / signal[0]).cpu().numpy().ravel()
    found = solve_ivp(slope, ratio, start, method=method, rtol=rtol, atol=atol, t_eval=ratio[1:])
    if not found.success:
        raise RuntimeError(f"the solver stopped: {found.message} (raise rtol and atol)")
    return (torch.from_numpy(found.y[:, -1]) * signal[1]).to(x_t).reshape(x_t.shape)


def log_likelihood(
    model: Model,
    schedule: NoiseSchedule,
    x: Tensor,
    times: Times,
    divergence: Callable[[Field, Tensor], tuple[Tensor, Tensor]] = divergence,
    log_prior: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """log p(x) in nats, [B], p being the law that the probability-flow ODE makes out of the prior.

    Up the ODE, log p falls by the divergence of the velocity: so it is log_prior at the end plus
    the integral of the divergence (eq-likelihood-path), by Heun's method on ``times``. Song et al.
    2021, eq. 39.

    x: [B, *D], taken as x_t at t = times[0]; times: [n] real or int64, rising in (0, T];
    divergence: exact, or ``partial(sliced_divergence, v=v)`` for Hutchinson's estimate with one v
    for the whole way; log_prior: of x at times[-1], [B] (None: N(0, I)). Raises ValueError where
    autograd sees no slope of the model, which must be differentiable in all its parts: of one that
    mixes x_t with a network's answer, as `networks.Denoiser` does, no more can be seen from here.
    """
    check_batch(x=x)
    check_real(x=x)
    times = given_times(times)
    if not (times.diff() > 0).all():
        raise ValueError("times must rise from the data to the prior")

    def field(x: Tensor, t: Tensor) -> Tensor:
        eps_hat = checked(model, x, t)
        check_slope(lambda x: model(x, t), x, eps_hat)  # the velocity has x itself in it: look here
        return velocity(schedule, x, t, eps_hat)

    def flow(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return divergence(partial(field, t=t), x)

    x = x.detach()  # no gradient of log p: the slopes are detached too
    spread = x.new_zeros(len(x))  # the integral of the divergence
    for s, t in zip(times, times[1:], strict=False):
        s_now, t_now = (r.repeat(len(x)).to(x.device) for r in (s, t))
        dtau = elapsed(schedule, s_now, t_now, x)
        before, slope_before = (v.detach() for v in flow(x, s_now))
        after, slope_after = (v.detach() for v in flow(x + dtau * before, t_now))
        x = x + dtau * (before + after) / 2
        spread = spread + dtau.reshape(-1) * (slope_before + slope_after) / 2
    if log_prior is None:
        return log_density(x, 0.0, 1.0).reshape(len(x), -1).sum(1) + spread
    start = log_prior(x)
    if start.shape != spread.shape:
        raise ValueError(f"log_prior must return [B] = [{len(x)}], got {list(start.shape)}")
    return start + spread


def _moving(dtau: Tensor) -> Tensor:
    if readable(dtau) and not (dtau > 0).all():
        raise ValueError("s must be smaller than t: a random step has a direction in time")
    return dtau
