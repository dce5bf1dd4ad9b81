"""Each measure against its definition, a closed form, or a case where the answer is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats
from strategies import bad, check_bad, floats, mixtures, normal, numbers, seeds
from torch import Tensor
from torch.testing import assert_close

from ddpm_lite.data import mnist, to_unit
from ddpm_lite.density import grid
from ddpm_lite.gaussian import log_density
from ddpm_lite.metrics import (
    accuracy,
    class_score,
    features,
    frechet,
    kid,
    ks,
    mixture_cdf,
    neighbours,
    precision_recall,
    probabilities,
    quantiles,
    variety,
    w1,
    w1_density,
)
from ddpm_lite.mixture import GaussianMixture
from ddpm_lite.networks import Classifier

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


# ---- two sets of features ------------------------------------------------------------------------

sizes, widths = st.integers(2, 30), st.integers(1, 6)


def mixed(n: int, D: int, seed: int) -> Tensor:
    """n points in D dimensions with some mean and some covariance."""
    return normal(n, D, seed=seed) @ normal(D, D, seed=seed + 1) + normal(D, seed=seed + 2)


@given(st.integers(8, 30), widths, seeds)
def test_frechet_is_the_formula_with_a_matrix_root(n, D, seed):
    """|m - m'|^2 + tr(A + B - 2 (A B)^1/2), by scipy's general root of the product."""
    a, b = mixed(n, D, seed).numpy(), mixed(n + 5, D, seed + 9).numpy()
    A, B = (np.atleast_2d(np.cov(s, rowvar=False)) for s in (a, b))
    root = linalg.sqrtm(A @ B).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(A + B - 2 * root)
    found = frechet(torch.from_numpy(a), torch.from_numpy(b))
    assert_close(found, float(expected), rtol=1e-6, atol=1e-6)


@given(st.integers(1, 5), seeds)
def test_frechet_of_diagonal_gaussians_in_closed_form(D, seed):
    """The corners of a box have covariance diag(s^2), exactly: sum (m - m')^2 + (s - s')^2."""
    signs = torch.cartesian_prod(*[numbers(-1, 1)] * D).reshape(-1, D)
    correction = math.sqrt(1 - 1 / len(signs))  # so that n - 1 divides to 1
    m, r, s, u = normal(4, D, seed=seed)
    a, b = m + correction * s * signs, r + correction * u * signs
    expected = ((m - r) ** 2 + (s.abs() - u.abs()) ** 2).sum()
    assert_close(frechet(a, b), float(expected), rtol=1e-10, atol=1e-10)


@given(sizes, sizes, widths, seeds)
def test_frechet_is_a_squared_distance_whatever_the_rank(n, m, D, seed):
    """Fewer points than features, or a feature that is always 0: singular, and no obstacle."""
    a, b = mixed(n, D, seed), mixed(m, D, seed + 9)
    a[:, 0] = 0
    shift = normal(D, seed=seed + 5)
    scale = float(a.var(0).sum() + b.var(0).sum()) + 1
    assert_close(frechet(a, a), 0.0, rtol=0, atol=1e-9 * scale)
    assert_close(frechet(a, a + shift), float(shift @ shift), rtol=1e-9, atol=1e-9 * scale)
    assert_close(frechet(a, b), frechet(b, a), rtol=1e-7, atol=1e-7 * scale)
    turn = torch.linalg.qr(normal(D, D, seed=seed + 7)).Q
    assert_close(frechet(a @ turn, b @ turn), frechet(a, b), rtol=1e-7, atol=1e-7 * scale)


def test_frechet_of_one_law_falls_as_samples_grow():
    """Why real stands against real at the same n: the measure is biased."""
    small, large = (frechet(normal(n, 8), normal(n, 8, seed=1)) for n in (50, 5000))
    assert small > 20 * large > 0


@given(st.integers(4, 12), st.integers(4, 12), widths, seeds)
def test_kid_is_the_double_loop_over_pairs(n, m, D, seed):
    """With two blocks: each is the sum over pairs, and the mean and error are those of two."""
    a, b = mixed(n, D, seed), mixed(m, D, seed + 9)
    generator, block = torch.Generator().manual_seed(3), min(n, m) // 2
    order_a, order_b = (
        torch.randperm(n, generator=generator),
        torch.randperm(m, generator=generator),
    )

    def k(x, y):
        return (float(x @ y) / D + 1) ** 3

    def pairs(x, y):
        return [k(u, v) for i, u in enumerate(x) for j, v in enumerate(y) if x is not y or i != j]

    values = []
    for i in range(2):
        x, y = a[order_a][i * block : (i + 1) * block], b[order_b][i * block : (i + 1) * block]
        values.append(np.mean(pairs(x, x)) + np.mean(pairs(y, y)) - 2 * np.mean(pairs(x, y)))
    estimate, error = kid(a, b, seed=3)
    scale = max(1.0, *map(abs, values))
    assert_close(estimate, float(np.mean(values)), rtol=1e-9, atol=1e-9 * scale)
    assert_close(error, abs(values[0] - values[1]) / 2, rtol=1e-6, atol=1e-9 * scale)


def test_kid_is_unbiased_and_its_error_is_true():
    """Of one law: 0 on average, within the errors that it states; of two laws: far from 0."""
    found = [kid(normal(200, 4, seed=s), normal(200, 4, seed=s + 500), 20) for s in range(200)]
    estimates, errors = numbers(*(f[0] for f in found)), numbers(*(f[1] for f in found))
    assert estimates.mean().abs() < 4 * estimates.std() / 200**0.5
    assert_close(errors.square().mean().sqrt(), estimates.std(), rtol=0.2, atol=0)
    assert (estimates < 0).any()
    moved, error = kid(normal(200, 4), normal(200, 4, seed=1) + 1, 20)
    assert moved > 5 * error


def test_kid_leaves_no_block_short():
    """Of 50 and 70 samples, blocks of 20: two blocks, whatever the order of the rows."""
    a, b = normal(50, 3), normal(70, 3, seed=1)
    assert kid(a, b, 20) != kid(a, b, 20, seed=1)
    assert kid(a, b, 10**9) == kid(a, b, 25)


def test_precision_and_recall_where_they_are_known():
    real = numbers(0, 1, 2, 3)[:, None]
    assert precision_recall(real, real, k=1) == (1, 1)
    assert precision_recall(real, real + 100, k=1) == (0, 0)
    assert precision_recall(real, numbers(0, 0.5, 1, 9)[:, None], k=1) == (0.75, 1)
    collapsed = numbers(1, 1, 1, 1.25)[:, None]
    assert precision_recall(real, collapsed, k=1) == (1, 0.25)
    widened = numbers(0, 0, 0, 9)[:, None]  # its one far point reaches over all of real
    assert precision_recall(real, widened, k=1) == (0.75, 1)


@given(st.integers(5, 12), st.integers(5, 12), widths, st.integers(1, 4), seeds)
def test_precision_and_recall_are_their_definition(n, m, D, k, seed):
    real, fake = mixed(n, D, seed), mixed(m, D, seed + 9)

    def share(points, members):
        reach = [sorted((x - y).norm() for y in members)[k] for x in members]
        inside = [
            any((p - x).norm() <= r for x, r in zip(members, reach, strict=True)) for p in points
        ]
        return sum(inside) / len(inside)

    assert precision_recall(real, fake, k) == (share(fake, real), share(real, fake))
    assert precision_recall(fake, real, k) == precision_recall(real, fake, k)[::-1]


# ---- what a classifier sees ----------------------------------------------------------------------


def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(width=2, features=5).eval()


DIGITS, LABELS = (part[:40] for part in mnist("test"))


def test_a_classifier_sees_every_image_once_in_batches_of_any_size():
    model = classifier()
    x = to_unit(DIGITS)[:, None].float()
    for batch in (1, 7, 40, 500):
        found = features(model, DIGITS, batch)
        assert not found.requires_grad
        assert_close(found, model.features(x).detach(), rtol=1e-4, atol=1e-5)
        assert_close(probabilities(model, DIGITS, batch), model(x).softmax(1).detach())
    assert features(model.double(), DIGITS).dtype == torch.float64


def test_accuracy_counts_the_labels_that_are_read():
    model = classifier()
    read = probabilities(model, DIGITS).argmax(1)
    assert accuracy(model, DIGITS, read) == 1
    wrong = torch.where(torch.arange(40) < 10, (read + 1) % 10, read)
    assert accuracy(model, DIGITS, wrong, batch=7) == 0.75


def test_class_score_where_it_is_known():
    sure = torch.eye(10)
    assert_close(class_score(sure.repeat(3, 1)), 10.0)
    assert_close(class_score(sure[:1].repeat(5, 1)), 1.0)  # one class alone
    assert_close(class_score(torch.full((5, 10), 0.1)), 1.0)  # never sure
    assert_close(class_score(sure[:4]), 4.0)


@given(sizes, st.integers(1, 6), seeds)
def test_class_score_is_the_exponential_of_the_mutual_information(n, classes, seed):
    p = (2 * normal(n, classes, seed=seed)).softmax(1)
    entropy = stats.entropy(p.mean(0).numpy()) - np.mean([stats.entropy(q.numpy()) for q in p])
    assert_close(class_score(p), math.exp(entropy), rtol=1e-9, atol=0)
    assert 1 - 1e-9 <= class_score(p) <= min(n, classes) + 1e-9


# ---- images, pixel by pixel ----------------------------------------------------------------------


def pictures(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 28, 28), generator=generator, dtype=torch.uint8)


@given(st.lists(st.integers(2, 5), min_size=1, max_size=4), seeds)
def test_variety_is_the_mean_over_pairs_then_over_classes(counts, seed):
    """Classes of unlike sizes count alike; the labels need not be 0, 1, 2."""
    labels = torch.cat([torch.full((n,), 3 * c) for c, n in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    images = pictures(len(labels), seed)
    x, means = images.double() / 255, []
    for label in set(labels.tolist()):
        one = [x[i] for i in range(len(x)) if labels[i] == label]
        apart = [(u - v).norm() for i, u in enumerate(one) for v in one[:i]]
        means.append(torch.stack(apart).mean())
    assert_close(variety(images, labels), torch.stack(means).mean().item(), rtol=1e-12, atol=0)


def test_variety_sees_collapse():
    same = DIGITS[:2].repeat_interleave(3, 0)
    labels = torch.arange(2).repeat_interleave(3)
    assert variety(same, labels) == 0
    assert variety(same, 1 - labels % 2) >= 0
    black_and_white = torch.stack([torch.zeros(28, 28), torch.full((28, 28), 255)]).byte()
    assert_close(variety(black_and_white, torch.zeros(2)), 28.0)


@given(st.integers(1, 6), st.integers(1, 9), seeds, st.data())
def test_neighbours_are_the_first_of_all_in_order(n, m, seed, data):
    images, reference = pictures(n, seed), pictures(m, seed + 1)
    k = data.draw(st.integers(1, m))
    distances, indices = neighbours(images, reference, k)
    for i, x in enumerate(images.double() / 255):
        apart = torch.stack([(x - y).norm() for y in reference.double() / 255])
        assert_close(distances[i], apart.sort().values[:k], rtol=1e-12, atol=1e-12)
        assert_close(distances[i], apart[indices[i]], rtol=1e-12, atol=1e-12)


def test_a_copy_is_its_own_neighbour_at_exactly_zero():
    distances, indices = neighbours(DIGITS, DIGITS, k=2)
    assert torch.equal(indices[:, 0], torch.arange(40)) and (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 1).all()


def test_large_sets_are_taken_in_slices(monkeypatch):
    """Rows come some at a time; where the slices end changes nothing."""
    whole, real, fake = neighbours(DIGITS, DIGITS, k=3), normal(40, 3), normal(30, 3, seed=1)
    shares, spread = precision_recall(real, fake), variety(DIGITS, LABELS % 2)
    monkeypatch.setattr("ddpm_lite.metrics.SLICE", 100)
    for a, b in zip(neighbours(DIGITS, DIGITS, k=3), whole, strict=True):
        assert torch.equal(a, b)
    assert precision_recall(real, fake) == shares
    assert_close(variety(DIGITS, LABELS % 2), spread, rtol=1e-12, atol=0)


X, F, NAN = normal(3), normal(5, 3), math.nan
PLANE = GaussianMixture([1], [[0, 0]], [1])
BAD = [
    bad("heavy tails", lambda: quantiles(stats.cauchy.cdf, 1000), "raise it"),
    bad("far away", lambda: quantiles(stats.norm(500).cdf, 3), "raise it"),
    bad("no law", lambda: quantiles(lambda x: x * math.nan, 3), "raise it"),
    bad("a empty", lambda: w1(X[:0], X), r"a must be a tensor of points \[n\] .*got \[0\]"),
    bad("b 2-D", lambda: w1(X, X[:, None]), r"b must be a tensor of points \[n\] .*got \[3, 1\]"),
    bad("a list", lambda: w1([1.0], X), "a must be a tensor of points .*got list"),
    bad("b NaN", lambda: w1(X, X * NAN), "b must be finite, got NaN or infinity: look at"),
    bad("density p", lambda: w1_density(X, X[:2], X), r"p and q must .*\[3\], got \[2\] and \[3\]"),
    bad("density 1", lambda: w1_density(X[:1], X[:1], X[:1]), r"p and q .*\[1\]"),
    bad("density NaN", lambda: w1_density(X, X, X * NAN), "q must be finite, got NaN"),
    bad("ks empty", lambda: ks(X[:0], stats.norm.cdf), r"a must be a tensor .*got \[0\]"),
    bad("ks inf", lambda: ks(X / 0, stats.norm.cdf), "a must be finite, got NaN or infinity"),
    bad("plane", lambda: mixture_cdf(PLANE), "mixture must be on the line, got 2 dimensions"),
    bad("no quantile", lambda: quantiles(stats.norm.cdf, 0), "n must be at least 1, got 0"),
    bad("one row", lambda: frechet(F[:1], F), r"a must be \[n, D\] with n >= 2, got \[1, 3\]"),
    bad("flat", lambda: kid(F, F[0]), r"b must be \[n, D\] with n >= 2, got \[3\]"),
    bad("no feature", lambda: frechet(F[:, :0], F), r"a must be \[n, D\].*got \[5, 0\]"),
    bad("widths", lambda: frechet(F, F[:, :2]), "a and b must have the same.*got 3 and 2"),
    bad("NaN row", lambda: kid(F * NAN, F), "a must be finite, got NaN or infinity: look at"),
    bad("inf fake", lambda: precision_recall(F, F / 0), "fake must be finite"),
    bad("kid few", lambda: kid(F[:3], F), "blocks of 2 samples or more.*of 3 and 5 samples"),
    bad("kid block", lambda: kid(F, F, block=1), "1 a block"),
    bad("k 0", lambda: precision_recall(F, F, 0), "k must be at least 1 .* got 0 for 5 and 5"),
    bad("k n", lambda: precision_recall(F, F[:3], 3), "less than n and m, got 3 for 5 and 3"),
    bad("p sum", lambda: class_score(F.abs() + 1), "each row of p must hold probabilities"),
    bad("p sign", lambda: class_score(numbers(2, -1).repeat(2, 1)), "each row of p must hold"),
    bad("p shape", lambda: class_score(numbers(0.5, 0.5)), r"p must be \[n, D\] .*got \[2\]"),
    bad("floats", lambda: variety(DIGITS / 2, LABELS), r"images must be uint8 .*float32"),
    bad("channel", lambda: features(classifier(), DIGITS[:, None]), r"got torch.uint8 \[40, 1, 28"),
    bad("none", lambda: features(classifier(), DIGITS[:0]), r"N >= 1, got .*\[0, 28, 28\]"),
    bad("training", lambda: features(classifier().train(), DIGITS), r"call its eval\(\) first"),
    bad("labels", lambda: accuracy(classifier(), DIGITS, LABELS[:3]), r"\[40\], one.*\[3\]"),
    bad("labels 2-D", lambda: variety(DIGITS, LABELS[:, None]), r"labels must be \[40\].*40, 1\]"),
    bad("alone", lambda: variety(DIGITS[:3], LABELS[:3]), "one image of class 1, but a pair needs"),
    bad("reference", lambda: neighbours(DIGITS, DIGITS / 1), "reference must be uint8"),
    bad("far k", lambda: neighbours(DIGITS, DIGITS, 41), r"k must lie in 1..40, .* got 41"),
    bad("no k", lambda: neighbours(DIGITS, DIGITS, 0), r"k must lie in 1..40, .* got 0"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
