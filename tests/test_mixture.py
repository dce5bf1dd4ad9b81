"""The exact denoiser of a mixture, against quadrature, autograd, SciPy and torch.distributions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import bad, check_bad, floats, generator, mixtures, normal, numbers, schedules
from torch import Tensor
from torch.testing import assert_close

from ddpm_lite.density import grid
from ddpm_lite.forward import q_sample
from ddpm_lite.gaussian import log_density, product
from ddpm_lite.metrics import ks, mixture_cdf
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.schedule import linear_schedule

EXACT = {"rtol": 1e-12, "atol": 1e-12}
IN_PLANE = GaussianMixture([0.2, 0.5, 0.3], [[-1.0, 0.5], [1.5, 1.0], [0.0, -2.0]], [0.3, 0.6, 1.1])


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


@given(mixtures(), schedules(), st.data())
def test_denoiser_at_real_times_is_the_gradient_of_the_diffused_density(mixture, schedule, data):
    t = data.draw(floats(0.01, schedule.T))
    x_t = torch.linspace(-4, 4, 9, dtype=torch.float64).requires_grad_()
    mixture.diffused(schedule, t).log_prob(x_t).sum().backward()
    score = mixture.score(schedule, x_t.detach(), torch.full((9,), t, dtype=torch.float64))
    assert_close(score, x_t.grad, rtol=1e-6, atol=1e-6)


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
    for dtype, rounding in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)):
        x_t = x.to(dtype)
        for result, reference in (
            (mixture.eps(schedule, x_t, t), mixture.eps(schedule, x_t.double(), t)),
            (mixture.x_0(schedule, x_t, t), mixture.x_0(schedule, x_t.double(), t)),
            (mixture.score(schedule, x_t, t), mixture.score(schedule, x_t.double(), t)),
            (mixture.log_prob(x_t), mixture.log_prob(x_t.double())),
        ):
            assert result.dtype == dtype
            assert_close(result.double(), reference, rtol=rounding, atol=1e-30)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [([1e308, 1e308], [0.5, 0.5]), ([3e-320, 1e-320], [0.75, 0.25]), ([1e-300, 1], [1e-300, 1])],
    ids=str,
)
def test_weights_of_any_size_are_shares(weights, shares):
    """Also where their sum is no float64, and after a diffusion."""
    mixture = GaussianMixture(weights, [-2.0, 2.0], [0.5, 0.5])
    assert_close(mixture.weights, numbers(*shares), rtol=1e-3, atol=0)  # 1e-320 has three digits
    diffused = mixture.diffused(linear_schedule(), 400)
    assert torch.equal(diffused.weights, mixture.weights)
    assert (
        diffused.log_prob(numbers(0.5)).isfinite()
        and mixture.sample(5, generator()).isfinite().all()
    )


@pytest.mark.parametrize("std", [1e-150, 1e150])
def test_the_smallest_and_the_largest_modes_are_safe(std):
    schedule, t = linear_schedule(), torch.tensor([1, 1000])
    mixture, x = GaussianMixture([1, 1], [-1.0, 1.0], [std, std]), numbers(-0.9, 2)
    for found in (mixture.eps(schedule, x, t), mixture.x_0(schedule, x, t)):
        assert found.isfinite().all()
    expected = x / schedule.alpha_bar[t].sqrt() if std > 1 else numbers(-1, 1)
    if std < 1:  # two points: the nearer one, or tanh where the noise has joined them
        expected = (x * schedule.alpha_bar[t].sqrt() / (1 - schedule.alpha_bar[t])).tanh()
    assert_close(mixture.x_0(schedule, x, t), expected, rtol=1e-9, atol=1e-9)


def test_numbers_of_any_type_make_a_mixture():
    plain = GaussianMixture([1.0, 3.0], [-2.0, 2.0], [1.0, 2.0])
    for make in (np.array, torch.tensor, tuple, list):
        other = GaussianMixture(make([1, 3]), make([-2, 2]), make([1, 2]))
        assert repr(other) == repr(plain)


mix = GaussianMixture


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])
M, LINE = two_modes(), grid(n=64)
P, MODEL, NAN = M.log_prob(LINE).exp(), M.denoiser(S), math.nan
BAD = [
    bad("weights 0-D", lambda: mix(1, 1, 1), r"weights .*shape \[K\].*got \[\]"),
    bad("no component", lambda: mix([], [], []), r"weights .*K >= 1, got \[0\]"),
    bad("means 3-D", lambda: mix([1], [[[1]]], [1]), r"means .*got \[1\] and \[1, 1, 1\]"),
    bad("lengths", lambda: mix([1, 1], [1], [1, 1]), "one entry per component, got 2, 1"),
    bad("stds", lambda: mix([1, 1], [1, 2], [1]), r"stds .*per component, got 2, 2.*\[1\]"),
    bad("weight 0", lambda: mix([1, 0], [1, 2], [1, 1]), r"weights .*positive.*1.0, 0.0"),
    bad("weight inf", lambda: mix([1, math.inf], [1, 2], [1, 1]), "weights .*finite.*inf"),
    bad("weights apart", lambda: mix([1e-300, 1e300], [1, 2], [1, 1]), "weights must be of like"),
    bad("std 1e-320", lambda: mix([1], [1], [1e-320]), "stds in 1e-150..1e.150, where float64"),
    bad("std 1e200", lambda: mix([1], [1], [1e200]), "stds in 1e-150.* got .* and .1e.200"),
    bad("mean 1e200", lambda: mix([1], [1e200], [1]), "means must lie within 1e.150 of 0"),
    bad("log_prob int", lambda: M.log_prob(T3), "x must be a floating.*int64", TypeError),
    bad("x_t int", lambda: M.eps(S, T3, T3), "x_t must be a floating.*int64", TypeError),
    bad("score int", lambda: M.score(S, T3, T3), "x_t must be a floating.*int64", TypeError),
    bad("x_t none", lambda: M.eps(S, X[:0], T3[:0]), "the batch is empty"),
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
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
