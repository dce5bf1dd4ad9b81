"""Gaussians of vectors, against SciPy, torch.distributions, and each other."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from strategies import bad, check_bad, normal, numbers, seeds
from torch.distributions import MultivariateNormal, kl_divergence
from torch.testing import assert_close

from ddpm_lite.gaussian import Gaussian, add, affine, entropy, kl, log_density, product


def law(D: int, seed: int, *batch: int) -> Gaussian:
    """Any mean and any covariance, well away from singular."""
    A = normal(*batch, D, D, seed=seed)
    return Gaussian(2 * normal(*batch, D, seed=seed + 1), A @ A.mT + 0.1 * torch.eye(D))


def theirs(p: Gaussian) -> MultivariateNormal:
    return MultivariateNormal(p.mean, p.cov)


def assert_same(p: Gaussian, q: Gaussian, tolerance: float = 1e-9) -> None:
    assert_close(p.mean, q.mean, rtol=tolerance, atol=tolerance)
    assert_close(p.cov, q.cov, rtol=tolerance, atol=tolerance)


sizes = st.integers(1, 4)


@given(sizes, seeds)
def test_density_and_entropy_are_scipys_and_torchs(D, seed):
    p, x = law(D, seed), normal(5, D, seed=seed + 9)
    expected = stats.multivariate_normal(p.mean.numpy(), p.cov.numpy())
    values = torch.as_tensor(expected.logpdf(x.numpy())).reshape(5)
    assert_close(p.log_density(x), values, rtol=1e-7, atol=1e-7)
    assert_close(p.log_density(x), theirs(p).log_prob(x), rtol=1e-9, atol=1e-9)
    assert_close(p.entropy(), theirs(p).entropy(), rtol=1e-10, atol=1e-10)


@given(sizes, seeds)
def test_diagonal_is_the_sum_of_coordinates(D, seed):
    (m, n, x), (v, w) = normal(3, D, seed=seed), normal(2, D, seed=seed + 1).exp()
    p, q = Gaussian.diagonal(m, v), Gaussian.diagonal(n, w)
    assert_close(p.log_density(x), log_density(x, m, v).sum())
    assert_close(p.entropy(), entropy(v).sum())
    assert_close(p.kl(q), kl(m, v, n, w).sum())
    for found, expected in (
        (p.product(q), product(m, v, n, w)),
        (p.add(q), add(m, v, n, w)),
        (p.affine(torch.diag(w), n), affine(m, v, w, n)),
    ):
        assert_same(found, Gaussian.diagonal(*expected))
    if D > 1:  # independent: what is given tells nothing about the rest
        assert_same(p.conditional([0], x[:1]), p.marginal(range(1, D)))


@given(sizes, sizes, seeds)
def test_affine_of_affine_composes(D, K, seed):
    p, low = law(D, seed), min(D, K)
    A, B = normal(D, D, seed=seed + 2), normal(low, D, seed=seed + 3)
    b, c = normal(D, seed=seed + 4), normal(low, seed=seed + 5)
    assert_same(p.affine(A, b).affine(B, c), p.affine(B @ A, B @ b + c), 1e-6)


@given(sizes, seeds)
def test_an_invertible_map_moves_the_density(D, seed):
    p, A, b = law(D, seed), normal(D, D, seed=seed + 2), normal(D, seed=seed + 3)
    x = normal(5, D, seed=seed + 4)
    moved = p.affine(A, b).log_density(x @ A.mT + b) + torch.linalg.slogdet(A)[1]
    assert_close(moved, p.log_density(x), rtol=1e-5, atol=1e-5)


@given(sizes, seeds)
def test_add_is_an_affine_map_of_the_pair(D, seed):
    p, q, eye = law(D, seed), law(D, seed + 2), torch.eye(D, dtype=torch.float64)
    pair = Gaussian(torch.cat([p.mean, q.mean]), torch.block_diag(p.cov, q.cov))
    assert_same(p.add(q), pair.affine(torch.cat([eye, eye], 1)))


@given(sizes, seeds)
def test_product_differs_from_the_densities_product_by_a_constant_vector(D, seed):
    p, q, x = law(D, seed), law(D, seed + 2), normal(5, D, seed=seed + 4)
    difference = p.log_density(x) + q.log_density(x) - p.product(q).log_density(x)
    expected = p.add(Gaussian(0 * q.mean, q.cov)).log_density(q.mean)
    assert_close(difference, expected.expand(5), rtol=1e-7, atol=1e-7)


@st.composite
def splits(draw: st.DrawFn) -> tuple[Gaussian, list[int], list[int]]:
    """A law, some of its coordinates in any order, and the others."""
    D = draw(st.integers(2, 5))
    order = draw(st.permutations(range(D)))
    first = order[: draw(st.integers(1, D - 1))]
    return law(D, draw(seeds)), first, [i for i in range(D) if i not in first]


@given(splits(), seeds)
def test_conditional_times_marginal_is_the_joint(split, seed):
    p, given_, rest = split
    x = normal(p.D, seed=seed)
    conditional = p.conditional(given_, x[given_])
    found = conditional.log_density(x[rest]) + p.marginal(given_).log_density(x[given_])
    assert_close(found, p.log_density(x), rtol=1e-8, atol=1e-8)


@given(splits())
def test_marginal_is_an_affine_map_that_picks(split):
    p, keep, _ = split
    pick = torch.eye(p.D, dtype=torch.float64)[keep]
    assert_same(p.marginal(keep), p.affine(pick), 1e-12)


def test_marginal_is_the_integral_over_the_others():
    p = Gaussian([0.3, -0.5], [[0.5, 0.3], [0.3, 0.8]])
    y = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    for x in (-1.0, 0.4):
        pairs = torch.stack([torch.full_like(y, x), y], -1)
        integral = p.log_density(pairs).exp().sum() * 16 / 2000
        assert_close(integral, p.marginal([0]).log_density(numbers(x)).exp())


@given(splits(), seeds)
def test_conditioning_twice_is_conditioning_once(split, seed):
    p, given_, rest = split
    x = normal(p.D, seed=seed)
    assume(len(rest) > 1)
    step = p.conditional(given_, x[given_]).conditional([0], x[rest[:1]])
    assert_same(step, p.conditional([*given_, rest[0]], x[[*given_, rest[0]]]), 1e-7)


@given(sizes, sizes, seeds)
def test_joint_has_its_marginals_and_its_conditional(D, K, seed):
    p, noise, A = law(D, seed), law(K, seed + 2), normal(K, D, seed=seed + 4)
    both, x = p.joint(A, noise), normal(D, seed=seed + 5)
    assert_same(both.marginal(range(D)), p)
    assert_same(
        both.conditional(range(D), x), Gaussian(A @ x + noise.mean, noise.cov), tolerance=1e-7
    )
    if K <= D:
        assert_same(both.marginal(range(D, D + K)), p.affine(A).add(noise))


@given(sizes, seeds)
def test_product_is_bayes_rule(D, seed):
    """Prior p and y = x + noise: the posterior is p times the density of y, turned round."""
    p, noise, y = law(D, seed), law(D, seed + 2), normal(D, seed=seed + 4)
    both = p.joint(torch.eye(D), noise)
    posterior = both.conditional(range(D, 2 * D), y)
    assert_same(posterior, p.product(Gaussian(y - noise.mean, noise.cov)), 1e-7)


@given(sizes, seeds)
def test_kl_of_vectors(D, seed):
    p, q = law(D, seed), law(D, seed + 2)
    assert_close(p.kl(q), kl_divergence(theirs(p), theirs(q)), rtol=1e-7, atol=1e-7)
    assert p.kl(q) > 0
    assert 0 <= p.kl(p) < 1e-12 and 0 <= q.kl(q) < 1e-12
    A, b = normal(D, D, seed=seed + 4), normal(D, seed=seed + 5)
    moved = p.affine(A, b).kl(q.affine(A, b))  # the same map for both changes nothing
    assert_close(moved, p.kl(q), rtol=1e-4, atol=1e-6)


@given(splits())
def test_chain_rules(split):
    """H(x, y) = H(x) + H(y | x); KL of joints = KL of x + the mean KL of y given x."""
    p, first, rest = split
    q = law(p.D, 5)
    at_mean, K = p.marginal(first).mean, len(first)
    y_p, y_q = p.conditional(first, at_mean), q.conditional(first, at_mean)
    assert_close(p.entropy(), p.marginal(first).entropy() + y_p.entropy())
    # The mean KL(y | x) over x is exact: the conditional means are affine in x.
    gain = torch.stack(
        [
            p.conditional(first, at_mean + e).mean
            - y_p.mean
            - q.conditional(first, at_mean + e).mean
            + y_q.mean
            for e in torch.eye(K, dtype=torch.float64)
        ],
        1,
    )
    spread = torch.linalg.solve(y_q.cov, gain @ p.marginal(first).cov @ gain.mT).trace()
    mean_kl = y_p.kl(y_q) + 0.5 * spread
    expected = p.marginal(first).kl(q.marginal(first)) + mean_kl
    assert_close(p.kl(q), expected, rtol=1e-7, atol=1e-7)


@given(sizes, seeds)
def test_samples_have_the_mean_and_the_covariance(D, seed):
    p = law(D, seed)
    x = p.sample(20_000, torch.Generator().manual_seed(seed))
    eps = torch.linalg.solve(p.scale, (x - p.mean).mT)  # N(0, I)
    assert x.shape == (20_000, D)
    assert eps.mean(1).abs().max() < 5 / math.sqrt(20_000)
    assert (eps.cov().reshape(D, D) - torch.eye(D)).abs().max() < 5 * math.sqrt(2 / 20_000)


def test_batches_are_their_members():
    p, q, A = law(3, 1, 4), law(3, 7), normal(2, 3, seed=3)
    value = normal(4, 1, seed=4)
    both = p.joint(A, law(2, 5))
    for i in range(4):
        one = Gaussian(p.mean[i], p.cov[i])
        assert_close(p.log_density(p.mean + 1)[i], one.log_density(one.mean + 1))
        assert_close(p.kl(q)[i], one.kl(q))
        assert_close(q.kl(p)[i], q.kl(one))
        for many, single in (
            (p.product(q), one.product(q)),
            (p.add(q), one.add(q)),
            (p.affine(A), one.affine(A)),
            (p.marginal([2, 0]), one.marginal([2, 0])),
            (p.conditional([1], value), one.conditional([1], value[i])),
            (both, one.joint(A, law(2, 5))),
        ):
            assert_close(many.mean[i], single.mean)
            assert_close(many.cov[i], single.cov)
    assert q.conditional([1], value).mean.shape == (4, 2)  # one law, four values
    assert p.sample(5).shape == (5, 4, 3)


def test_dtypes_and_lists():
    p = Gaussian([0, 1], [[2, 1], [1, 2]])
    assert p.mean.dtype == p.entropy().dtype == torch.float64 and p.D == 2
    assert_close(Gaussian.diagonal(0.0, 2.0).cov, numbers(2).reshape(1, 1))
    small = Gaussian(p.mean.float(), p.cov.float())
    assert small.log_density([0.0, 0.0]).dtype == torch.float32
    assert small.affine(numbers(1, 1)[None]).cov.dtype == torch.float32
    assert p.conditional([0], [1.0]).mean.shape == (1,)
    whole = Gaussian(torch.tensor([0, 1]), torch.tensor([[2, 1], [1, 2]]))
    assert_same(whole, p, 0)
    assert_same(whole.affine(torch.tensor([[1, 2]]), 3), p.affine(numbers(1, 2)[None], 3.0), 0)


def test_small_variances_are_safe():
    """Scales of 1e-8 beside 1, and a correlation of 1 - 1e-9: as a chain's first steps have."""
    p = Gaussian.diagonal(numbers(1, 2), numbers(1e-16, 1))
    assert_close(p.product(p).cov.diagonal(), numbers(5e-17, 0.5), rtol=1e-12, atol=0)
    assert_close(p.kl(Gaussian(p.mean, 2 * p.cov)), kl(0, 1, 0, 2) * 2)
    r = 1 - 1e-9
    close = Gaussian([0, 0], [[1, r], [r, 1]]).conditional([0], [1.0])
    assert_close(close.cov.item(), 1 - r**2, rtol=1e-6, atol=0)


