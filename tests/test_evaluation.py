"""How good drawn digits are: real ones measure as real ones do, and the bound adds up."""

import pytest
import torch
from kinds import KINDS, built, small_mnist
from strategies import bad, check_bad
from torch import nn
from torch.testing import assert_close

from ddpm_lite.data.digits import mnist
from ddpm_lite.tasks import evaluation, load_pretrained


@pytest.fixture
def few_digits(monkeypatch):
    """The first 300 digits of each split."""
    monkeypatch.setattr(evaluation, "mnist", small_mnist)


def test_labels_are_asked_for_in_the_shares_of_the_training_set():
    labels = evaluation.random_labels(40_000, seed=1)
    assert labels.dtype == torch.int64 and len(labels) == 40_000
    shares, real = (y.bincount() / len(y) for y in (labels, mnist("train")[1]))
    assert_close(shares, real, rtol=0, atol=3.5e-3)  # four standard errors
    assert real[1] > 1.2 * real[5]
    assert evaluation.random_labels(20).bincount().tolist() == [2] * 10
    assert not torch.equal(labels, evaluation.random_labels(40_000, seed=2))
    assert torch.equal(labels, evaluation.random_labels(40_000, seed=1))


def test_real_digits_measure_as_real_digits_do(few_digits):
    """The floors are the measures of N random training digits, or of the test set."""
    images, labels = mnist("train")
    some = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:50]
    classifier = load_pretrained("classifier")
    found = evaluation.measure(classifier, images[some], labels[some])
    for name in ("frechet", "kid", "kid_error", "precision", "recall"):
        assert found[name]["value"] == found[name]["real"], name
    assert found["nearest_least"]["value"] == 0 < found["nearest_least"]["real"]
    images, labels = (x[:300] for x in mnist("test"))
    found = evaluation.measure(classifier, images, labels)
    for name in ("accuracy", "class_score", "variety", "nearest_median"):
        assert found[name]["value"] == found[name]["real"], name
    assert found["accuracy"]["value"] > 0.97 and found["frechet"]["value"] < 1e-6


@pytest.fixture(scope="module")
def model() -> nn.Module:
    from dataclasses import replace

    model = built(replace(KINDS["digits"], T=12)).eval()
    nn.init.normal_(model.net.head.weight, std=0.1)
    return model


def test_the_bound_is_the_sum_of_its_terms(model, few_digits):
    found = evaluation.bound(model, n=20, times=4, seed=3, batch=8)
    total = found["prior"] + found["middle"] + found["decoder"]
    assert_close(found["total"], total, rtol=1e-9, atol=0)
    assert_close(sum(found["strata"]["bits"]), found["middle"], rtol=0, atol=1e-5)
    first = found["strata"]["first_t"]
    assert first[0] == 2 and len(first) == 4 and first == sorted(set(first)) and first[-1] <= 12
    every = evaluation.bound(model, n=20, seed=3)
    assert every["strata"]["first_t"] == list(range(2, 13))
    assert abs(every["total"] - found["total"]) < 4 * found["standard_error"]


def test_a_machine_says_what_it_is():
    found = evaluation.machine(torch.device("cpu"))
    assert found["device"] == "cpu" and found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__


BAD = [
    bad("few", lambda: evaluation.random_labels(19), r"n must lie in 20..60000, .* got 19"),
    bad("many", lambda: evaluation.check_size(60_001), r"n must lie in 20..60000, .* got 60001"),
    bad(
        "bound",
        lambda: evaluation.bound(nn.Linear(1, 1), 1),
        r"the bound needs 2..10000 test digits, got 1",
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
