"""The variances of a step: what they leave, and which is best."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, cases, check_bad, earlier, floats, normal, schedules
from torch.testing import assert_close

from ddpm_lite.density import grid, least_error, reverse_density, sampled_density
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.sampling import (
    best_variance,
    beta_tilde_variance,
    beta_variance,
    ddpm_step,
    zero_variance,
)
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.times import walk_times

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@given(cases(), st.data())
def test_zero_variance_leaves_the_mean(case, data):
    args = (case.schedule, case.x_t, case.t, data.draw(earlier(case)), case.eps)
    alone = ddpm_step(*args, case.z, variance=zero_variance)
    assert_close(alone, ddpm_step(*args, 0 * case.z), **EXACT)


@pytest.mark.parametrize("mixture", [two_modes(0.3), GaussianMixture([1], [0.5], [0.2])])
def test_best_variance_is_the_mean_variance_of_the_exact_step_back(mixture):
    """E Var(x_{t-1} | x_t), by Bayes' rule on a grid for every x_t of another grid."""
    schedule, x = linear_schedule(6, 0.05, 0.3), grid(-8, 8, 1024)
    dx, like = x[1] - x[0], torch.zeros(1, dtype=torch.float64)
    variance = best_variance(least_error(mixture, schedule, x))
    for t in (2, 5):
        q, total = mixture.diffused(schedule, t).log_prob(x[::4]).exp() * 4 * dx, 0.0
        for x_t, weight in zip(x[::4].tolist(), q.tolist(), strict=True):
            p = reverse_density(mixture, schedule, x_t, t, x) * dx
            total += weight * float((p * x**2).sum() - (p * x).sum() ** 2)
        now = torch.tensor([t])
        assert_close(variance(schedule, now, now - 1, like).item(), total, rtol=1e-6, atol=0)


@given(schedules(8), floats(-2, 2), floats(0.3, 1.5), st.data())
def test_best_variance_makes_the_chain_of_a_gaussian_exact(schedule, mean, std, data):
    """There the step back is Gaussian, over any number of steps: no error is left but the start."""
    mixture, x = GaussianMixture([1], [mean], [std]), grid(-14, 14, 2048)
    step = partial(ddpm_step, variance=best_variance(least_error(mixture, schedule, x)))
    start = mixture.diffused(schedule, schedule.T).log_prob(x).exp()
    times = walk_times(schedule, data.draw(st.integers(1, schedule.T)))
    times = times[: max(2, len(times) - 1)]  # the last step of a chain adds no noise, and is not
    density = sampled_density(mixture.denoiser(schedule), schedule, x, step, times, start)
    if times[-1] > 0:
        expected = mixture.diffused(schedule, int(times[-1])).log_prob(x).exp()
        assert_close(density, expected, rtol=1e-4, atol=1e-4)


def test_best_variance_is_beta_for_unit_variance_and_beta_tilde_for_a_point():
    schedule, like = linear_schedule(20, 0.01, 0.2), torch.zeros(3, dtype=torch.float64)
    t, s = torch.tensor([3, 11, 20]), torch.tensor([1, 10, 2])
    for std, bound in ((1.0, beta_variance), (1e-6, beta_tilde_variance)):
        error = least_error(GaussianMixture([1], [0], [std]), schedule, grid(-10, 10, 2048))
        best = best_variance(error)(schedule, t, s, like)
        assert_close(best, bound(schedule, t, s, like), rtol=1e-8, atol=0)


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


BAD = [
    bad(
        "error table",
        lambda: best_variance(X)(S, T3, T3 - 1, X),
        r"error must be a table .*\[11\], got \[3\]",
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
