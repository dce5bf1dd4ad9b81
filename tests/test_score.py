"""The four losses against one another, and Langevin's walk against the law that it should keep."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from strategies import bad, cases, check_bad, floats, normal, numbers
from torch.testing import assert_close

from ddpm_lite import prediction
from ddpm_lite.density import grid, sampled_density
from ddpm_lite.forward import q_sample
from ddpm_lite.metrics import w1_density
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.score import (
    annealed_langevin_step,
    denoising_loss,
    divergence,
    explicit_loss,
    implicit_loss,
    langevin_step,
    sliced_divergence,
    sliced_loss,
)

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
IN_PLANE = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.5, -1.0]], [0.6, 0.9])
SCHEDULE = linear_schedule()
MATRIX = numbers(1, 2, -3, 0.5, 4, 1, 0, 2, -1).reshape(3, 3)


def curved(x):
    """A field whose divergence is known: of M x it is tr M, of sin x_d the sum of cos x_d."""
    return x @ MATRIX.T + x.sin()


def signs(*shape, seed=0):
    return torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1


# the divergence


def test_divergence_is_the_trace_of_the_jacobian():
    x = normal(5, 3)
    value, slope = divergence(curved, x)
    assert torch.equal(value.detach(), curved(x)) and not x.requires_grad
    assert_close(slope.detach(), MATRIX.trace() + x.cos().sum(1), **CLOSE)
    _, on_the_line = divergence(lambda x: x**3, x[:, 0])
    assert_close(on_the_line.detach(), 3 * x[:, 0] ** 2, **CLOSE)
    _, images = divergence(lambda x: x**2, x.reshape(5, 1, 3, 1))
    assert_close(images.detach(), 2 * x.sum(1), **CLOSE)
    assert divergence(torch.ones_like, x)[1].tolist() == [0] * 5


def test_sliced_divergence_is_the_slope_along_v_and_right_on_average():
    x = normal(4, 3)
    J = MATRIX + torch.diag_embed(x.cos())
    v = normal(4, 3, seed=1)
    value, slope = sliced_divergence(curved, x, v)
    assert torch.equal(value.detach(), curved(x))
    assert_close(slope.detach(), torch.einsum("bi,bij,bj->b", v, J, v), **CLOSE)
    # Over all 8 corners of the cube the mean is the trace, without an error.
    corners = torch.cartesian_prod(*[numbers(-1, 1)] * 3)
    slopes = [sliced_divergence(curved, x, c.expand(4, 3))[1].detach() for c in corners]
    assert_close(torch.stack(slopes).mean(0), divergence(curved, x)[1].detach(), **CLOSE)


def test_divergence_works_where_gradients_are_switched_off():
    with torch.no_grad():
        assert_close(
            divergence(curved, normal(2, 3))[1], divergence(curved, normal(2, 3))[1].detach()
        )


# the losses


def wrong(scale, shift):
    """A family of score functions, right at none of its members."""
    return lambda x: -scale * x + shift * torch.tanh(x)


def test_explicit_loss_is_half_a_squared_distance():
    x, target = normal(2, 6, 2)
    loss = explicit_loss(wrong(1.0, 0.5), x, target)
    assert_close(loss, 0.5 * (wrong(1.0, 0.5)(x) - target).square().sum(1), **CLOSE)
    assert explicit_loss(lambda x: target, x, target).tolist() == [0] * 6


def by_grid(t):
    """A grid of the plane, the density of x_t on it times the cell, and the true score."""
    axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
    x = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    mass = IN_PLANE.diffused(SCHEDULE, t).log_prob(x).exp() * (axis[1] - axis[0]) ** 2
    return x, mass, IN_PLANE.score(SCHEDULE, x, torch.full((len(x),), t))


@pytest.mark.parametrize("t", [200, 600])
def test_implicit_and_explicit_differ_by_half_the_mean_squared_score(t):
    """By parts, on a grid of the plane: the constant is the same for every score function."""
    x, mass, true = by_grid(t)
    constant = 0.5 * (mass * true.square().sum(1)).sum()
    for score in (wrong(1.0, 0.0), wrong(0.3, 2.0), lambda x: x.flip(1).sin()):
        explicit = (mass * explicit_loss(score, x, true)).sum()
        implicit = (mass * implicit_loss(score, x).detach()).sum()
        assert_close(explicit - implicit, constant, rtol=1e-6, atol=1e-6)


def test_denoising_and_explicit_differ_by_a_constant():
    """It is half the mean of |grad log q(x_t | x_0)|^2 less that of |grad log q(x_t)|^2."""
    t, n = 300, 40_000
    x, mass, true = by_grid(t)
    noise = 1 - float(SCHEDULE.alpha_bar[t])
    constant = 0.5 * (2 / noise - float((mass * true.square().sum(1)).sum()))
    x_0, eps = IN_PLANE.sample(n, torch.Generator().manual_seed(0)), normal(n, 2)
    now = torch.full((n,), t)
    for score in (wrong(1.0, 0.0), wrong(0.3, 2.0)):
        explicit = float((mass * explicit_loss(score, x, true)).sum())
        losses = denoising_loss(score, SCHEDULE, x_0, now, eps)
        error = float(losses.std()) / math.sqrt(n)
        assert abs(float(losses.mean()) - explicit - constant) < 4 * error


@given(cases())
def test_denoising_loss_of_a_model_is_its_loss_in_eps(case):
    """It is 1/2 |eps - eps_hat|^2 / (1 - alpha_bar): the loss of chapter 9 with another weight."""
    schedule, t, eps_hat = case.schedule, case.t, case.z
    score = prediction.score(schedule, eps_hat, t)
    loss = denoising_loss(lambda x: score, schedule, case.x_0, t, case.eps)
    error = (case.eps - eps_hat).reshape(len(t), -1).square().sum(1)
    assert_close(loss, 0.5 * error / (1 - schedule.alpha_bar[t]), **CLOSE)


def test_sliced_loss_is_the_implicit_one_on_average():
    """In the plane the four corners (+-1, +-1) give the mean over v exactly."""
    x, score = normal(50, 2), wrong(0.7, 1.5)
    corners = torch.cartesian_prod(*[numbers(-1, 1)] * 2)
    sliced = torch.stack([sliced_loss(score, x, c.expand(50, 2)).detach() for c in corners])
    assert_close(sliced.mean(0), implicit_loss(score, x).detach(), **CLOSE)
    # And sign vectors are as good as it gets: with normal v the slope itself has noise.
    mixing = lambda x: x.flip(1) + x  # noqa: E731
    assert sliced_loss(mixing, x, signs(50, 2)).std() < sliced_loss(mixing, x, normal(50, 2)).std()


@pytest.mark.parametrize("loss", ["explicit", "implicit", "sliced", "denoising"])
def test_every_loss_trains_to_the_same_score(loss):
    """Of a Gaussian, score = a x + b: each loss is least, in (a, b), at -1 / var and mean / var."""
    data, t, n = GaussianMixture([1], [[1.0, -0.5]], [0.8]), 150, 100_000
    x_0, eps, now = (
        data.sample(n, torch.Generator().manual_seed(0)),
        normal(n, 2),
        torch.full((n,), t),
    )
    x, marginal = q_sample(SCHEDULE, x_0, now, eps), data.diffused(SCHEDULE, t)
    ab = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def score(x):
        return ab[0] * x + ab[1:]

    def mean_loss():
        return {
            "explicit": lambda: explicit_loss(score, x, data.score(SCHEDULE, x, now)),
            "implicit": lambda: implicit_loss(score, x),
            "sliced": lambda: sliced_loss(score, x, signs(n, 2)),
            "denoising": lambda: denoising_loss(score, SCHEDULE, x_0, now, eps),
        }[loss]().mean()

    # Each loss is 1/2 |a x + b|^2 and a linear term: one Newton step lands in the minimum.
    second = torch.eye(3, dtype=torch.float64)
    second[0, 0] = x.square().sum(1).mean()
    second[0, 1:] = second[1:, 0] = x.mean(0)
    (gradient,) = torch.autograd.grad(mean_loss(), ab)
    best = -torch.linalg.solve(second, gradient)
    var = marginal.stds[0] ** 2
    expected = torch.cat([-1 / var[None], marginal.means[0] / var])
    assert_close(best, expected, rtol=0, atol=0.02)


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
COLUMN = normal(4, 1)


def FLAT(x):
    """A field that forgets an axis."""
    return -x[:, 0]


def FIRST(x):
    return -x[:, :1]


BAD = [
    bad("too few", lambda: explicit_loss(FLAT, COLUMN, COLUMN), "must have the shape of"),
    bad("too few, implicit", lambda: implicit_loss(FLAT, COLUMN), "must have the shape of"),
    bad("too few, sliced", lambda: sliced_loss(FLAT, COLUMN, COLUMN), "must have the shape of"),
    bad("one coordinate", lambda: implicit_loss(FIRST, normal(4, 3)), "must have the shape of"),
    bad("delta", lambda: langevin_step(X, X, 0.0, X), "delta must be positive, got 0"),
    bad("z", lambda: langevin_step(X, X, 0.1, X[:2]), r"z must have the shape of x, \[3, 2\]"),
    bad("size", lambda: annealed_langevin_step(
        SCHEDULE, X, torch.ones(3).long(), torch.ones(3).long(), X, X, -1.0), "delta .*got -"),
    bad("target", lambda: explicit_loss(curved, X, X[:, :1]), "target must have the shape of x"),
    bad("x NaN", lambda: implicit_loss(curved, X * math.nan), "x must be finite, got NaN"),
    bad("v", lambda: sliced_loss(curved, X, X[0]), r"v must have the shape of x, \[3, 2\]"),
    bad("t 0", lambda: denoising_loss(curved, SCHEDULE, X, torch.zeros(3).long(), X), "clean data"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
