"""Langevin's walk against the law that it should keep."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from strategies import bad, cases, check_bad, floats, normal, numbers
from torch.testing import assert_close

from ddpm_lite.density import grid, sampled_density
from ddpm_lite.metrics import w1_density
from ddpm_lite.mixture import two_modes
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.score import annealed_langevin_step, langevin_step

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SCHEDULE = linear_schedule()

# Langevin


@given(floats(0.01, 1.5), floats(-2, 2), floats(0.3, 2))
def test_langevin_on_a_gaussian_keeps_mean_and_has_a_known_bias(delta, mean, std):
    """With rate delta / var the step shrinks by 1 - rate: the variance is too large by rate / 2."""
    var, delta = std**2, delta * std**2
    points, z = numbers(mean, mean + 1, mean), numbers(0, 0, 1)
    x = langevin_step(points, -(points - mean) / var, delta, z)
    fixed, slope, noise = x[0], x[1] - x[0], x[2] - x[0]
    assert_close(float(fixed), mean, **CLOSE)
    assert_close(float(noise**2 / (1 - slope**2)), var / (1 - delta / var / 2), **CLOSE)


@given(cases())
def test_annealed_step_is_a_langevin_step_in_units_of_the_noise(case):
    schedule, t = case.schedule, case.t
    x = annealed_langevin_step(schedule, case.x_t, t, t, case.eps, case.z, size=0.3)
    noise = (1 - schedule.alpha_bar[t]).reshape(len(t), *[1] * (case.x_t.ndim - 1))
    expected = case.x_t - 0.3 * noise.sqrt() * case.eps + (0.6 * noise).sqrt() * case.z
    assert_close(x, expected, **CLOSE)
    other = annealed_langevin_step(schedule, case.x_t, t, 0 * t, case.eps, case.z, size=0.3)
    assert torch.equal(x, other)  # s does not matter


def test_langevin_keeps_the_law_that_it_has_the_score_of():
    mixture, x, t = two_modes(0.2), grid(n=1024), 300
    law = mixture.diffused(SCHEDULE, t).log_prob(x).exp()
    times, distances = torch.full((41,), t), []
    for size in (0.04, 0.02, 0.01):
        step = partial(annealed_langevin_step, size=size)
        after = sampled_density(mixture.denoiser(SCHEDULE), SCHEDULE, x, step, times, law)
        distances.append(w1_density(x, after, law))
    assert distances[0] < 0.02 and distances[0] > 1.5 * distances[1] > 2 * distances[2]


def test_annealing_finds_the_weights_where_plain_langevin_keeps_those_of_the_start():
    """From N(0, 1), with 200 calls each, on the grid: the share left of 0 should be 0.2."""
    mixture, x = two_modes(0.2), grid(n=1024)
    model, calls = mixture.denoiser(SCHEDULE), 200

    def share(times, size):
        step = partial(annealed_langevin_step, size=size)
        density = sampled_density(model, SCHEDULE, x, step, times)
        return float(density[x < 0].sum() / density.sum())

    annealed = torch.linspace(1000, 20, calls // 10).long().repeat_interleave(10)
    still = torch.full((calls + 1,), 20)
    assert abs(share(torch.cat([annealed, annealed[-1:]]), 0.3) - 0.2) < 0.04
    assert abs(share(still, 0.3) - 0.2) > 0.2


X = normal(3, 2)
NOW = torch.ones(3, dtype=torch.int64)


def test_delta_is_a_number_or_one_a_sample():
    a, b = numbers(0.1, 0.2, 0.3)[:, None], 0.2
    x = langevin_step(X, X, a, X)
    assert_close(x[1], langevin_step(X, X, b, X)[1], **CLOSE)
    assert_close(langevin_step(X, X, numbers(b)[0], X), langevin_step(X, X, b, X), **CLOSE)


BAD = [
    bad("delta", lambda: langevin_step(X, X, 0.0, X), "delta must be positive, got 0"),
    bad("delta NaN", lambda: langevin_step(X, X, math.nan, X), "delta must be positive, got nan"),
    bad("delta [D]", lambda: langevin_step(X, X, numbers(1, 1), X), r"number or \[3, 1\], got .2"),
    bad("delta [B]", lambda: langevin_step(X[:2], X[:2], numbers(1, 1), X[:2]), r"\[2, 1\], got"),
    bad("z", lambda: langevin_step(X, X, 0.1, X[:2]), r"z must have the shape of x, \[3, 2\]"),
    bad("score", lambda: langevin_step(X, X[:, :1], 0.1, X), r"score must have the shape of x"),
    bad("int", lambda: langevin_step(X.long(), X, 0.1, X), "x must be a floating", TypeError),
    bad("size", lambda: annealed_langevin_step(SCHEDULE, X, NOW, NOW, X, X, -1.0), "delta .*got -"),
    bad("t 0", lambda: annealed_langevin_step(SCHEDULE, X, 0 * NOW, NOW, X, X), "clean data"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
