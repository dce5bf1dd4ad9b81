"""The step back when the start is known: q(x_s | x_t, x_0), Gaussian for every beta."""

from __future__ import annotations

from torch import Tensor

from .checks import check_samples, check_times, readable
from .schedule import NoiseSchedule, alpha_bar_like


def posterior(
    schedule: NoiseSchedule, x_0: Tensor, x_t: Tensor, t: Tensor, s: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x_0): mu_tilde (eq-mu-tilde), beta_tilde (eq-beta-tilde).

    x_0, x_t: [B, *D]; t: int64 [B] in 1..T; s: int64 [B] in 0..t-1, or None for s = t - 1; or
    both real. Returns mu_tilde [B, *D] and beta_tilde [B, 1, ...]. At s = 0 they are x_0 and 0.
    Ho et al. 2020, eq. 6 and 7; Luo 2022, eq. 84.
    """
    check_samples(x_0=x_0, x_t=x_t)
    check_times(t, schedule.T, x_0, real=True)
    s = t - 1 if s is None else s
    beta, noise_s, noise_t = step_variances(schedule, t, s, x_0)
    alpha_bar_s = alpha_bar_like(schedule, s, x_0, first=0)
    x_0_weight = alpha_bar_s.sqrt() * beta / noise_t
    x_t_weight = (1 - beta).sqrt() * noise_s / noise_t
    mu_tilde = x_0_weight.to(x_0.dtype) * x_0 + x_t_weight.to(x_0.dtype) * x_t
    return mu_tilde, (noise_s / noise_t * beta).to(x_0.dtype)


def step_variances(
    schedule: NoiseSchedule, t: Tensor, s: Tensor, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The three variances of a step from s to t: of q(x_t | x_s), q(x_s | x_0) and q(x_t | x_0).

    float64, each [B, 1, ...] as ``like``. With s = t - 1 the first is beta_t. Raises ValueError
    unless 0 <= s < t <= T.
    """
    alpha_bar_s = alpha_bar_like(schedule, s, like, first=0, name="s")
    alpha_bar_t = alpha_bar_like(schedule, t, like, first=0)
    if readable(t) and readable(s) and (late := s >= t).any():
        raise ValueError(
            f"s must be smaller than t, got s = {s[late][0]} with t = {t[late][0]}: "
            "the step back goes from x_t to an earlier x_s"
        )
    return 1 - alpha_bar_t / alpha_bar_s, 1 - alpha_bar_s, 1 - alpha_bar_t
