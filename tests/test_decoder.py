"""The decoder of 8-bit images, against integrals and 60 digits; bits per dimension."""

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from strategies import bad, check_bad, floats, generator, knowing, normal, numbers
from torch.testing import assert_close

from ddpm_lite.bound import (
    bits_per_dim,
    dequantised,
    dequantised_bits,
    discretised_gaussian,
    vlb_terms,
)
from ddpm_lite.forward import q_sample
from ddpm_lite.gaussian import log_density
from ddpm_lite.mixture import GaussianMixture
from ddpm_lite.schedule import cosine_schedule, linear_schedule

EXACT = {"rtol": 1e-12, "atol": 1e-12}

LEVELS = 2 * torch.arange(256, dtype=torch.float64) / 255 - 1


@given(floats(-3, 3), floats(1e-3, 3))
def test_the_masses_of_all_levels_add_up_to_one(mean, std):
    masses = discretised_gaussian(LEVELS, mean, std**2).exp()
    assert_close(masses.sum(), numbers(1)[0], rtol=0, atol=1e-12)
    ends = numbers(*stats.norm.cdf([-254 / 255, -254 / 255], [mean, -mean], std))
    assert_close(masses[[0, 255]], ends, rtol=1e-10, atol=1e-12)


@given(floats(-1.5, 1.5), floats(0.01, 2), st.integers(1, 254))
def test_a_mass_is_the_integral_of_the_density_over_the_bin(mean, std, k):
    x = LEVELS[k]
    found = discretised_gaussian(x.float(), mean, std**2)  # float32 names the same level
    points = torch.linspace(-1, 1, 2001, dtype=torch.float64) / 255 + x
    log_density_there = log_density(points, mean, std**2)
    top = log_density_there.max()
    mass = integrate.simpson((log_density_there - top).exp().numpy(), x=points.numpy())
    assert_close(found, top + math.log(mass), rtol=1e-8, atol=1e-8)


def test_far_tails_are_exact():
    """Against 60 digits; a difference of CDFs would be 0 beyond 9 standard deviations."""
    mpmath.mp.dps = 60
    for std, mean, k in itertools.product((1e-3, 0.0074, 0.3), (0.5, 1.2, 40), (0, 1, 100, 255)):
        a = -mpmath.inf if k == 0 else (mpmath.mpf(2 * k - 1) / 255 - 1 - mean) / std
        b = mpmath.inf if k == 255 else (mpmath.mpf(2 * k + 1) / 255 - 1 - mean) / std
        a, b = (-b, -a) if a + b > 0 else (a, b)
        mass = (mpmath.erfc(-b / mpmath.sqrt(2)) - mpmath.erfc(-a / mpmath.sqrt(2))) / 2
        found = discretised_gaussian(LEVELS[k], mean, std**2)
        assert_close(found.item(), float(mpmath.log(mass)), rtol=1e-9, atol=1e-12)
        mirrored = discretised_gaussian(LEVELS[255 - k], -mean, std**2)
        assert_close(found, mirrored, **EXACT)
    extreme = discretised_gaussian(LEVELS, 1e6, 1e-6)
    assert extreme.isfinite().all() and (extreme[:-1] < extreme[1:]).all()


def test_a_decoder_sees_x_0_x_0_hat_and_beta_tilde_2():
    schedule, x_0 = linear_schedule(), LEVELS[[0, 3, 100, 255]].reshape(2, 1, 2)
    terms = vlb_terms(lambda x, t: 0 * x, schedule, x_0, 2, generator(3))
    z = torch.randn(x_0.shape, generator=_after_times(3, 2), dtype=torch.float64)
    x_1 = q_sample(schedule, x_0, torch.ones(2, dtype=torch.int64), z)
    x_0_hat = x_1 / schedule.alpha_bar[1].sqrt()
    nats = -discretised_gaussian(x_0, x_0_hat, schedule.beta_tilde[2])
    assert_close(terms.decoder, nats.sum((1, 2)), **EXACT)


def _after_times(seed, strata, n=2):
    """The generator as it is once the times have been drawn."""
    drawn = generator(seed)
    torch.rand(n, strata, generator=drawn, dtype=torch.float64)
    return drawn


