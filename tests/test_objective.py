"""The simple loss, the weights of the bound, and its terms by densities of whole paths."""

import itertools
import math
import runpy
from functools import partial
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, stats
from strategies import (
    bad,
    cases,
    check_bad,
    floats,
    from_betas,
    mixtures,
    normal,
    numbers,
    schedules,
    seeds,
)
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from ddpm_lite.bound import Terms, bits_per_dim, discretised_gaussian, vlb_terms
from ddpm_lite.forward import q_sample, q_step
from ddpm_lite.gaussian import kl, log_density
from ddpm_lite.loss import eps_weight, simple_loss, x_0_weight
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.posterior import posterior
from ddpm_lite.prediction import predict_eps, predict_x_0
from ddpm_lite.schedule import at, cosine_schedule, linear_schedule

BENCHMARK = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "digits.py"))
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@given(cases())
def test_loss_is_the_mean_squared_error_at_x_t(case):
    seen = []

    def model(x_t, t):
        seen.append((x_t, t))
        return case.z

    loss = simple_loss(model, case.schedule, case.x_0, case.t, case.eps)
    x_t, t = seen[0]
    assert len(seen) == 1 and loss.shape == () and torch.equal(t, case.t)
    assert torch.equal(x_t, q_sample(case.schedule, case.x_0, t, case.eps))
    assert_close(loss, torch.nn.functional.mse_loss(case.z, case.eps), **EXACT)


@given(cases(), st.data())
def test_weighted_loss_weighs_each_sample_by_its_t(case, data):
    n = case.schedule.T + 1
    weight = numbers(*data.draw(st.lists(floats(0, 5), min_size=n, max_size=n)))
    loss = simple_loss(lambda x, t: case.z, case.schedule, case.x_0, case.t, case.eps, weight)
    per_sample = [float(((case.z[b] - case.eps[b]) ** 2).mean()) for b in range(len(case.t))]
    expected = sum(
        weight[t].item() * e for t, e in zip(case.t.tolist(), per_sample, strict=True)
    ) / len(case.t)
    assert_close(loss.item(), expected, **EXACT)


def test_loss_trains_the_model_through_autograd():
    """The loss of eps_hat = a is least at a = mean(eps), where its gradient vanishes."""
    schedule, eps = linear_schedule(10), normal(50, seed=1)
    a = eps.mean().clone().requires_grad_()
    t = torch.arange(50) % 10 + 1
    simple_loss(lambda x, t: a.expand_as(x), schedule, normal(50), t, eps).backward()
    assert_close(a.grad, torch.zeros_like(a), rtol=0, atol=1e-14)


def variances(schedule):
    return [schedule.beta, schedule.beta_tilde, (schedule.beta + schedule.beta_tilde) / 2]


@given(schedules(), st.integers(0, 2), floats(-2, 2), floats(-2, 2))
def test_weights_are_the_kl_of_two_reverse_steps(schedule, which, x_0, eps_error):
    """KL between steps with means mu_tilde(x_0) and mu_tilde(x_0_hat), one variance, at each t."""
    if schedule.T == 1:
        return
    variance = variances(schedule)[which]
    t = torch.arange(2, schedule.T + 1)
    x_0, eps = numbers(x_0).expand(len(t)), normal(len(t))
    x_t = q_sample(schedule, x_0, t, eps)
    x_0_hat = predict_x_0(schedule, x_t, t, eps + eps_error)
    mean, mean_hat = (posterior(schedule, x, x_t, t)[0] for x in (x_0, x_0_hat))
    divergence = kl(mean, variance[t], mean_hat, variance[t])
    assert_close(eps_weight(schedule, variance)[t] * eps_error**2, divergence, rtol=1e-6, atol=1e-9)
    by_x_0 = x_0_weight(schedule, variance)[t] * (x_0 - x_0_hat) ** 2
    assert_close(by_x_0, divergence, rtol=1e-6, atol=1e-9)


@given(schedules())
def test_with_beta_tilde_the_x_0_weight_is_half_the_fall_of_the_snr(schedule):
    weight = x_0_weight(schedule, schedule.beta_tilde)
    assert len(weight) == schedule.T + 1 and (weight[:2] == 0).all()
    assert_close(weight[2:], -schedule.snr[1:].diff() / 2, rtol=1e-9, atol=1e-9)
    assert (eps_weight(schedule, schedule.beta)[:2] == 0).all()


