"""Points and densities on the line: each measure against its definition or a known case."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import bad, check_bad, floats, mixtures, normal, numbers, seeds
from torch.testing import assert_close

from ddpm_lite.density import grid
from ddpm_lite.gaussian import log_density
from ddpm_lite.metrics import ks, mixture_cdf, quantiles, w1, w1_density
from ddpm_lite.mixture import GaussianMixture

counts = st.integers(1, 40)


@given(counts, seeds, floats(-5, 5))
def test_w1_of_a_translation_is_its_length(n, seed, shift):
    a = normal(n, seed=seed)
    assert_close(w1(a, a + shift), abs(shift), rtol=1e-10, atol=1e-10)


@given(counts, counts, counts, seeds)
def test_w1_is_a_distance(n, m, k, seed):
    a, b, c = normal(n, seed=seed), normal(m, seed=seed + 1), 2 * normal(k, seed=seed + 2)
    assert w1(a, a) == 0 and w1(a, b) > 0
    assert_close(w1(a, b), w1(b, a), rtol=1e-12, atol=1e-12)
    assert w1(a, c) <= w1(a, b) + w1(b, c) + 1e-12


@given(counts, counts, seeds)
def test_w1_is_the_sorted_matching_and_the_area_between_cdfs(n, m, seed):
    a, b, c = normal(n, seed=seed), normal(n, seed=seed + 1), normal(m, seed=seed + 2)
    matching = (a.sort().values - b.sort().values).abs().mean().item()
    assert_close(w1(a, b), matching, rtol=1e-10, atol=1e-12)
    points = torch.cat([a, c]).sort().values
    gap = [(a <= x).double().mean() - (c <= x).double().mean() for x in points[:-1]]
    area = sum(abs(g) * width for g, width in zip(gap, points.diff(), strict=True))
    assert_close(w1(a, c), float(area), rtol=1e-10, atol=1e-12)


@given(floats(0.3, 1.5), floats(0.3, 1.5), floats(-1, 1))
def test_w1_density_of_gaussians_in_closed_form(s, r, shift):
    """Of a shift: its length. Of a scale: |s - r| E|Z|, with E|Z| = sqrt(2 / pi)."""
    x = grid(-12, 12, 4096)
    p, q = log_density(x, 0.0, s**2).exp(), log_density(x, 0.0, r**2).exp()
    expected = abs(s - r) * math.sqrt(2 / math.pi)
    assert_close(w1_density(x, p, q), expected, rtol=1e-4, atol=1e-5)
    moved = log_density(x, shift, s**2).exp()
    assert_close(w1_density(x, p, moved), abs(shift), rtol=1e-4, atol=1e-5)
    assert_close(w1_density(x, p, q), w1_density(x, q, p), rtol=1e-12, atol=1e-12)


def test_w1_density_is_w1_of_points_at_the_quantiles():
    x = grid(-12, 12, 8192)
    p, q = stats.norm(-1, 0.5), stats.expon(0, 1)
    levels = (np.arange(20_000) + 0.5) / 20_000
    points = w1(*(torch.from_numpy(law.ppf(levels)) for law in (p, q)))
    density = w1_density(x, *(torch.from_numpy(law.pdf(x.numpy())) for law in (p, q)))
    assert_close(density, points, rtol=2e-3, atol=0)


@given(counts, mixtures())
def test_quantiles_are_where_the_cdf_passes_the_middle_of_each_share(n, mixture):
    cdf = mixture_cdf(mixture)
    x = quantiles(cdf, n)
    assert x.shape == (n,) and x.dtype == torch.float64
    assert_close(cdf(x), (np.arange(n) + 0.5) / n, rtol=0, atol=1e-12)
    normals = stats.norm.ppf((np.arange(n) + 0.5) / n)
    assert_close(quantiles(stats.norm.cdf, n).numpy(), normals, rtol=0, atol=1e-9)


@given(counts, seeds)
def test_ks_is_the_largest_gap_between_the_cdfs(n, seed):
    a = normal(n, seed=seed)
    statistic, p_value = ks(a, stats.norm.cdf)
    cdf = stats.norm.cdf(a.sort().values.numpy())
    above, below = np.arange(1, n + 1) / n - cdf, cdf - np.arange(n) / n
    assert_close(statistic, max(above.max(), below.max()), rtol=1e-12, atol=1e-12)
    assert 0 <= p_value <= 1


def test_ks_sees_a_wrong_law():
    assert ks(normal(2000), stats.norm.cdf)[1] > 0.01
    assert ks(normal(2000) + 0.2, stats.norm.cdf)[1] < 1e-6


@given(mixtures())
def test_mixture_cdf_is_the_integral_of_the_density(mixture):
    x = grid(-16, 16, 6401)
    cdf = torch.from_numpy(mixture_cdf(mixture)(x.numpy()))
    step = x[1] - x[0]
    assert_close(cdf.diff(), (mixture.log_prob(x[1:] - step / 2).exp() * step), rtol=0, atol=1e-6)
    assert_close(cdf[[0, -1]], numbers(0, 1), rtol=0, atol=1e-12)
    assert mixture_cdf(mixture)([0.5]).shape == (1,)


def test_points_may_carry_gradients_and_have_any_layout():
    a = normal(20)[::2]
    assert w1(a.clone().requires_grad_(), a) == 0
    assert ks(a.clone().requires_grad_(), stats.norm.cdf) == ks(a.contiguous(), stats.norm.cdf)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_points_of_any_dtype_are_those_in_float64(dtype):
    a, b = (10 * normal(30)).to(dtype), (10 * normal(20, seed=1)).to(dtype)
    assert w1(a, b) == w1(a.double(), b.double())
    assert ks(a, stats.norm.cdf) == ks(a.double(), stats.norm.cdf)
    x = torch.arange(-9, 10)  # an even grid of whole numbers
    p, q = (log_density(x.double(), m, 4.0).exp() for m in (0.0, 1.0))
    assert w1_density(x, p, q) == w1_density(x.double(), p, q)
    single = w1_density(x.to(dtype), p.float(), q.float())
    assert_close(single, w1_density(x.double(), p, q), rtol=1e-5, atol=0)


def test_a_mixture_cdf_reaches_from_0_to_1_where_the_weights_underflow_nearly():
    cdf = mixture_cdf(GaussianMixture([1e308, 1e308], [-1.0, 1.0], [0.5, 0.5]))
    assert_close(cdf(np.array([-9.0, 0.0, 9.0])).tolist(), [0.0, 0.5, 1.0], rtol=0, atol=1e-12)


X, NAN, LINE = normal(3), math.nan, grid(n=64)
OFF = torch.cat([LINE[:9], LINE[9:10] + 1e-3, LINE[10:]])
PLANE = GaussianMixture([1], [[0, 0]], [1])
BAD = [
    bad("heavy tails", lambda: quantiles(stats.cauchy.cdf, 1000), "raise it"),
    bad("far away", lambda: quantiles(stats.norm(500).cdf, 3), "raise it"),
    bad("no law", lambda: quantiles(lambda x: x * math.nan, 3), "raise it"),
    bad("a empty", lambda: w1(X[:0], X), r"a must be a tensor of points \[n\] .*float64 \[0\]"),
    bad(
        "b 2-D",
        lambda: w1(X, X[:, None]),
        r"b must be a tensor of points .* \[3, 1\]",
    ),
    bad("a list", lambda: w1([1.0], X), "a must be a tensor of points .*got list"),
    bad("b NaN", lambda: w1(X, X * NAN), "b must be finite, got NaN or infinity: look at"),
    bad("density p", lambda: w1_density(X, X[:2], X), r"p and q must .*\[3\], got \[2\] and \[3\]"),
    bad("density 1", lambda: w1_density(X[:1], X[:1], X[:1]), r"p and q .*\[1\]"),
    bad("uneven", lambda: w1_density(LINE**3, LINE, LINE), "x must be an even, rising grid"),
    bad("falling", lambda: w1_density(-LINE, LINE, LINE), "x must be an even, rising grid"),
    bad("still", lambda: w1_density(0 * LINE, LINE, LINE), "x must be an even, rising grid"),
    bad("one off", lambda: w1_density(OFF, LINE, LINE), "x must be an even, rising grid"),
    bad("x 2-D", lambda: w1_density(LINE[None], LINE, LINE), r"x must be .*\[n\].*\[1, 64\]"),
    bad("p complex", lambda: w1_density(LINE, LINE * 1j, LINE), "p must be a .*complex128"),
    bad("quantile 2.5", lambda: quantiles(stats.norm.cdf, 2.5), "n must be a whole .* got 2.5"),
    bad("density NaN", lambda: w1_density(X, X, X * NAN), "q must be finite, got NaN"),
    bad(
        "ks empty",
        lambda: ks(X[:0], stats.norm.cdf),
        r"a must be a tensor .* \[0\]",
    ),
    bad("ks inf", lambda: ks(X / 0, stats.norm.cdf), "a must be finite, got NaN or infinity"),
    bad("plane", lambda: mixture_cdf(PLANE), "mixture must be on the line, got 2 dimensions"),
    bad(
        "no quantile",
        lambda: quantiles(stats.norm.cdf, 0),
        "n must be a whole number .* got 0",
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
