"""The four losses of a score, against one another and against what is known."""

import math

import pytest
import torch
from hypothesis import given
from strategies import bad, cases, check_bad, normal, numbers
from torch.testing import assert_close

from ddpm_lite import prediction
from ddpm_lite.forward import q_sample
from ddpm_lite.mixture import GaussianMixture
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.score import (
    denoising_loss,
    divergence,
    explicit_loss,
    implicit_loss,
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


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_does_not_matter(off):
    """Gradients may be switched off around the call, and all that it is given made in there."""
    x, v, w = normal(3, 3, 3)
    expected = [f.detach() for f in (*divergence(curved, x), *sliced_divergence(curved, x, v))]
    expected += [implicit_loss(curved, x).detach(), sliced_loss(curved, x, v).detach()]
    expected += [explicit_loss(curved, x, w)]
    with off():
        x, v, w = normal(3, 3, 3)
        found = [*divergence(curved, x), *sliced_divergence(curved, x, v)]
        found += [implicit_loss(curved, x), sliced_loss(curved, x, v), explicit_loss(curved, x, w)]
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours.detach().clone(), theirs, **CLOSE)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_field_that_hides_its_slope_is_named(off):
    x, field = normal(4, 2), off()(lambda x: x.sin())
    for call in (
        lambda: divergence(field, x),
        lambda: sliced_divergence(field, x, x),
        lambda: implicit_loss(field, x),
        lambda: sliced_loss(field, x, x),
        lambda: divergence(lambda x: x.detach().sin(), x),
    ):
        with pytest.raises(ValueError, match="must be differentiable, but autograd sees no slope"):
            call()


def test_a_field_that_does_not_move_has_the_divergence_0():
    x = normal(4, 2)
    for field in (torch.ones_like, lambda x: torch.full((4, 2), 0.5).double(), torch.zeros_like):
        assert divergence(field, x)[1].tolist() == [0] * 4
        assert sliced_divergence(field, x, x)[1].tolist() == [0] * 4
        assert_close(implicit_loss(field, x), 0.5 * field(x).square().sum(1), **CLOSE)


def test_losses_have_gradients_by_what_the_score_is_made_of_and_by_x():
    """The derivative of tr J + |s|^2 / 2 for s = a x: 2 + a |x|^2 by a, and a^2 x by x."""
    a, x = torch.ones(1, dtype=torch.float64, requires_grad=True), normal(5, 2).requires_grad_()
    for loss in (implicit_loss(lambda x: a * x, x), sliced_loss(lambda x: a * x, x, signs(5, 2))):
        by_a, by_x = torch.autograd.grad(loss.sum(), (a, x))
        assert_close(by_a, (2 + x.square().sum(1)).sum()[None].detach(), **CLOSE)
        assert_close(by_x, x.detach(), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_losses_in_lower_precision(dtype):
    x, v, score = normal(6, 2).to(dtype), signs(6, 2).to(dtype), wrong(0.5, 1.0)
    for loss in (implicit_loss, lambda score, x: sliced_loss(score, x, v.to(x.dtype))):
        found, exact = loss(score, x), loss(score, x.double())
        tolerance = 8 * torch.finfo(dtype).eps
        assert found.dtype == dtype
        assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


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


X = normal(3, 2)
COLUMN, E = normal(4, 1), normal(0, 3)


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
    bad("target", lambda: explicit_loss(curved, X, X[:, :1]), "target must have the shape of x"),
    bad("explicit none", lambda: explicit_loss(curved, E, E), "x must be a batch .*B >= 1"),
    bad("implicit none", lambda: implicit_loss(curved, E), "x must be a batch .*B >= 1"),
    bad("sliced none", lambda: sliced_loss(curved, E, E), "x must be a batch .*B >= 1"),
    bad("divergence none", lambda: divergence(curved, E), "x must be a batch .*B >= 1"),
    bad("divergence 0-D", lambda: divergence(torch.sin, X[0, 0]), "x must be a batch"),
    bad("divergence int", lambda: divergence(curved, X.long()), "x must be a float", TypeError),
    bad("divergence NaN", lambda: divergence(lambda x: x / 0, X), "value must be finite"),
    bad("explicit int", lambda: explicit_loss(curved, X, X.long()), "target must be", TypeError),
    bad("v NaN", lambda: sliced_loss(curved, X, X / 0), "v must be finite"),
    bad("x NaN", lambda: implicit_loss(curved, X * math.nan), "x must be finite, got NaN"),
    bad("v", lambda: sliced_loss(curved, X, X[0]), r"v must have the shape of x, \[3, 2\]"),
    bad("t 0", lambda: denoising_loss(curved, SCHEDULE, X, torch.zeros(3).long(), X), "clean data"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
