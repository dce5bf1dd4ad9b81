"""Densities on a grid of the line, carried through the steps of a chain without sampling noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .checks import check_samples, check_times, extent
from .loss import check_variance
from .mixture import GaussianMixture
from .posterior import step_variances
from .prediction import Model, checked
from .sampling import at_time, ddpm_step, stages
from .schedule import NoiseSchedule, at
from .times import Times, walk_times


def grid(low: float = -8.0, high: float = 8.0, n: int = 4096) -> Tensor:
    """n evenly spaced points of the line, float64, for densities that vanish at both ends."""
    return torch.linspace(low, high, n, dtype=torch.float64)


def push_density(x: Tensor, density: Tensor, mean: Tensor, std: float | Tensor) -> Tensor:
    """The density of mean(X) + std Z on the grid, X having ``density``, Z ~ N(0, 1) (eq-push).

    x: even grid [n], float64; density: [n], or rows [C, n], pushed by the same map, each with its
    own noise; mean: the map's values on the grid, [n]; std >= 0, for rows also [C, 1]. The mass
    of each cell lands at mean(x), shared among the four nearest grid points by cubic interpolation,
    which keeps its first three moments; the noise is a product in Fourier space. Raises ValueError
    where more than 0.1 % of the mass lands outside the grid.
    """
    step = grid_step(x)
    check_samples(density=density)
    check_samples(x=x, density=density[0] if density.ndim == 2 else density, mean=mean)
    density, mean = density.double(), mean.double()
    std = torch.as_tensor(std, dtype=torch.float64, device=x.device)
    if not (std >= 0).all():
        raise ValueError(f"std must be at least 0, got {extent(std)}")
    below, above = ((end / std.clamp(min=1e-9)) for end in (x[0] - mean, mean - x[-1]))
    beyond = torch.special.ndtr(below) + torch.special.ndtr(above)
    outside = float((density * beyond).sum(-1).max() * step)
    if outside > 1e-3:
        raise ValueError(
            f"x must reach farther: {100 * outside:.2g} % of the mass lands outside "
            f"[{x[0]:g}, {x[-1]:g}]: use a wider grid"
        )
    landing = ((mean - x[0]) / step).clamp(1, len(x) - 3)
    left = landing.floor().long()
    f = landing - left
    shares = torch.stack(
        [
            -f * (f - 1) * (f - 2) / 6,
            (f + 1) * (f - 1) * (f - 2) / 2,
            -(f + 1) * f * (f - 2) / 2,
            (f + 1) * f * (f - 1) / 6,
        ]
    )
    landed = torch.zeros_like(density)
    for offset, share in zip((-1, 0, 1, 2), shares, strict=True):
        landed.index_add_(-1, left + offset, share * density)
    if not std.any():
        return landed
    cycles = torch.fft.rfftfreq(len(x), float(step), dtype=x.dtype, device=x.device)
    frequency = 2 * math.pi * cycles
    blur = torch.exp(-0.5 * (std * frequency) ** 2)
    return torch.fft.irfft(torch.fft.rfft(landed) * blur, n=len(x))


@torch.no_grad()
def sampled_density(
    model: Model,
    schedule: NoiseSchedule,
    x: Tensor,
    step: Callable[..., Tensor] = ddpm_step,
    steps: Times = None,
    initial: Tensor | None = None,
) -> Tensor:
    """The density of what `sampling.sample` returns on the line, with no sampling noise (eq-push).

    Arguments as `sample`, but given times may end anywhere; x: an even grid [n], float64, e.g.
    `grid()`; initial: the density of x_T on it (None: N(0, 1)). Returns [n]. ``step`` must be
    mean + std z with std the same for every x, as a pure step is. A step without noise smears the
    density by a part of the grid's spacing: a thousand of them put a few 1e-4 on W1. So for
    samplers without noise, those of `solvers` among them, rather walk from `metrics.quantiles` of
    the normal law.
    """
    h, times = grid_step(x), walk_times(schedule, steps)
    density = torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi) if initial is None else initial
    mass = float(density.sum() * h)
    if not abs(mass - 1) < 1e-3:
        raise ValueError(
            f"initial must have mass 1 on the grid x, got {mass:.4g}: use a wider or finer grid"
        )
    places = torch.cat([x, x[:1]])  # the first once more, with z = 1: there the noise shows
    z = torch.zeros_like(places)
    z[-1] = 1
    for t, s in stages(times):
        t_now, s_now = at_time(t, places), at_time(s, places)
        eps_hat = checked(model, x, t_now[:-1]).to(x)
        moved = step(schedule, places, t_now, s_now, torch.cat([eps_hat, eps_hat[:1]]), z)
        density = push_density(x, density, moved[:-1], float(moved[-1] - moved[0]))
    return density


def chain_density(
    model: Model,
    schedule: NoiseSchedule,
    x: Tensor,
    variance: Tensor | None = None,
    variance_1: float | None = None,
) -> Tensor:
    """p_theta(x_0) on the line: the chain's own marginal, by a grid (eq-path-integral).

    The chain is the one whose log-density `bound.vlb_terms` bounds: a Gaussian step with the
    mean of `ddpm_step` at every t, the last one included. x: an even grid [n], float64, e.g.
    `grid()`; variance: sigma_t^2, a table [T + 1], positive at 2..T (None: beta_tilde);
    variance_1: sigma_1^2 > 0 (None: beta_tilde_2, as there). Returns a density [n].
    """
    variance = schedule.beta_tilde if variance is None else variance
    check_variance(schedule, variance)
    if variance_1 is None:
        if schedule.T < 2:
            raise ValueError("variance_1 must be given when T = 1: there is no beta_tilde_2")
        variance_1 = float(schedule.beta_tilde[2])
    if not variance_1 > 0:
        raise ValueError(f"variance_1 must be positive (a variance), got {variance_1}")
    step = partial(ddpm_step, variance=lambda _schedule, t, _s, like: at(variance, t, like))
    x_0_hat = sampled_density(model, schedule, x, step)
    return push_density(x, x_0_hat, x, math.sqrt(variance_1))


def least_error(data: GaussianMixture, schedule: NoiseSchedule, x: Tensor) -> Tensor:
    """E (eps - E[eps | x_t])^2 at each t, [T + 1]: the loss that no model can undercut.

    data: a mixture on the line; x: an even grid [n], float64. At t = 0, where x_t says nothing of
    eps, it is 1. Its integral over x is a sum on the grid.
    """
    step, error = grid_step(x), torch.ones(schedule.T + 1, dtype=torch.float64)
    power = (data.weights * (data.means**2 + data.stds**2)).sum()  # E x_0^2
    for t in range(1, schedule.T + 1):
        now, mass = torch.full(x.shape, t), data.diffused(schedule, t).log_prob(x).exp() * step
        if not abs(float(mass.sum()) - 1) < 1e-3:
            raise ValueError(
                f"x must hold the mass of x_t, got {float(mass.sum()):.4g} of it at t = {t}: "
                "use a wider or finer grid"
            )
        if (snr := schedule.snr[t]) > 1:
            error[t] -= (mass * data.eps(schedule, x, now) ** 2).sum()
        else:  # 1 - E eps_hat^2 would be lost in rounding
            error[t] = snr * (power - (mass * data.x_0(schedule, x, now) ** 2).sum())
    return error


def reverse_density(
    data: GaussianMixture, schedule: NoiseSchedule, x_t: float, t: int, x: Tensor
) -> Tensor:
    """The exact q(x_{t-1} | x_t) of the mixture at the points x, by Bayes' rule (eq-reverse-exact).

    t in 1..T; x: [n] float64. Returns a density [n]. Gaussian only when beta_t is small.
    """
    check_samples(x=x)
    now = torch.full((1,), t)
    check_times(now, schedule.T, x[:1])
    beta, _, _ = step_variances(schedule, now, now - 1, x[:1])
    forward = -0.5 * (x_t - (1 - beta).sqrt() * x) ** 2 / beta - 0.5 * (2 * math.pi * beta).log()
    evidence = data.diffused(schedule, t).log_prob(x.new_tensor([x_t]))
    return (forward + data.diffused(schedule, t - 1).log_prob(x) - evidence).exp()


def grid_step(x: Tensor) -> Tensor:
    """The spacing of an even float64 grid [n]; TypeError or ValueError if it is not one."""
    if not isinstance(x, Tensor) or x.dtype != torch.float64:
        raise TypeError("x must be a float64 grid: make it with grid()")
    step = (x[-1] - x[0]) / (len(x) - 1) if x.ndim == 1 and len(x) >= 4 else x.new_tensor(0.0)
    if not step > 0 or not torch.allclose(x.diff(), step, rtol=1e-6):
        raise ValueError("x must be an even, rising grid of 4 points or more: make it with grid()")
    return step
