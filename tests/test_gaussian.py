"""Gaussians on the line, against SciPy, torch.distributions, SymPy and integrals on a grid."""

import math

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import bad, check_bad, floats, normal, numbers
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from ddpm_lite.gaussian import add, affine, entropy, kl, log_density, product

means, variances = floats(-3, 3), floats(0.05, 4)
GRID = torch.linspace(-30, 30, 20001, dtype=torch.float64)
STEP = 60 / 20000


@given(means, means, variances)
def test_log_density_is_scipys(x, mean, var):
    expected = stats.norm.logpdf(x, mean, math.sqrt(var))
    assert_close(log_density(x, mean, var).item(), float(expected), rtol=1e-12, atol=1e-12)


@given(means, variances)
def test_density_has_mass_one_and_its_mean_and_variance(mean, var):
    p = log_density(GRID, mean, var).exp() * STEP
    moments = torch.stack([p.sum(), (p * GRID).sum(), (p * (GRID - mean) ** 2).sum()])
    assert_close(moments, numbers(1, mean, var), rtol=1e-9, atol=1e-9)


@given(means, variances, means, variances)
def test_kl_is_torchs_and_the_integral(mean_p, var_p, mean_q, var_q):
    values = numbers(mean_p, var_p, mean_q, var_q)
    p, q = Normal(values[0], values[1].sqrt()), Normal(values[2], values[3].sqrt())
    divergence = kl(mean_p, var_p, mean_q, var_q)
    assert_close(divergence, kl_divergence(p, q), rtol=1e-10, atol=1e-12)
    log_p, log_q = log_density(GRID, mean_p, var_p), log_density(GRID, mean_q, var_q)
    assert_close(divergence, (log_p.exp() * (log_p - log_q)).sum() * STEP, rtol=1e-9, atol=1e-9)


@given(means, variances)
def test_kl_vanishes_for_equal_gaussians_alone(mean, var):
    assert kl(mean, var, mean, var) == 0
    assert kl(mean, var, mean + 0.1, var) > 0 and kl(mean, var, mean, 1.1 * var) > 0


def test_kl_formula_by_sympy():
    """E_p[log p - log q], with E_p[x] = m and E_p[x^2] = m^2 + v put in, term by term."""
    x, m, n = sympy.symbols("x m n", real=True)
    v, w = sympy.symbols("v w", positive=True)

    def log_normal(mean, var):
        return -((x - mean) ** 2) / (2 * var) - sympy.log(2 * sympy.pi * var) / 2

    ratio = sympy.Poly(sympy.expand(log_normal(m, v) - log_normal(n, w)), x)
    moments = {0: 1, 1: m, 2: m**2 + v}
    divergence = sum(c * moments[power] for (power,), c in ratio.terms())
    at_values = {m: sympy.Rational(1, 3), v: 2, n: -1, w: sympy.Rational(3, 5)}
    expected = float(divergence.subs(at_values))
    assert_close(kl(1 / 3, 2.0, -1.0, 0.6).item(), expected, rtol=1e-12, atol=0)


@given(means, variances, means, variances)
def test_product_differs_from_the_densities_product_by_a_constant(mean_a, var_a, mean_b, var_b):
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    mean, var = product(mean_a, var_a, mean_b, var_b)
    both = log_density(x, mean_a, var_a) + log_density(x, mean_b, var_b)
    difference = both - log_density(x, mean, var)
    assert_close(difference, difference[:1].expand(9), rtol=0, atol=1e-9)
    # That constant is the density of one mean under the other, with the variances added.
    expected = log_density(mean_a, mean_b, var_a + var_b)
    assert_close(difference[0], expected, rtol=1e-10, atol=1e-10)


@given(variances)
def test_entropy_is_minus_the_mean_log_density(var):
    assert_close(entropy(var), Normal(0.0, numbers(var).sqrt()[0]).entropy())
    log_p = log_density(GRID, 0.0, var)
    assert_close(entropy(var), -(log_p.exp() * log_p).sum() * STEP, rtol=1e-9, atol=1e-9)


