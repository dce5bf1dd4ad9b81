"""The probability-flow ODE solved by SciPy, and the likelihood that it gives."""

import math
from functools import partial

import pytest
import torch
from strategies import bad, check_bad, normal, numbers
from torch.testing import assert_close

from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.networks import Denoiser, UNet, UNetConfig
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.score import sliced_divergence
from ddpm_lite.sde import heun_step, log_likelihood, solve_ode

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


def test_a_network_that_says_v_takes_real_times():
    net = UNet(UNetConfig(size=4, patch=1, width=8, multipliers=(1,), blocks=1, embedding=8))
    model = Denoiser(net, SCHEDULE, "v").eval()
    x, z = normal(2, 2, 1, 4, 4).float()
    t, s = torch.tensor([400.5, 400.5]), torch.tensor([300.25, 300.25])
    with torch.no_grad():
        x_s = heun_step(SCHEDULE, x, t, s, model(x, t), z, model)
        whole = model(x, torch.tensor([400, 400]))
        assert torch.equal(model(x, torch.tensor([400.0, 400.0])), whole)
    assert x_s.shape == x.shape and x_s.dtype == torch.float32 and x_s.isfinite().all()
    assert solve_ode(model, SCHEDULE, x, 500.5, 400.25, 1e-2, 1e-2).isfinite().all()


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


def test_a_likelihood_has_no_gradient_and_a_flow_of_no_time_stands_still():
    """The slopes are values: a gradient through them would be wrong in silence."""
    x = normal(4).requires_grad_()
    times = torch.tensor([1.0, 5.0, 10.0])
    assert not log_likelihood(lambda x, t: x, SCHEDULE, x, times).requires_grad
    x_5 = normal(4, 1)
    assert_close(solve_ode(lambda x, t: x, SCHEDULE, x_5, 5, 5), x_5, rtol=0, atol=0)


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
    bad("solve NaN", lambda: solve_ode(MODEL, S, X * math.nan, 10, 1), "x_t must be finite"),
    bad("falling", lambda: log_likelihood(MODEL, S, X, T3.flip(0)), "times must .* rise from the"),
    bad(
        "one time", lambda: log_likelihood(MODEL, S, X, T3[:1]), r"times must be \[n\] with n >= 2"
    ),
    bad("x NaN", lambda: log_likelihood(MODEL, S, X / 0, T3), "x must be finite"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