def test_float32_table_and_model():
    schedule, t = linear_schedule(10), torch.tensor([1, 10])
    x_0, eps = normal(2, 3, dtype=torch.float32), normal(2, 3, seed=1, dtype=torch.float32)
    loss = simple_loss(lambda x, t: 0 * x, schedule, x_0, t, eps, schedule.beta.float())
    assert loss.dtype == torch.float32 and loss > 0


# the terms of the bound

line_terms = partial(vlb_terms, decoder=log_density)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def knowing(schedule, x_0, error=None):
    """A model that knows the clean data, and errs in eps by a table [T + 1]."""
    error = torch.zeros_like(schedule.beta) if error is None else error
    return lambda x_t, t: predict_eps(schedule, x_t, t, x_0) + at(error, t, x_t)


@given(cases(), st.sampled_from([torch.float32, torch.float64]), floats(0.1, 3), seeds)
def test_every_term_is_the_kl_of_torch_distributions(case, dtype, factor, seed):
    """From the model's calls alone, with the formulas of Ho et al. 2020 in float64."""
    schedule, calls = case.schedule, {}
    assume(schedule.T > 1)

    def model(x_t, t):
        assert x_t.dtype == dtype and not torch.is_grad_enabled()
        eps_hat = (x_t / 2 + at(schedule.beta, t, x_t)).sin()
        calls[int(t[0])] = x_t.double(), eps_hat.double()
        return eps_hat

    x_0, variance = case.x_0.to(dtype), factor * schedule.beta
    terms = line_terms(model, schedule, x_0, None, generator(seed), variance=variance)
    assert set(calls) == set(range(1, schedule.T + 1)) and (terms.sizes == 1).all()
    x = x_0.double()
    for t, (x_t, eps_hat) in calls.items():
        beta, ab, ab_prev = schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        mu_theta = (x_t - beta / (1 - ab).sqrt() * eps_hat) / (1 - beta).sqrt()
        if t == 1:
            nats = -Normal(mu_theta, schedule.beta_tilde[2].sqrt()).log_prob(x)
            found = terms.decoder
        else:
            mu = ab_prev.sqrt() * beta * x + (1 - beta).sqrt() * (1 - ab_prev) * x_t
            q = Normal(mu / (1 - ab), ((1 - ab_prev) / (1 - ab) * beta).sqrt())
            nats = kl_divergence(q, Normal(mu_theta, variance[t].sqrt()))
            found = terms.middle[:, t - 2]
            assert (terms.times[:, t - 2] == t).all()
        assert found.dtype == torch.float64
        assert_close(found, nats.reshape(len(x), -1).sum(1), rtol=1e-7, atol=1e-9)
    ab = schedule.alpha_bar[-1]
    prior = kl_divergence(Normal(ab.sqrt() * x, (1 - ab).sqrt()), Normal(0.0, 1.0))
    assert_close(terms.prior, prior.reshape(len(x), -1).sum(1), rtol=1e-7, atol=1e-9)
    total = terms.prior + terms.middle.sum(1) + terms.decoder
    assert_close(terms.total, total, **EXACT)


@given(cases(), seeds)
def test_with_beta_tilde_a_middle_term_is_the_weighted_error_in_eps(case, seed):
    schedule, errors = case.schedule, []
    assume(schedule.T > 1)

    def model(x_t, t):
        eps_hat = (2 * x_t).cos()
        eps = predict_eps(schedule, x_t, t, case.x_0)
        errors.append(((eps - eps_hat) ** 2).reshape(len(t), -1).sum(1))
        return eps_hat

    terms = line_terms(model, schedule, case.x_0, None, generator(seed))
    weight = eps_weight(schedule, schedule.beta_tilde)[2:]
    assert_close(terms.middle, weight * torch.stack(errors[1:], 1), rtol=1e-8, atol=1e-9)


def reverse_step(model, schedule, variance, x, t):
    """Mean and variance of p_theta(x_{t-1} | x_t = x), by Algorithm 2."""
    beta, ab = schedule.beta[t], schedule.alpha_bar[t]
    eps_hat = model(x, torch.full((len(x),), t))
    mean = (x - beta / (1 - ab).sqrt() * eps_hat) / (1 - beta).sqrt()
    return mean, schedule.beta_tilde[2] if t == 1 else variance[t]