def test_the_bound_of_one_pixel_keeps_krafts_inequality():
    """exp(-bound) is at most p_theta, and p_theta adds up to 1 over the 256 levels."""
    schedule = linear_schedule(30, 1e-3, 0.4)
    data = GaussianMixture([0.3, 0.7], [-0.6, 0.5], [0.2, 0.1])
    x_0 = LEVELS.repeat_interleave(100)
    for variance, least in ((schedule.beta, 0.5), (schedule.beta_tilde, 0.1)):
        model = data.denoiser(schedule)
        terms = vlb_terms(model, schedule, x_0, None, generator(), variance=variance)
        bound = terms.total.reshape(256, 100).mean(1)
        assert least < (-bound).exp().sum() < 1


def test_bits_per_dim_of_guessing_a_level_is_8():
    """A model that knows the data, and a decoder that does not look: 8 bits, and the prior's."""
    schedule, x_0 = cosine_schedule(), LEVELS[torch.randint(256, (3, 1, 4, 4))]
    terms = vlb_terms(
        knowing(schedule, x_0),
        schedule,
        x_0,
        10,
        decoder=lambda x, mean, var: torch.full_like(x, -math.log(256)),
    )
    assert_close(bits_per_dim(terms.total - terms.prior, 16), numbers(8, 8, 8), **EXACT)
    assert_close(bits_per_dim(terms.total, 16), numbers(8, 8, 8), rtol=0, atol=1e-6)
    assert bits_per_dim(784 * math.log(256), 784) == pytest.approx(8, abs=1e-14)


def in_bits(density, k, n=4001):
    """What a density spends on level k, over the midpoints of n parts of its bin: bits [n]."""
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return dequantised_bits(density.log_prob(dequantised(LEVELS[k].expand(n), u)), 1)


@given(st.integers(0, 255))
def test_an_even_density_over_all_bins_spends_8_bits_on_every_level(k):
    end = 1 + 1 / 255
    even = torch.distributions.Uniform(*numbers(-end, end), validate_args=False)
    assert_close(in_bits(even, k), torch.full((4001,), 8.0).double(), **EXACT)


@given(floats(-1.5, 1.5), floats(0.002, 2), st.integers(1, 254))
def test_dequantised_bits_bound_those_of_the_mass_and_close_in_on_them(mean, std, k):
    """The bin's mass is the mean of the density there, times its width; then Jensen."""
    bits = in_bits(torch.distributions.Normal(*numbers(mean, std)), k)
    exact = -discretised_gaussian(LEVELS[k], mean, std**2) / math.log(2)
    mass = (-bits * math.log(2)).logsumexp(0) - math.log(len(bits))
    assert_close(-mass / math.log(2), exact, rtol=1e-4, atol=1e-4)
    assert bits.mean() >= exact - 1e-4
    if std > 0.2:  # nearly even within a bin
        assert_close(bits.mean(), exact, rtol=0, atol=1e-3)


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])
BAD = [
    bad("no levels", lambda: vlb_terms(lambda x, t: x, S, X), "x must have the 256 levels"),
    bad("beyond 1", lambda: discretised_gaussian(LEVELS + 2 / 255, 0, 1), r"to 1\.00784"),
    bad("below -1", lambda: discretised_gaussian(LEVELS - 2 / 255, 0, 1), r"from -1\.00784"),
    bad("NaN level", lambda: discretised_gaussian(LEVELS * math.nan, 0, 1), "x must be finite"),
    bad("0..255", lambda: discretised_gaussian(127.5 * (LEVELS + 1), 0, 1), "use data.to_unit"),
    bad("no pixel", lambda: discretised_gaussian(LEVELS[:0], 0, 1), "x must hold pixels"),
    bad("ints", lambda: discretised_gaussian(torch.arange(256), 0, 1), "x must be a f", TypeError),
    bad("half", lambda: discretised_gaussian(LEVELS.half(), 0, 1), "256 levels .*torch.float16"),
    bad("level's var NaN", lambda: discretised_gaussian(LEVELS, 0, math.nan), "var must"),
    bad("mean NaN", lambda: discretised_gaussian(LEVELS, math.nan, 1.0), "mean must be finite"),
    bad("level's var", lambda: discretised_gaussian(LEVELS, 0, 0.0), "var must be positive"),
    bad("not 8 bits", lambda: dequantised(X, X), "x must have the 256 levels"),
    bad(
        "few u", lambda: dequantised(LEVELS, LEVELS[:9] ** 2), r"u must have the shape of x, \[256"
    ),
    bad("u < 0", lambda: dequantised(LEVELS, LEVELS), r"u must lie in \[0, 1\], got -1 to 1"),
    bad("dims", lambda: bits_per_dim(1.0, 0), "dims must be at least 1 "),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
