"""The exact denoiser against quadrature and autograd; densities on a grid against samples."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import bad, check_bad, floats, mixtures, normal, numbers, schedules
from torch import Tensor
from torch.testing import assert_close

from ddpm_lite.bound import vlb_terms
from ddpm_lite.density import (
    chain_density,
    grid,
    least_error,
    push_density,
    reverse_density,
    sampled_density,
)
from ddpm_lite.forward import q_sample, q_step
from ddpm_lite.gaussian import log_density, product
from ddpm_lite.metrics import ks, mixture_cdf, w1_density
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.posterior import posterior
from ddpm_lite.sampling import beta_tilde_variance, ddim_step, ddpm_step, sample
from ddpm_lite.schedule import constant_schedule, cosine_schedule, linear_schedule
from ddpm_lite.times import timestep_grid

EXACT = {"rtol": 1e-12, "atol": 1e-12}
IN_PLANE = GaussianMixture([0.2, 0.5, 0.3], [[-1.0, 0.5], [1.5, 1.0], [0.0, -2.0]], [0.3, 0.6, 1.1])


def total(x, density):
    return float(density.sum() * (x[1] - x[0]))


# the mixture itself


@given(mixtures())
def test_density_is_scipys_and_weights_are_normalised(mixture):
    x = torch.linspace(-6, 6, 13, dtype=torch.float64)
    parts = [
        w * stats.norm.pdf(x.numpy(), m, s)
        for w, m, s in zip(
            *map(Tensor.tolist, (mixture.weights, mixture.means, mixture.stds)), strict=True
        )
    ]
    assert_close(mixture.log_prob(x).exp().numpy(), np.sum(parts, 0), rtol=1e-10, atol=1e-300)
    assert_close(mixture.weights.sum().item(), 1.0, **EXACT)


def test_density_in_the_plane_is_torchs():
    components = torch.distributions.Independent(
        torch.distributions.Normal(IN_PLANE.means, IN_PLANE.stds[:, None]), 1
    )
    torchs = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(IN_PLANE.weights), components
    )
    x = 3 * normal(20, 2)
    assert_close(IN_PLANE.log_prob(x), torchs.log_prob(x), **EXACT)


@pytest.mark.parametrize("mixture", [two_modes(), two_modes(0.2), GaussianMixture([2], [1], [3])])
def test_samples_have_the_law(mixture):
    n = 20_000
    x = mixture.sample(n, torch.Generator().manual_seed(0))
    assert x.shape == (n,) and x.dtype == torch.float64
    assert ks(x, mixture_cdf(mixture))[1] > 0.01
    mean = (mixture.weights * mixture.means).sum()
    var = (mixture.weights * (mixture.stds**2 + (mixture.means - mean) ** 2)).sum()
    assert abs(x.mean() - mean) < 4 * (var / n).sqrt()
    assert abs(x.var() - var) < 4 * ((x - mean) ** 2).std() / n**0.5


def test_samples_in_the_plane_have_the_moments():
    n = 20_000
    x = IN_PLANE.sample(n, torch.Generator().manual_seed(1))
    assert x.shape == (n, 2)
    w, m = IN_PLANE.weights[:, None], IN_PLANE.means
    mean = (w * m).sum(0)
    second = (w * m).T @ m + (IN_PLANE.weights * IN_PLANE.stds**2).sum() * torch.eye(2)
    assert ((x.mean(0) - mean).abs() < 4 * x.std(0) / n**0.5).all()
    products = x[:, :, None] * x[:, None]
    assert ((products.mean(0) - second).abs() < 4 * products.std(0) / n**0.5).all()


def test_two_modes_is_the_books_mixture():
    assert repr(two_modes(0.25)) == (
        "GaussianMixture(weights=[0.25, 0.75], means=[-2.0, 2.0], stds=[0.5, 0.5])"
    )
    means = torch.tensor([1.0], dtype=torch.float64)
    mixture = GaussianMixture([1], means, [1])
    means[0] = 7
    assert mixture.means[0] == 1


# what diffusion does to it


@given(mixtures(), schedules(), st.data())
def test_diffused_density_is_the_convolution(mixture, schedule, data):
    """q(x_t) = integral of q(x_0) q(x_t | x_0) over x_0, on a grid."""
    t = data.draw(st.integers(0, schedule.T))
    x_t = torch.linspace(-3, 3, 5, dtype=torch.float64)
    diffused = mixture.diffused(schedule, t)
    if t == 0:
        assert_close(diffused.log_prob(x_t), mixture.log_prob(x_t), **EXACT)
        return
    x_0 = torch.linspace(-14, 14, 20001, dtype=torch.float64)
    alpha_bar = schedule.alpha_bar[t]
    jump = log_density(x_t[:, None], alpha_bar.sqrt() * x_0, 1 - alpha_bar)
    density = (jump + mixture.log_prob(x_0)).exp().sum(1) * 28 / 20000
    assert_close(diffused.log_prob(x_t).exp(), density, rtol=1e-8, atol=1e-12)


def test_diffused_is_the_law_of_q_sample_of_samples():
    schedule, mixture, n = linear_schedule(), two_modes(0.2), 10_000
    x_0 = mixture.sample(n, torch.Generator().manual_seed(2))
    for seed, t in enumerate((1, 100, 400, 1000)):
        x_t = q_sample(schedule, x_0, torch.full((n,), t), normal(n, seed=10 + seed))
        assert ks(x_t, mixture_cdf(mixture.diffused(schedule, t)))[1] > 0.01, t
    between = mixture.diffused(schedule, 400.5).means
    assert mixture.diffused(schedule, 401).means[1] < between[1]
    assert between[1] < mixture.diffused(schedule, 400).means[1]


# the denoiser


@given(mixtures(), schedules(), st.data())
def test_x_0_and_eps_by_quadrature(mixture, schedule, data):
    """E[x_0 | x_t] and E[eps | x_t]: weigh a grid of x_0 by q(x_0) q(x_t | x_0)."""
    t = data.draw(st.integers(1, schedule.T))
    x_t = numbers(*data.draw(st.lists(floats(-3, 3), min_size=1, max_size=4)))
    now = torch.full(x_t.shape, t)
    alpha_bar = schedule.alpha_bar[t]
    grid_0 = torch.linspace(-14, 14, 20001, dtype=torch.float64)
    jump = log_density(x_t[:, None], alpha_bar.sqrt() * grid_0, 1 - alpha_bar)
    weight = (jump + mixture.log_prob(grid_0)).softmax(1)
    x_0 = (weight * grid_0).sum(1)
    eps = (weight * (x_t[:, None] - alpha_bar.sqrt() * grid_0)).sum(1) / (1 - alpha_bar).sqrt()
    assert_close(mixture.x_0(schedule, x_t, now), x_0, rtol=1e-8, atol=1e-8)
    assert_close(mixture.eps(schedule, x_t, now), eps, rtol=1e-8, atol=1e-8)
    assert torch.equal(mixture.denoiser(schedule)(x_t, now), mixture.eps(schedule, x_t, now))


@given(mixtures(), schedules(), st.data())
def test_score_is_the_gradient_of_the_log_density(mixture, schedule, data):
    t = data.draw(st.integers(1, schedule.T))
    x_t = torch.linspace(-4, 4, 9, dtype=torch.float64).requires_grad_()
    mixture.diffused(schedule, t).log_prob(x_t).sum().backward()
    score = mixture.score(schedule, x_t.detach(), torch.full((9,), t))
    assert_close(score, x_t.grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [1, 10, 100, 1000])
def test_denoiser_in_the_plane_by_quadrature_and_autograd(t):
    schedule = linear_schedule()
    x_t, now = 2 * normal(5, 2, seed=3).requires_grad_(), torch.full((5,), t)
    (gradient,) = torch.autograd.grad(IN_PLANE.diffused(schedule, t).log_prob(x_t).sum(), x_t)
    x_t = x_t.detach()
    assert_close(IN_PLANE.score(schedule, x_t, now), gradient, rtol=1e-8, atol=1e-8)
    alpha_bar = schedule.alpha_bar[t]
    # A grid around each x_t / sqrt(alpha_bar) as wide as the likelihood, or as the data.
    std = min(((1 - alpha_bar) / alpha_bar).sqrt().item(), 3.0)
    axis = torch.linspace(-7, 7, 301, dtype=torch.float64)
    square = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    for b in range(5):
        centre = x_t[b] / alpha_bar.sqrt() if std < 3 else torch.zeros(2, dtype=torch.float64)
        points = centre + std * square
        jump = log_density(x_t[b], alpha_bar.sqrt() * points, 1 - alpha_bar).sum(1)
        weight = (jump + IN_PLANE.log_prob(points)).softmax(0)
        x_0 = weight @ points
        assert_close(IN_PLANE.x_0(schedule, x_t, now)[b], x_0, rtol=1e-6, atol=1e-6)


@given(floats(-3, 3), floats(0.2, 2), schedules())
def test_one_component_is_the_product_of_two_gaussians(mean, std, schedule):
    """Prior N(m, s^2) times what x_t says of x_0: N(x_t / sqrt(alpha_bar), 1 / SNR)."""
    t = torch.arange(1, schedule.T + 1)
    x_t = normal(schedule.T)
    alpha_bar = schedule.alpha_bar[t]
    x_0, _ = product(mean, std**2, x_t / alpha_bar.sqrt(), 1 / schedule.snr[t])
    mixture = GaussianMixture([1], [mean], [std])
    assert_close(mixture.x_0(schedule, x_t, t), x_0, rtol=1e-8, atol=1e-8)


def test_denoiser_leaves_an_error_that_no_function_of_x_t_explains():
    """The law of a conditional mean: E[(eps - eps*) f(x_t)] = 0 for any f, at every t."""
    schedule, mixture, n = linear_schedule(), two_modes(0.2), 20_000
    x_0, eps = mixture.sample(n, torch.Generator().manual_seed(3)), normal(n, seed=4)
    t = torch.randint(1, 1001, (n,), generator=torch.Generator().manual_seed(5))
    x_t = q_sample(schedule, x_0, t, eps)
    rest = eps - mixture.eps(schedule, x_t, t)
    for f in (torch.ones_like, torch.sin, torch.abs, lambda x: (x > 1).double(), lambda x: x * t):
        unexplained = rest * f(x_t)
        assert abs(unexplained.mean()) < 4 * unexplained.std() / n**0.5


def test_far_points_small_types_and_layouts():
    schedule, mixture = linear_schedule(), two_modes(0.2)
    t = torch.tensor([1, 500, 1000])
    far = torch.tensor([-1e3, 1e3, 1e3], dtype=torch.float64)
    assert mixture.eps(schedule, far, t).isfinite().all()
    # Far out the nearest mode has all the weight.
    one_mode = GaussianMixture([1], [2.0], [0.5])
    assert_close(mixture.x_0(schedule, far, t)[1], one_mode.x_0(schedule, far, t)[1], **EXACT)
    x = normal(6)[::2]
    exact = mixture.eps(schedule, x, t)
    assert torch.equal(exact, mixture.eps(schedule, x.contiguous(), t))
    for dtype, rounding in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        x_t = x.to(dtype)
        for result, reference in (
            (mixture.eps(schedule, x_t, t), mixture.eps(schedule, x_t.double(), t)),
            (mixture.x_0(schedule, x_t, t), mixture.x_0(schedule, x_t.double(), t)),
            (mixture.score(schedule, x_t, t), mixture.score(schedule, x_t.double(), t)),
            (mixture.log_prob(x_t), mixture.log_prob(x_t.double())),
        ):
            assert result.dtype == dtype
            assert_close(result.double(), reference, rtol=rounding, atol=1e-30)


# the reverse step without x_0


@given(mixtures(), floats(-3, 3), st.integers(1, 12))
def test_reverse_density_is_a_density_with_the_moments_of_the_posterior(mixture, x_t, t):
    """Its mean is mu_tilde at E[x_0 | x_t]; its variance, beta_tilde plus that of mu_tilde."""
    schedule = linear_schedule(12, 0.01, 0.3)
    x = grid(-14, 14, 20001)
    p = reverse_density(mixture, schedule, x_t, t, x) * (x[1] - x[0])
    assert_close(p.sum().item(), 1.0, rtol=1e-9, atol=0)
    alpha_bar = schedule.alpha_bar[t]
    jump = log_density(x_t, alpha_bar.sqrt() * x, 1 - alpha_bar)
    weight = (jump + mixture.log_prob(x)).softmax(0)  # q(x_0 | x_t)
    x_0 = (weight * x).sum()
    now, here = torch.tensor([t]), numbers(x_t)
    mean, var = posterior(schedule, x_0[None], here, now)
    slope = posterior(schedule, x_0[None] + 1, here, now)[0] - mean
    assert_close((p * x).sum(), mean[0], rtol=1e-8, atol=1e-8)
    expected = var[0] + slope[0] ** 2 * (weight * (x - x_0) ** 2).sum()
    assert_close((p * (x - mean) ** 2).sum(), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("t", [1, 2, 6])
def test_reverse_density_averaged_over_x_t_is_the_law_one_step_earlier(t):
    schedule, mixture = constant_schedule(6, 0.2), two_modes(0.3)
    x_s, x_t = grid(-6, 6, 401), grid(-8, 8, 801)
    q_t = mixture.diffused(schedule, t).log_prob(x_t).exp() * (x_t[1] - x_t[0])
    averaged = sum(
        q * reverse_density(mixture, schedule, x, t, x_s)
        for x, q in zip(x_t.tolist(), q_t, strict=True)
    )
    expected = mixture.diffused(schedule, t - 1).log_prob(x_s).exp()
    assert_close(averaged, expected, rtol=1e-9, atol=1e-11)


# densities pushed on a grid


@given(mixtures(), floats(-1, 1), floats(-1, 1), st.one_of(st.just(0.0), floats(0.05, 1)))
def test_push_keeps_mass_mean_and_variance(mixture, slope, shift, std):
    """Of an affine map: the mean is mapped, the variance is slope^2 var + std^2."""
    x = grid(-16, 16, 2048)
    p = mixture.log_prob(x).exp()
    pushed = push_density(x, p, slope * x + shift, std)
    mean = total(x, p * x)
    var = total(x, p * (x - mean) ** 2)
    assert_close(total(x, pushed), total(x, p), **EXACT)
    assert_close(total(x, pushed * x), slope * mean + shift, rtol=1e-9, atol=1e-9)
    spread = total(x, pushed * (x - slope * mean - shift) ** 2)
    assert_close(spread, slope**2 * var + std**2, rtol=1e-9, atol=1e-9)


def test_push_of_a_gaussian_is_a_gaussian():
    x = grid(n=2048)
    pushed = push_density(x, log_density(x, 0.5, 0.7).exp(), 0.8 * x - 1, 0.3)
    expected = log_density(x, 0.8 * 0.5 - 1, 0.8**2 * 0.7 + 0.3**2).exp()
    assert_close(pushed, expected, rtol=0, atol=1e-9)


def test_push_without_noise_by_the_identity_changes_nothing():
    x = grid(n=256)
    p = two_modes().log_prob(x).exp()
    assert_close(push_density(x, p, x, 0.0), p, rtol=0, atol=1e-12)


def dense(mixture, schedule, x, step, steps):
    """`sampled_density` by its definition: the density before the last step, and the last map.

    Each step is the integral of N(x_s; mean(x_t), std^2) p(x_t) over x_t: a full matrix.
    """
    times = timestep_grid(schedule.T, steps).tolist()
    p, h = log_density(x, 0.0, 1.0).exp(), x[1] - x[0]
    for t, s in zip(times, times[1:], strict=False):
        t_now, s_now = torch.full(x.shape, t), torch.full(x.shape, s)
        eps_hat = mixture.eps(schedule, x, t_now)
        mean = step(schedule, x, t_now, s_now, eps_hat, 0 * x)
        if s == 0:
            return p, mean
        std = (step(schedule, x, t_now, s_now, eps_hat, 0 * x + 1) - mean)[0]
        p = log_density(x[:, None], mean, std**2).exp() @ p * h


STEPS = [
    pytest.param(ddpm_step, id="beta"),
    pytest.param(partial(ddpm_step, variance=beta_tilde_variance), id="beta_tilde"),
    pytest.param(partial(ddim_step, eta=0.7), id="ddim 0.7"),
]


@pytest.mark.parametrize("step", STEPS)
def test_sampled_density_against_dense_quadrature(step):
    schedule, mixture, x = linear_schedule(40, 0.005, 0.2), two_modes(0.3), grid(n=2048)
    density = sampled_density(mixture.denoiser(schedule), schedule, x, step, steps=4)
    before, last = dense(mixture, schedule, x, step, 4)
    assert_close(total(x, density), 1.0, rtol=1e-9, atol=0)
    for f in (torch.square, torch.sin, torch.sigmoid, lambda v: torch.exp(-((v - 2) ** 2))):
        assert_close(total(x, density * f(x)), total(x, before * f(last)), rtol=1e-6, atol=1e-6)


@given(floats(-2, 2), floats(0.3, 1.5), schedules(12), st.data())
@settings(max_examples=15)
def test_sampled_density_of_one_gaussian_is_gaussian(mean_0, std_0, schedule, data):
    """There each step is an affine map, so mean and variance follow by hand."""
    steps = data.draw(st.integers(1, schedule.T))
    step = data.draw(st.sampled_from([s.values[0] for s in STEPS]))
    model = GaussianMixture([1], [mean_0], [std_0]).denoiser(schedule)
    mean, var = 0.0, 1.0
    points, z = numbers(0, 1, 0), numbers(0, 0, 1)
    times = timestep_grid(schedule.T, steps).tolist()
    for t, s in zip(times, times[1:], strict=False):
        t_now, s_now = torch.full((3,), t), torch.full((3,), s)
        out = step(schedule, points, t_now, s_now, model(points, t_now), z)
        shift, slope, std = (out[0], out[1] - out[0], out[2] - out[0])
        mean, var = slope * mean + shift, slope**2 * var + std**2
    x = grid(-12, 12, 4096)
    density = sampled_density(model, schedule, x, step, steps)
    moments = total(x, density), total(x, density * x), total(x, density * (x - mean) ** 2)
    assert_close(moments, (1.0, float(mean), float(var)), rtol=1e-6, atol=1e-6)
    cumulative = stats.norm.cdf(x, float(mean), float(var) ** 0.5)
    if var > 0.05:  # else the midpoint rule for the CDF is too coarse
        ours = density.cumsum(0) * (x[1] - x[0]) - density * (x[1] - x[0]) / 2
        assert_close(ours.numpy(), cumulative, rtol=0, atol=1e-4)


@pytest.mark.parametrize("step", [*STEPS, pytest.param(ddim_step, id="ddim 0")])
def test_sampled_density_is_the_law_of_sample(step):
    schedule, mixture, x = cosine_schedule(40), two_modes(0.3), grid(n=2048)
    model = mixture.denoiser(schedule)
    density = sampled_density(model, schedule, x, step, steps=8)
    cdf = (density.cumsum(0) * (x[1] - x[0])).numpy()
    *_, (_, x_0, _) = sample(
        model,
        schedule,
        (10_000,),
        step,
        steps=8,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
    )
    statistic, p_value = ks(x_0, lambda v: np.interp(v, x.numpy() + float(x[1] - x[0]) / 2, cdf))
    assert p_value > 0.01, statistic


def test_sampled_density_from_the_exact_start_ends_closer():
    schedule, mixture, x = linear_schedule(50, 0.002, 0.1), two_modes(), grid(n=1024)
    truth, model = mixture.log_prob(x).exp(), mixture.denoiser(schedule)
    start = mixture.diffused(schedule, 50).log_prob(x).exp()
    exact = sampled_density(model, schedule, x, initial=start)
    assert w1_density(x, exact, truth) < w1_density(x, sampled_density(model, schedule, x), truth)


@given(mixtures(), schedules(6))
@settings(max_examples=10)
def test_least_error_is_the_loss_of_the_exact_denoiser(mixture, schedule):
    """E (eps - eps*)^2 over x_0 and eps on a grid of both, where `least_error` has one integral."""
    error = least_error(mixture, schedule, grid(-16, 16, 4096))
    assert error.shape == (schedule.T + 1,) and error[0] == 1
    x_0, eps = torch.linspace(-9, 9, 301).double(), torch.linspace(-7, 7, 201).double()
    mass = mixture.log_prob(x_0).exp()[:, None] * log_density(eps, 0.0, 1.0).exp()
    mass = mass / mass.sum()
    t = schedule.T
    alpha_bar = schedule.alpha_bar[t]
    x_t = (alpha_bar.sqrt() * x_0[:, None] + (1 - alpha_bar).sqrt() * eps).flatten()
    exact = mixture.eps(schedule, x_t, torch.full(x_t.shape, t)).reshape(301, 201)
    assert_close(error[t], (mass * (eps - exact) ** 2).sum(), rtol=0, atol=2e-3)


@given(mixtures(), schedules(), st.data())
def test_denoiser_at_real_times_is_the_gradient_of_the_diffused_density(mixture, schedule, data):
    t = data.draw(floats(0.01, schedule.T))
    x_t = torch.linspace(-4, 4, 9, dtype=torch.float64).requires_grad_()
    mixture.diffused(schedule, t).log_prob(x_t).sum().backward()
    score = mixture.score(schedule, x_t.detach(), torch.full((9,), t, dtype=torch.float64))
    assert_close(score, x_t.grad, rtol=1e-6, atol=1e-6)


def test_sampled_density_walks_the_times_that_it_is_given():
    """A walk in two parts, at real times, is the walk."""
    schedule, mixture, x = linear_schedule(40, 0.005, 0.2), two_modes(0.3), grid(n=1024)
    model, times = mixture.denoiser(schedule), numbers(39.5, 20, 7.25, 0)
    whole = sampled_density(model, schedule, x, ddpm_step, times)
    first = sampled_density(model, schedule, x, ddpm_step, times[:2])
    assert_close(sampled_density(model, schedule, x, ddpm_step, times[1:], first), whole, **EXACT)
    every = sampled_density(model, schedule, x, ddpm_step, timestep_grid(40, 5))
    assert torch.equal(every, sampled_density(model, schedule, x, ddpm_step, 5))


# the chain's own marginal


@st.composite
def chains(draw, max_T=6):
    """A short schedule of large steps, and what `chain_density` takes: variance and variance_1."""
    T = draw(st.integers(2, max_T))
    schedule = linear_schedule(T, draw(floats(0.05, 0.4)), draw(floats(0.1, 0.6)))
    variance = numbers(0, 0, *draw(st.lists(floats(0.05, 0.8), min_size=T - 1, max_size=T - 1)))
    variance = draw(st.sampled_from([None, schedule.beta, variance]))
    return schedule, variance, draw(st.one_of(st.none(), floats(0.02, 0.5)))


def steps_back(model, schedule, variance, variance_1):
    """t, mu_theta(., t) and sigma_t^2 from T to 1, by the formulas of the papers."""
    for t in range(schedule.T, 0, -1):
        beta, noise = schedule.beta[t], 1 - schedule.alpha_bar[t]

        def mean(x, t=t, beta=beta, noise=noise):
            eps_hat = model(x, torch.full(x.shape, t))
            return (x - beta / noise.sqrt() * eps_hat) / (1 - beta).sqrt()

        var = (schedule.beta_tilde if variance is None else variance)[t]
        if t == 1:
            var = schedule.beta_tilde[2] if variance_1 is None else torch.tensor(variance_1)
        yield t, mean, var.double()


def spoiled(mixture, schedule):
    """A denoiser that is wrong everywhere, in a way that depends on x_t."""
    return lambda x_t, t: mixture.eps(schedule, x_t, t) + 0.3 * torch.cos(2 * x_t)


@given(mixtures(), chains())
@settings(max_examples=12)
def test_chain_density_against_dense_quadrature(mixture, chain):
    """The integral over paths, one full matrix a step, for a denoiser that is not exact."""
    schedule, model, x = chain[0], spoiled(mixture, chain[0]), grid(-12, 12, 801)
    p = log_density(x, 0.0, 1.0).exp()
    for _, mean, var in steps_back(model, *chain):
        p = log_density(x[:, None], mean(x), var).exp() @ p * (x[1] - x[0])
    density = chain_density(model, schedule, x, *chain[1:])
    assert_close(density, p, rtol=1e-4, atol=1e-6)
    assert_close(total(x, density), 1.0, rtol=1e-6, atol=0)


@given(floats(-2, 2), floats(0.3, 1.5), chains())
@settings(max_examples=20)
def test_chain_density_of_one_gaussian_is_gaussian_the_last_noise_included(mean_0, std_0, chain):
    model = GaussianMixture([1], [mean_0], [std_0]).denoiser(chain[0])
    mean, var = 0.0, 1.0
    for _, step_mean, noise in steps_back(model, *chain):
        zero, one = step_mean(numbers(0, 1))
        mean, var = (one - zero) * mean + zero, (one - zero) ** 2 * var + noise
    x = grid(-12, 12, 2049)
    density = chain_density(model, chain[0], x, *chain[1:])
    assert_close(density, log_density(x, mean, var).exp(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_paths_from_x_0_average_to_the_chain_density_and_their_logs_to_the_bound(variance):
    """E_q[p(x_0..T) / q(x_1..T | x_0)] is p_theta(x_0), and the mean of its logarithm is less.

    The same chain as `objective.vlb_terms`, which finds the bound by other means.
    """
    schedule, mixture, n = constant_schedule(6, 0.3), two_modes(0.3), 200_000
    table, model = getattr(schedule, variance), spoiled(mixture, schedule)
    x, generator = grid(n=2049), torch.Generator().manual_seed(11)
    i = 1024 + 128  # x = 1
    path = [x[i].expand(n)]
    for t in range(1, 7):
        z = torch.randn(n, generator=generator, dtype=torch.float64)
        path.append(q_step(schedule, path[-1], torch.full((n,), t), z))
    log_ratio = log_density(path[6], 0.0, 1.0)
    for t, mean, var in steps_back(model, schedule, table, None):
        log_ratio += log_density(path[t - 1], mean(path[t]), var)
        log_ratio -= log_density(path[t], (1 - 0.3) ** 0.5 * path[t - 1], 0.3)
    p = chain_density(model, schedule, x, table)[i]
    ratio = log_ratio.exp()
    assert abs(ratio.mean() - p) < 4 * ratio.std() / n**0.5
    x_0 = path[0][:20_000]
    terms = vlb_terms(model, schedule, x_0, None, generator, log_density, table)
    error = math.hypot(terms.standard_error, float(log_ratio.std()) / n**0.5)
    assert abs(log_ratio.mean() + terms.total.mean()) < 4 * error
    assert log_ratio.mean() < p.log() - 10 * error


def test_least_error_where_next_to_nothing_is_left_of_the_data():
    """There the error is the SNR times the variance of the data; 1 - E eps_hat^2 is rounding."""
    schedule = linear_schedule(1000, 1e-4, 0.1)
    places = least_error(two_modes(), schedule, grid()) / schedule.alpha_bar
    assert_close(places[900:], torch.full((101,), 4.25).double(), rtol=1e-3, atol=0)


def test_chain_density_is_the_law_of_samples_with_noise_at_the_last_step():
    schedule, mixture, n = cosine_schedule(8), two_modes(0.3), 10_000
    model, x = mixture.denoiser(schedule), grid(n=2049)
    generator = torch.Generator().manual_seed(12)
    x_t = torch.randn(n, generator=generator, dtype=torch.float64)
    for _, mean, var in steps_back(model, schedule, schedule.beta, 0.2):
        z = torch.randn(n, generator=generator, dtype=torch.float64)
        x_t = mean(x_t) + var.sqrt() * z
    density = chain_density(model, schedule, x, schedule.beta, 0.2)
    cdf = (density.cumsum(0) * (x[1] - x[0])).numpy()
    statistic, p = ks(x_t, lambda v: np.interp(v, x.numpy() + float(x[1] - x[0]) / 2, cdf))
    assert p > 0.01, statistic


def test_chain_density_comes_closer_to_the_data_as_one_over_T_squared():
    """KL(data || p_theta) with sigma^2 = beta and the same alpha_bar curve."""
    x, data = grid(n=1025), two_modes()
    found = []
    for T in (50, 200):
        schedule = linear_schedule().respaced(T)
        p = chain_density(data.denoiser(schedule), schedule, x, schedule.beta)
        log_q = data.log_prob(x)
        inside = log_q > -30
        found.append(total(x, (log_q.exp() * (log_q - p.clamp(min=1e-30).log()))[inside]))
    assert 0 < found[1] < found[0] / 10  # 4 times the steps: 16 times closer in the limit


# bad input

mix = GaussianMixture
S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])
M, LINE = two_modes(), grid(n=64)
P, MODEL, NAN = M.log_prob(LINE).exp(), M.denoiser(S), math.nan


def density(x=LINE, steps=2, initial=None):
    return sampled_density(MODEL, S, x, steps=steps, initial=initial)


def of_chain(variance=None, variance_1=None, schedule=S):
    return chain_density(MODEL, schedule, LINE, variance, variance_1)


BAD = [
    bad("wide noise", lambda: of_chain(None, 16.0), "farther"),
    bad("narrow grid", lambda: least_error(two_modes(), S, grid(-1, 1)), "mass"),
    bad("weights 0-D", lambda: mix(1, 1, 1), r"weights .*shape \[K\].*got \[\]"),
    bad("no component", lambda: mix([], [], []), r"weights .*K >= 1, got \[0\]"),
    bad("means 3-D", lambda: mix([1], [[[1]]], [1]), r"means .*got \[1\] and \[1, 1, 1\]"),
    bad("lengths", lambda: mix([1, 1], [1], [1, 1]), "one entry per component, got 2, 1"),
    bad("stds", lambda: mix([1, 1], [1, 2], [1]), r"stds .*per component, got 2, 2.*\[1\]"),
    bad("weight 0", lambda: mix([1, 0], [1, 2], [1, 1]), r"weights .*positive.*1.0, 0.0"),
    bad("weight inf", lambda: mix([1, math.inf], [1, 2], [1, 1]), "weights .*finite.*inf"),
    bad("std < 0", lambda: mix([1], [1], [-1]), r"stds must be positive.*got \[-1.0\]"),
    bad("std NaN", lambda: mix([1], [1], [NAN]), r"stds must be positive.*got \[nan\]"),
    bad("mean NaN", lambda: mix([1], [NAN], [1]), r"means must be finite, got \[nan\]"),
    bad("two_modes 0", lambda: two_modes(0.0), "weight must lie strictly between 0 and 1, got 0"),
    bad("two_modes NaN", lambda: two_modes(NAN), "weight must lie .*got nan"),
    bad("n", lambda: M.sample(0), "n must be at least 1, got 0"),
    bad("log_prob", lambda: M.log_prob(X[:, None]), r"x must have shape \[B\], got \[3, 1\]: resh"),
    bad("log_prob 0-D", lambda: M.log_prob(X[0]), r"x must have shape \[B\], got \[\]"),
    bad("log_prob NaN", lambda: M.log_prob(X * NAN), "x must be finite"),
    bad("plane", lambda: IN_PLANE.log_prob(X), r"x must have shape \[B, 2\], got \[3\]: reshape"),
    bad("diffused t", lambda: M.diffused(S, 11), r"t must lie in \[0, 10\], got 11"),
    bad("diffused [B]", lambda: M.diffused(S, T3), r"t must be one number, got \[3\]: call it"),
    bad("x_t", lambda: M.x_0(S, X[:, None], T3), r"x_t must have shape \[B\], got \[3, 1\]: resh"),
    bad("x_t NaN", lambda: M.eps(S, X * NAN, T3), "x_t must be finite, got NaN"),
    bad("t 0", lambda: M.eps(S, X, T3 - 1), r"t must lie in 1\.\.10, got .*clean data"),
    bad("t int", lambda: M.x_0(S, X, 3), r"t .*got int: use torch\.full", TypeError),
    bad("t int32", lambda: M.score(S, X, T3.int()), r"t .*int32.*use t\.long", TypeError),
    bad("score t 0", lambda: M.score(S, X, T3 - 1), r"t must lie in 1\.\.10, got .*clean data"),
    bad("push float32", lambda: push_density(LINE.float(), P, LINE, 1.0), "x .*float64", TypeError),
    bad("push uneven", lambda: push_density(LINE**3, P, LINE, 1.0), r"x .*even.*grid\(\)"),
    bad("push falling", lambda: push_density(-LINE, P, LINE, 1.0), "x must be an even, rising"),
    bad("push short", lambda: push_density(LINE[:3], P[:3], LINE[:3], 1.0), "x .*4 points or more"),
    bad("push shapes", lambda: push_density(LINE, P[1:], LINE, 1.0), r"density .*\[64\].*\[63\]"),
    bad("push NaN", lambda: push_density(LINE, P, LINE * NAN, 1.0), "mean must be finite, got NaN"),
    bad("push std", lambda: push_density(LINE, P, LINE, -1.0), "std .*at least 0, got -1"),
    bad("push away", lambda: push_density(LINE, P, LINE + 9, 1.0), "x .*farther: .*wider"),
    bad("narrow", lambda: density(grid(-1, 1, 64)), "initial .*mass 1 .*0.69.*wider"),
    bad("coarse", lambda: density(grid(n=6)), "initial .*mass 1 .*finer grid"),
    bad("initial", lambda: density(initial=2 * P), "initial .*mass 1 .*got 2"),
    bad("initial NaN", lambda: density(initial=P * NAN), "initial must have mass 1 .*got nan"),
    bad("steps", lambda: density(steps=11), r"steps .*1\.\.T = 10, got 11"),
    bad("float32", lambda: density(LINE.float()), "x .*float64 grid: make it", TypeError),
    bad("chain table", lambda: of_chain(S.beta[1:]), r"table \[T \+ 1\] = \[11\].*got \[10\]"),
    bad("chain 0", lambda: of_chain(0 * S.beta), r"positive at t = 2\.\.T"),
    bad("chain var 0", lambda: of_chain(None, 0.0), "variance_1 must be positive .*got 0"),
    bad("chain var NaN", lambda: of_chain(None, NAN), "variance_1 must be positive .*nan"),
    bad("chain T 1", lambda: of_chain(schedule=linear_schedule(1)), "variance_1 .*when T = 1"),
    bad("reverse 0", lambda: reverse_density(M, S, 0.1, 0, LINE), r"t .*1\.\.10, got 0"),
    bad("reverse 11", lambda: reverse_density(M, S, 0.1, 11, LINE), r"t .*1\.\.10, got 11"),
    bad("reverse NaN", lambda: reverse_density(M, S, NAN, 1, LINE), "x must be finite"),
    bad("reverse 2-D", lambda: reverse_density(IN_PLANE, S, 0.1, 1, LINE), r"x .*\[B, 2\].*\[1\]"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