def path_bound(model, schedule, variance, x_0, nodes=20):
    """E log q(x_1..x_T | x_0) - log p(x_0..x_T) over forward paths, by Gauss-Hermite quadrature."""
    z, w = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(nodes))
    z = torch.cartesian_prod(*[z] * schedule.T)
    w = torch.cartesian_prod(*[w / w.sum()] * schedule.T).prod(1)
    x, log_ratio = torch.full((len(z),), x_0, dtype=torch.float64), torch.zeros(len(z))
    for t in range(1, schedule.T + 1):
        now = torch.full((len(z),), t)
        x_t = q_step(schedule, x, now, z[:, t - 1])
        log_q = Normal((1 - schedule.beta[t]).sqrt() * x, schedule.beta[t].sqrt()).log_prob(x_t)
        mean, var = reverse_step(model, schedule, variance, x_t, t)
        log_ratio = log_ratio + log_q - Normal(mean, var.sqrt()).log_prob(x)
        x = x_t
    log_ratio = log_ratio - Normal(0.0, 1.0).log_prob(x)
    return float((w * log_ratio).sum())


def evidence(model, schedule, variance, x_0):
    """log p_theta(x_0), by carrying the density of x_t down on a grid."""
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    density = Normal(0.0, 1.0).log_prob(x).exp()
    for t in range(schedule.T, 0, -1):
        mean, var = reverse_step(model, schedule, variance, x, t)
        to = x if t > 1 else numbers(x_0)
        density = Normal(mean, var.sqrt()).log_prob(to[:, None]).exp() @ density * (x[1] - x[0])
    return float(density.log())


def test_the_terms_add_up_to_the_log_ratio_of_whole_paths():
    """And that is more than -log of the chain's own marginal: it is a bound."""
    schedule = linear_schedule(4, 0.1, 0.5)
    exact, anything = two_modes().denoiser(schedule), numbers(-1, -1, 0.3, 0.1, 0.6)
    for spoil, choice in ((0.7, anything), (0.0, schedule.beta), (0.7, None)):

        def model(x_t, t, spoil=spoil):
            return exact(x_t, t) + spoil * (x_t + t).sin()

        variance = schedule.beta_tilde if choice is None else choice
        for seed, x_0 in enumerate((-1.7, 0.4, 3.0)):
            repeated = numbers(x_0).expand(20_000)
            terms = line_terms(model, schedule, repeated, None, generator(seed), variance=choice)
            bound = path_bound(model, schedule, variance, x_0)
            assert abs(terms.total.mean().item() - bound) < 4 * terms.standard_error
            assert terms.standard_error < 0.06
            assert bound > -evidence(model, schedule, variance, x_0)


@given(mixtures(), schedules(6), seeds)
def test_the_mean_bound_is_above_the_entropy_of_the_data(mixture, schedule, seed):
    """The bound is above -log p_theta(x_0), which no p_theta has below the entropy on average."""
    assume(schedule.T > 1)
    draws = generator(seed)
    x_0 = mixture.sample(400, draws)
    terms = line_terms(mixture.denoiser(schedule), schedule, x_0, None, draws)
    excess = terms.total + mixture.log_prob(x_0)
    assert excess.mean() > -5 * excess.std() / 20


@given(cases(), st.sampled_from([0.3, 1.0]), seeds)
def test_clip_is_the_bound_of_the_model_with_clipped_x_0_hat(case, clip, seed):
    schedule = case.schedule
    assume(schedule.T > 1)

    def model(x_t, t):
        return 2 * x_t.sin()

    def clipped(x_t, t):
        x_0_hat = predict_x_0(schedule, x_t, t, model(x_t, t)).clamp(-clip, clip)
        return predict_eps(schedule, x_t, t, x_0_hat)

    a = line_terms(model, schedule, case.x_0, None, generator(seed), clip=clip)
    b = line_terms(clipped, schedule, case.x_0, None, generator(seed))
    assert_close(a.middle, b.middle, rtol=1e-6, atol=1e-9)
    assert_close(a.decoder, b.decoder, rtol=1e-6, atol=1e-9)


def test_a_model_that_knows_the_data_pays_for_the_ends_alone():
    schedule, x_0 = linear_schedule(50), normal(6, 2, 3)
    terms = line_terms(knowing(schedule, x_0), schedule, x_0, None, generator())
    assert_close(terms.middle, torch.zeros(6, 49, dtype=torch.float64), rtol=0, atol=1e-18)
    rate = 0.5 * (2 * math.pi * schedule.beta_tilde[2]).log()
    assert_close(terms.decoder, (6 * rate).expand(6), **EXACT)


# a stated subset of the times


