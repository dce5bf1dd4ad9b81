"""What a classifier sees in images, and images compared pixel by pixel."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, check_bad, normal, seeds
from torch import Tensor
from torch.testing import assert_close

from ddpm_lite.data import mnist, to_unit
from ddpm_lite.metrics import (
    accuracy,
    features,
    neighbours,
    precision_recall,
    probabilities,
    variety,
)
from ddpm_lite.networks import Classifier

# ---- two sets of features ------------------------------------------------------------------------

sizes, widths = st.integers(2, 30), st.integers(1, 6)


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


def test_an_image_of_one_channel_may_say_so():
    """[N, 1, 28, 28] is what [N, 28, 28] is, for every measure of images."""
    model, told = classifier(), DIGITS[:, None]
    assert torch.equal(features(model, told), features(model, DIGITS))
    assert accuracy(model, told, LABELS) == accuracy(model, DIGITS, LABELS)
    assert variety(told, LABELS % 2) == variety(DIGITS, LABELS % 2)
    assert torch.equal(neighbours(told, DIGITS)[1], neighbours(DIGITS, DIGITS)[1])


def test_accuracy_counts_the_labels_that_are_read():
    model = classifier()
    read = probabilities(model, DIGITS).argmax(1)
    assert accuracy(model, DIGITS, read) == 1
    wrong = torch.where(torch.arange(40) < 10, (read + 1) % 10, read)
    assert accuracy(model, DIGITS, wrong, batch=7) == 0.75


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
    monkeypatch.setattr("ddpm_lite.metrics.images.SLICE", 100)
    for a, b in zip(neighbours(DIGITS, DIGITS, k=3), whole, strict=True):
        assert torch.equal(a, b)
    assert precision_recall(real, fake) == shares
    assert_close(variety(DIGITS, LABELS % 2), spread, rtol=1e-12, atol=0)


BAD = [
    bad("floats", lambda: variety(DIGITS / 2, LABELS), r"images must be uint8 .*float32"),
    bad("flat", lambda: features(classifier(), DIGITS[0]), r"got torch.uint8 \[28, 28\]"),
    bad("array", lambda: variety(DIGITS.numpy(), LABELS), "images must be a tensor", TypeError),
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
