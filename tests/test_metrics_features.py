"""Two sets of features: each measure against its definition, a closed form or a known case."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats
from strategies import bad, check_bad, normal, numbers, seeds
from torch import Tensor
from torch.testing import assert_close

from ddpm_lite.metrics import class_score, frechet, kid, precision_recall

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


X, F, NAN = normal(3), normal(5, 3), math.nan
BAD = [
    bad("one row", lambda: frechet(F[:1], F), r"a must be \[n, D\] with n >= 2, got \[1, 3\]"),
    bad("flat", lambda: kid(F, F[0]), r"b must be \[n, D\] with n >= 2, got \[3\]"),
    bad("list", lambda: frechet([[1.0]], F), "a must be a tensor .*got list", TypeError),
    bad("complex", lambda: kid(F, F * 1j), "b must be a tensor of real numbers", TypeError),
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
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
