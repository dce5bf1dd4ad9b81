"""The probability-flow ODE solved by SciPy, and the likelihood that it gives."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from strategies import bad, check_bad, each, normal, numbers
from torch.testing import assert_close

from ddpm_lite.gaussian import log_density
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.networks import Denoiser, UNet, UNetConfig
from ddpm_lite.prediction import clipped, to_v
from ddpm_lite.sampling import last
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.score import divergence, sliced_divergence
from ddpm_lite.sde import log_likelihood, solve_ode
from ddpm_lite.solvers import heun

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SCHEDULE = linear_schedule()
IN_PLANE = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.5, -1.0]], [0.6, 0.9])


def test_the_ode_is_solved_there_and_back_and_carries_quantiles_to_quantiles():
    """On the line the flow keeps the order of points, so it maps quantiles to quantiles."""
    mixture = two_modes(0.2)
    model, x = mixture.denoiser(SCHEDULE), numbers(-2.4, -1.6, 0.5, 1.9, 2.8)
    x_T = solve_ode(model, SCHEDULE, x, 0.5, 1000)
    assert_close(solve_ode(model, SCHEDULE, x_T, 1000, 0.5), x, rtol=0, atol=1e-6)

    def cdf(law, x):
        return (law.weights * torch.special.ndtr((x[:, None] - law.means) / law.stds)).sum(1)

    ends = mixture.diffused(SCHEDULE, 0.5), mixture.diffused(SCHEDULE, 1000)
    assert_close(cdf(ends[0], x), cdf(ends[1], x_T), rtol=0, atol=1e-6)


def test_the_solver_keeps_shape_and_type():
    model = lambda x, t: 0.5 * x  # noqa: E731
    x = normal(2, 1, 3, 3).float()
    found = solve_ode(model, SCHEDULE, x, 1000, 10)
    assert found.shape == x.shape and found.dtype == torch.float32
    # dy/dr = y sqrt(alpha_bar) / 2, and sqrt(alpha_bar) = 1 / sqrt(1 + r^2): y = exp(asinh(r) / 2).
    r = (1 / SCHEDULE.alpha_bar[[1000, 10]] - 1).sqrt().asinh()
    signal = SCHEDULE.alpha_bar[[1000, 10]].sqrt()
    factor = float(signal[1] / signal[0] * (0.5 * (r[1] - r[0])).exp())
    assert_close(found, x * factor, rtol=1e-5, atol=1e-6)


def test_a_flow_of_no_time_stands_still():
    x = normal(4, 1)
    assert torch.equal(solve_ode(lambda x, t: x, SCHEDULE, x, 5, 5), x)


def test_a_network_that_says_v_is_solved():
    net = UNet(UNetConfig(size=4, patch=1, width=8, multipliers=(1,), blocks=1, embedding=8))
    model, x = Denoiser(net, SCHEDULE, "v").eval(), normal(2, 1, 4, 4).float()
    coarse = solve_ode(model, SCHEDULE, x, 500.5, 400.25, 1e-3, 1e-3)
    assert coarse.dtype == torch.float32
    fine = last(heun(model, SCHEDULE, x, torch.linspace(500.5, 400.25, 30), until=400.25))
    assert_close(coarse, fine, rtol=1e-2, atol=1e-2)


# likelihood

TIMES = torch.linspace(0, 1, 401).double() ** 1.5 * 999.99 + 0.01


@pytest.mark.parametrize("weight", [0.5, 0.2])
def test_likelihood_on_the_line_is_the_mixtures(weight):
    mixture, x = two_modes(weight), torch.linspace(-4, 4, 33).double()
    prior = mixture.diffused(SCHEDULE, 1000).log_prob
    found = log_likelihood(mixture.denoiser(SCHEDULE), SCHEDULE, x, TIMES, log_prior=prior)
    assert_close(found, mixture.log_prob(x), rtol=0, atol=1e-3)


def test_likelihood_under_the_normal_prior_is_that_of_another_law():
    """At T the 0.2 mixture is not quite N(0, 1). What the ODE makes of N(0, 1) has mass 1 too."""
    mixture, x = two_modes(0.2), torch.linspace(-5, 5, 401).double()
    found = log_likelihood(mixture.denoiser(SCHEDULE), SCHEDULE, x, TIMES)
    assert 5e-3 < (found - mixture.log_prob(x)).abs().max() < 0.05
    assert_close(float(found.exp().sum() * (x[1] - x[0])), 1.0, rtol=0, atol=1e-4)


def test_likelihood_in_the_plane_exact_and_by_hutchinson():
    x, v = normal(6, 2), torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    model, prior = IN_PLANE.denoiser(SCHEDULE), IN_PLANE.diffused(SCHEDULE, 1000).log_prob
    exact = log_likelihood(model, SCHEDULE, x, TIMES[::2], log_prior=prior)
    assert_close(exact, IN_PLANE.log_prob(x), rtol=0, atol=2e-3)
    # Over all sign vectors (two, up to a sign that does not matter) Hutchinson's mean is exact.
    sliced = [partial(sliced_divergence, v=one.expand(6, 2)) for one in v]
    found = [log_likelihood(model, SCHEDULE, x, TIMES[::2], s, prior) for s in sliced]
    assert (found[0] - found[1]).abs().max() > 0.1
    assert_close((found[0] + found[1]) / 2, exact, **CLOSE)


def test_a_likelihood_has_no_gradient_and_takes_times_in_any_form():
    """The slopes are values: a gradient through them would be wrong in silence."""
    x, model = normal(4).requires_grad_(), lambda x, t: x.sin()
    found = log_likelihood(model, SCHEDULE, x, torch.tensor([1.0, 5.0, 10.0]))
    assert not found.requires_grad
    for times in ([1, 5, 10], (1.0, 5, 10), np.array([1, 5, 10]), torch.tensor([1, 5, 10]).int()):
        assert_close(log_likelihood(model, SCHEDULE, x, times), found, rtol=1e-12, atol=1e-12)
    single = log_likelihood(model, SCHEDULE, x.float(), [1, 5, 10])
    assert single.dtype == torch.float32
    assert_close(single.double(), found, rtol=1e-4, atol=1e-4)


# a model whose slope autograd sees, or does not


class Rotated(torch.nn.Module):
    """The exact v of the mixture in the plane, as a network returns it."""

    def forward(self, x_t, t, y=None):
        return to_v(SCHEDULE, IN_PLANE.x_0(SCHEDULE, x_t, t), t, IN_PLANE.eps(SCHEDULE, x_t, t))


def rotated(off=None):
    net = Rotated()
    net.forward = off()(net.forward) if off else net.forward
    return Denoiser(net, SCHEDULE, "v")


def plain(off=None):
    model = IN_PLANE.denoiser(SCHEDULE)
    return off()(model) if off else model


MODELS = {
    "plain": plain,
    "v": rotated,
    "clipped v": lambda *off: clipped(rotated(*off), SCHEDULE, 9.0),
}
SLICED = partial(sliced_divergence, v=normal(6, 2, seed=4).sign())


@each(MODELS)
@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("by", [divergence, SLICED], ids=["exact", "sliced"])
def test_a_model_that_hides_its_slope_raises_and_the_callers_mode_does_not_matter(name, off, by):
    """Also where x_t has a part of its own in eps_hat, whose slope alone would be seen."""
    x, times, model = normal(6, 2), TIMES[::40], MODELS[name]()
    found = log_likelihood(IN_PLANE.denoiser(SCHEDULE), SCHEDULE, x, times, by)
    assert_close(log_likelihood(model, SCHEDULE, x, times, by), found, **CLOSE)
    with pytest.raises(ValueError, match="must be differentiable"):
        log_likelihood(MODELS[name](off), SCHEDULE, x, times, by)
    with off():  # all that it is given is made in there too
        inside = partial(sliced_divergence, v=normal(6, 2, seed=4).sign()) if by is SLICED else by
        same = log_likelihood(model, SCHEDULE, normal(6, 2), TIMES[::40].clone(), inside)
    assert_close(same.clone(), found, **CLOSE)


@pytest.mark.parametrize("c", [0.0, 0.3])
def test_a_constant_model_has_the_slope_0(c):
    """dy / dr = c: the flow is x_T = sqrt(alpha_bar_T) (x / sqrt(alpha_bar_1) + c (r_T - r_1))."""
    x = normal(6, 2)
    a_1, a_T = SCHEDULE.alpha_bar[[1, 1000]]
    r_1, r_T = (1 / a_1 - 1).sqrt(), (1 / a_T - 1).sqrt()
    x_T = a_T.sqrt() * (x / a_1.sqrt() + c * (r_T - r_1))
    expected = log_density(x_T, 0.0, 1.0).sum(1) + (a_T / a_1).log()  # D / 2 of it a coordinate
    times = torch.linspace(1, 1000**0.5, 300).double() ** 2
    found = log_likelihood(lambda x, t: torch.full_like(x, c), SCHEDULE, x, times.clamp(1, 1000))
    assert_close(found, expected, rtol=0, atol=2e-3)


X, T3 = normal(3), torch.tensor([1, 5, 10])
S = linear_schedule(10)
MODEL = two_modes().denoiser(S)
BAD = [
    bad(
        "prior of a column",
        lambda: log_likelihood(
            lambda x, t: x,
            SCHEDULE,
            normal(4, 1),
            torch.tensor([1.0, 5.0, 10.0]),
            log_prior=lambda x: -(x**2),
        ),
        r"log_prior must return \[B\] = \[4\], got \[4, 1\]",
    ),
    bad("solve 0", lambda: solve_ode(MODEL, S, X, 10, 0), r"t and s must lie in \(0, 10\], got 10"),
    bad("solve 11", lambda: solve_ode(MODEL, S, X, 11, 1), r"t must lie in \[0, 10\]"),
    bad("solve [B]", lambda: solve_ode(lambda x, t: x[:1], S, X, 10, 1), r"eps_hat .*got \[1\]"),
    bad("solve x.T", lambda: solve_ode(lambda x, t: x.T, S, X[:, None], 10, 1), r"got \[1, 3\]"),
    bad(
        "solve NaN model", lambda: solve_ode(lambda x, t: x / 0, S, X, 10, 1), "eps_hat must be fin"
    ),
    bad("solve half", lambda: solve_ode(MODEL, S, X.half(), 10, 1), "x_t .*float16", TypeError),
    bad("solve int", lambda: solve_ode(MODEL, S, T3, 10, 1), "x_t must be a float", TypeError),
    bad("solve none", lambda: solve_ode(MODEL, S, X[:0], 10, 1), "x_t must be a batch"),
    bad("solve t NaN", lambda: solve_ode(MODEL, S, X, math.nan, 1), r"t must lie in \[0, 10\]"),
    bad("half", lambda: log_likelihood(MODEL, S, X.bfloat16(), T3), "x .*bfloat16", TypeError),
    bad("int", lambda: log_likelihood(MODEL, S, T3, T3), "x must be a floating", TypeError),
    bad("none", lambda: log_likelihood(MODEL, S, X[:0], T3), "x must be a batch"),
    bad("from 0", lambda: log_likelihood(MODEL, S, X, T3 - 1), "t must lie in .*clean data"),
    bad("model [1]", lambda: log_likelihood(lambda x, t: x[:1], S, X, T3), r"eps_hat .*got \[1\]"),
    bad(
        "model NaN", lambda: log_likelihood(lambda x, t: x / 0, S, X, T3), "eps_hat must be finite"
    ),
    bad("word", lambda: log_likelihood(MODEL, S, X, "all"), "times must be numbers", TypeError),
    bad("solve NaN", lambda: solve_ode(MODEL, S, X * math.nan, 10, 1), "x_t must be finite"),
    bad(
        "falling",
        lambda: log_likelihood(MODEL, S, X, T3.flip(0)),
        "times must rise from the data",
    ),
    bad(
        "one time", lambda: log_likelihood(MODEL, S, X, T3[:1]), r"times must be \[n\] with n >= 2"
    ),
    bad("x NaN", lambda: log_likelihood(MODEL, S, X / 0, T3), "x must be finite"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