@given(means, variances, st.sampled_from([-2.0, -0.3, 0.5, 3.0]), means)
def test_affine_moves_the_density(mean, var, a, b):
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    moved = log_density(a * x + b, *affine(mean, var, a, b)) + math.log(abs(a))
    assert_close(moved, log_density(x, mean, var), rtol=1e-10, atol=1e-10)


@given(means, variances, means, variances)
def test_add_is_the_convolution(mean_a, var_a, mean_b, var_b):
    z = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None]
    both = log_density(GRID, mean_a, var_a) + log_density(z - GRID, mean_b, var_b)
    expected = log_density(z[:, 0], *add(mean_a, var_a, mean_b, var_b)).exp()
    assert_close(both.exp().sum(1) * STEP, expected, rtol=1e-9, atol=1e-12)


def test_arguments_broadcast_and_keep_their_dtype():
    x, mean = normal(3, 1, seed=1), normal(4, seed=2)
    assert log_density(x, mean, 1.0).shape == (3, 4)
    assert kl(mean, 1.0, x, 2.0).shape == (3, 4)
    assert log_density(x.float(), 0.0, 1.0).dtype == torch.float32
    mean, var = product(x, 1.0, mean, 2.0)
    assert mean.shape == (3, 4) and var.shape == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_loses_only_its_own_rounding(dtype):
    x, mean, var = normal(5), normal(5, seed=1), normal(5, seed=2).exp()
    x, mean, var = (v.to(dtype) for v in (x, mean, var))
    for function, arguments in (
        (log_density, (x, mean, var)),
        (kl, (x, var, mean, var.flip(0))),
        (entropy, (var,)),
        (lambda *a: product(*a)[0], (x, var, mean, var)),
    ):
        found, exact = function(*arguments), function(*(a.double() for a in arguments))
        tolerance = 8 * torch.finfo(dtype).eps * (1 + exact.abs().max().item())
        assert found.dtype == dtype
        assert_close(found.double(), exact, rtol=0, atol=tolerance)


def test_integers_are_numbers():
    whole = torch.arange(1, 4)
    expected = log_density(whole.double(), 0.0, whole.double())
    assert_close(log_density(whole, 0, whole).double(), expected, rtol=1e-6, atol=0)
    assert_close(kl(0, 1, whole, 2), kl(0.0, 1.0, whole.double(), 2.0), rtol=1e-6, atol=0)


def test_variances_are_not_looked_at_on_a_device():
    away = torch.zeros(3, device="meta")
    assert log_density(away, away, away).shape == kl(away, away, away, away).shape == (3,)
    assert affine(away, away, away)[1].shape == (3,)


BAD = [
    bad("density 0", lambda: log_density(0.0, 0.0, 0.0), "var must be positive .*variance.*got 0"),
    bad("density NaN", lambda: log_density(0.0, 0.0, math.nan), "var must be positive.*got nan"),
    bad("density int", lambda: log_density(0, 0, torch.tensor([1, 0])), "var must be .*got 0"),
    bad("kl p", lambda: kl(0.0, -1.0, 0.0, 1.0), "var_p must be positive .*got -1"),
    bad("kl q", lambda: kl(0.0, 1.0, 0.0, torch.tensor([1.0, 0.0])), "var_q must be .*got 0"),
    bad("entropy", lambda: entropy(-2.0), "var must be positive .*got -2"),
    bad("product a", lambda: product(0.0, 0.0, 0.0, 1.0), "var_a must be positive .*got 0"),
    bad("product b", lambda: product(0.0, 1.0, 0.0, -1.0), "var_b must be positive .*got -1"),
    bad("affine a", lambda: affine(0.0, 1.0, numbers(1, 0)), "a must not be 0"),
    bad("affine var", lambda: affine(0.0, 0.0, 1.0), "var must be positive"),
    bad("add", lambda: add(0.0, 1.0, 0.0, 0.0), "var_b must be positive"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