@given(schedules(), st.data(), seeds)
def test_strata_cover_every_t_once(schedule, data, seed):
    T = schedule.T
    assume(T > 1)
    K, x_0 = data.draw(st.integers(1, T - 1)), normal(200, seed=seed)
    terms = line_terms(lambda x, t: 0 * x, schedule, x_0, K, generator(seed))
    assert terms.times.shape == terms.middle.shape == terms.sizes.shape == (200, K)
    sizes = terms.sizes[0]
    assert (terms.sizes == sizes).all() and sizes.min() >= 1
    last = 1 + sizes.cumsum(0)
    k = torch.arange(1, K + 1)
    assert ((last - torch.maximum(k + 1.0, T ** (k / K))).abs() < 0.51).all() and last[-1] == T
    for k, (size, end) in enumerate(zip(sizes.tolist(), last.tolist(), strict=True)):
        drawn = terms.times[:, k].unique().tolist()
        possible = list(range(end - size + 1, end + 1))
        assert set(drawn) <= set(possible)
        if size <= 10:
            assert drawn == possible  # 200 draws miss one of 10 with probability 7e-9
        elif size > 20:
            assert len(drawn) > size / 2
    if T - 1 == K:
        every = line_terms(lambda x, t: 0 * x, schedule, x_0, None, generator(seed))
        assert all(torch.equal(a, b) for a, b in zip(every, terms, strict=True))


def test_a_stratified_sum_is_unbiased():
    """The terms are made to be t, exactly: whatever is wrong in the sum is the strata's fault."""
    schedule, x_0 = linear_schedule(101), torch.zeros(20_000, dtype=torch.float64)
    weight = eps_weight(schedule, schedule.beta_tilde)
    error = torch.zeros_like(weight)
    error[2:] = (torch.arange(2, 102) / weight[2:]).sqrt()
    for strata in (1, 7, 40):
        model = knowing(schedule, x_0, error)
        terms = line_terms(model, schedule, x_0, strata, generator(1))
        assert_close(terms.middle, terms.times.double(), rtol=1e-8, atol=1e-8)
        found = terms.total - terms.prior - terms.decoder
        assert abs(found.mean() - 5150) < 4 * found.std() / math.sqrt(len(x_0))
        sizes = terms.sizes[0]
        spread = (sizes**2 * (sizes**2 - 1) / 12).sum().sqrt()  # s times one of s numbers in a row
        assert abs(found.std() / spread - 1) < 0.02


def test_the_standard_error_is_the_spread_of_repeated_estimates():
    """With new samples, new noise and new t in each of 400 repetitions."""
    schedule, data, draws = linear_schedule(20, 0.01, 0.3), two_modes(), generator(5)
    model, means, errors = data.denoiser(schedule), [], []
    for _ in range(400):
        terms = line_terms(model, schedule, data.sample(24, draws), 3, draws)
        means.append(terms.total.mean())
        errors.append(terms.standard_error)
    claimed = numbers(*errors).square().mean().sqrt()
    assert abs(claimed / torch.stack(means).std() - 1) < 0.12  # the ratio itself is known to 4 %
    every = line_terms(model, schedule, data.sample(20_000, draws), None, draws)
    assert abs(torch.stack(means).mean() - every.total.mean()) < 4 * claimed / 20


def test_batches_join_and_labels_stay_with_their_samples():
    schedule, x_0, seen = linear_schedule(5), normal(6, 2), []

    def model(x_t, t, y):
        seen.append(y)
        return y[:, None].expand_as(x_t).clone()

    y = torch.arange(6.0, dtype=torch.float64)
    parts = [
        line_terms(partial(model, y=y[rows]), schedule, x_0[rows], 2, generator(1))
        for rows in (slice(0, 4), slice(4, 6))
    ]
    joined = Terms(*map(torch.cat, zip(*parts, strict=True)))
    assert joined.times.shape == joined.middle.shape == (6, 2) and len(seen) == 6
    assert_close(joined.total, torch.cat([p.total for p in parts]), **EXACT)
    assert_close(joined.standard_error, joined.total.std().item() / math.sqrt(6), **EXACT)


# the command that measures a checkpoint


def test_one_draw_gives_the_terms_of_every_variance():
    """What the benchmark computes from the terms for beta_tilde, against those terms themselves."""
    schedule, x_0, factor = linear_schedule(30), normal(8, 3), 1 + torch.rand(29).double()
    model = two_modes().denoiser(schedule)

    def measured(variance=None, strata=None):
        def each(x_t, t):
            return model(x_t.flatten(), t.repeat_interleave(3)).reshape(x_t.shape)

        return line_terms(each, schedule, x_0, strata, generator(), variance=variance)

    variance = schedule.beta_tilde.clone()
    variance[2:] *= factor
    found = BENCHMARK["with_factor"](measured(), factor, 3)
    assert_close(found.middle, measured(variance).middle, rtol=1e-9, atol=1e-12)
    best = BENCHMARK["best_factor"](measured(), 3)
    least = BENCHMARK["with_factor"](measured(), best, 3).middle.mean(0)
    for other in (1.01 * best, best / 1.01, torch.ones_like(best)):
        assert (least < BENCHMARK["with_factor"](measured(), other, 3).middle.mean(0)).all()