EYE = torch.eye(2, dtype=torch.float64)
TWO = Gaussian([0, 0], EYE)
BAD = [
    bad("half", lambda: Gaussian(EYE[0].half(), EYE), "mean must be float32 or .*16", TypeError),
    bad("bfloat16", lambda: Gaussian(EYE[0], EYE.bfloat16()), "cov must be float32 or", TypeError),
    bad("complex", lambda: Gaussian(EYE[0], EYE * 1j), "cov must be float32 or", TypeError),
    bad("no sample", lambda: TWO.sample(0), "n must be at least 1, got 0"),
    bad("no vector", lambda: Gaussian(numbers(1)[0], EYE), r"mean must have shape \[\*B, D\]"),
    bad("no matrix", lambda: Gaussian([0, 0], [1, 1]), "variances alone: Gaussian.diagonal"),
    bad("sizes", lambda: Gaussian([0, 0, 0], EYE), r"got \[3\] and \[2, 2\]"),
    bad("NaN", lambda: Gaussian([0, math.nan], EYE), "must be finite"),
    bad("lopsided", lambda: Gaussian([0, 0], [[1, 0.5], [0, 1]]), "symmetric.* differ by 0.5"),
    bad("indefinite", lambda: Gaussian([0, 0], [[1, 2], [2, 1]]), "definite.*eigenvalue -1 "),
    bad("rounding", lambda: TWO.affine([[0.1, 0.3], [0.7, 2.1]]), "never varies: leave one"),
    bad("zero cov", lambda: Gaussian([0, 0], 0 * EYE), "positive definite"),
    bad("diagonal", lambda: Gaussian.diagonal([0, 0], [1, -1]), "var must be positive .*got -1"),
    bad("x", lambda: TWO.log_density(numbers(1, 2, 3)), r"x must have shape \[\*B, 2\], got \[3\]"),
    bad("M", lambda: TWO.affine(numbers(1, 2)), r"M must have shape \[K, 2\], got \[2\]"),
    bad("b", lambda: TWO.affine(EYE, numbers(1, 2, 3)), r"b must have shape \[\*B, 2\], got \[3\]"),
    bad("K > D", lambda: TWO.affine([[1, 0], [0, 1], [1, 1]]), "positive definite"),
    bad("noise", lambda: TWO.joint([[1, 0]], TWO), "noise must have 1 coordinates like M x, got 2"),
    bad("D", lambda: TWO.kl(Gaussian([0], [[1]])), "same D, got 2 and 1"),
    bad("keep", lambda: TWO.marginal([0, 2]), r"different coordinates out of 0..1, got \[0, 2\]"),
    bad("keep nothing", lambda: TWO.marginal([]), "keep must list"),
    bad("given twice", lambda: TWO.conditional([1, 1], [0, 0]), "given must list different"),
    bad("given all", lambda: TWO.conditional([1, 0], [0, 0]), "must leave a coordinate"),
    bad(
        "value",
        lambda: TWO.conditional([1], [0, 0]),
        r"value must have shape \[\*B, 1\]",
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