# the decoder of 8-bit images

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


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


def loss(model=lambda x, t: x, x_0=X, t=T3, eps=X, weight=None):
    return simple_loss(model, S, x_0, t, eps, weight)


def terms(x_0=X, *args, **options):
    return line_terms(lambda x, t: x, S, x_0, *args, **options)


BAD = [
    bad("t 0", lambda: loss(t=T3 - 1), r"t must lie in 1\.\.10, got .*clean data"),
    bad("t int32", lambda: loss(t=T3.int()), r"t .*torch.int32.*use t\.long", TypeError),
    bad("eps", lambda: loss(eps=X[:2]), r"eps must have the shape of x_0, \[3\], got \[2\]"),
    bad("NaN", lambda: loss(x_0=X / 0), "x_0 must be finite, got NaN or infinity"),
    bad("empty", lambda: loss(x_0=X[:0], t=T3[:0], eps=X[:0]), "the batch is empty"),
    bad("model", lambda: loss(lambda x, t: x[:, None]), r"model must return \[3\].*got \[3, 1\]"),
    bad("weight short", lambda: loss(weight=torch.ones(5)), r"weight .*\[11\], got \[5\]"),
    bad("weight long", lambda: loss(weight=torch.ones(12)), r"weight must be a table .*got \[12\]"),
    bad("weight 0-D", lambda: loss(weight=torch.ones(())), r"weight must be a table .*got \[\]"),
    bad("variance", lambda: eps_weight(S, S.beta[1:]), r"variance .*= \[11\], got \[10\]"),
    bad("variance 0", lambda: eps_weight(S, 0 * S.beta), r"variance .*at t = 2\.\.T, got 0"),
    bad("variance NaN", lambda: x_0_weight(S, S.beta / 0 * 0), "variance must be positive .*nan"),
    bad("x_0 weight", lambda: x_0_weight(S, from_betas(0.1).beta), r"variance .*got \[2\]"),
    bad("x_0 int", lambda: terms(X.long()), "x_0 must be a floating-point tensor", TypeError),
    bad("x_0 NaN", lambda: terms(X / 0), "x_0 must be finite"),
    bad("x_0 0-D", lambda: terms(X[0]), r"x_0 must be a batch \[B, \*D\].*got \[\]"),
    bad("x_0 empty", lambda: terms(X[:0]), r"x_0 must be a batch .*got \[0\]"),
    bad("T 1", lambda: vlb_terms(lambda x, t: x, from_betas(0.1), X), "T must be at least 2"),
    bad("strata 0", lambda: terms(X, 0), r"times must be None .*1\.\.9 strata, got 0"),
    bad("strata 10", lambda: terms(X, 10), r"1\.\.9 strata, got 10"),
    bad("strata 1.5", lambda: terms(X, 1.5), r"1\.\.9 strata, got 1\.5"),
    bad("bound's sigma", lambda: terms(variance=0 * S.beta), "variance must be positive"),
    bad("bound's table", lambda: terms(variance=S.beta[1:]), r"variance .*\[11\], got \[10\]"),
    bad("bound's model", lambda: vlb_terms(lambda x, t: x[:, None], S, X), "model must return"),
    bad("bound's NaN", lambda: vlb_terms(lambda x, t: x / 0, S, X), "eps_hat must be finite"),
    bad("clip", lambda: terms(clip=0), "clip must be positive"),
    bad("one sample", lambda: terms(X[:1]).standard_error, "needs 2 samples or more"),
    bad("no levels", lambda: vlb_terms(lambda x, t: x, S, X), "x must have the 256 levels"),
    bad("beyond 1", lambda: discretised_gaussian(LEVELS + 2 / 255, 0, 1), r"to 1\.00784"),
    bad("below -1", lambda: discretised_gaussian(LEVELS - 2 / 255, 0, 1), r"from -1\.00784"),
    bad("NaN level", lambda: discretised_gaussian(LEVELS * math.nan, 0, 1), "256 levels.*nan"),
    bad("0..255", lambda: discretised_gaussian(127.5 * (LEVELS + 1), 0, 1), "use data.to_unit"),
    bad("level's var", lambda: discretised_gaussian(LEVELS, 0, 0.0), "var must be positive"),
    bad("dims", lambda: bits_per_dim(1.0, 0), "dims must be at least 1 "),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
