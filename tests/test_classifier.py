"""The classifier: its shapes, its training in small, and the weights that travel with the book."""

from dataclasses import replace

import pytest
import torch
from strategies import bad, check_bad, normal
from torch.testing import assert_close

from ddpm_lite.data import mnist, to_unit
from ddpm_lite.metrics import accuracy
from ddpm_lite.networks import Classifier
from ddpm_lite.tasks import Classify, load_task
from ddpm_lite.tasks.classifier import cross_entropy, moved
from ddpm_lite.training import checkpoint, load_checkpoint, train

WEIGHTS = checkpoint.WEIGHTS / "classifier.safetensors"


def small(**options) -> Classifier:
    torch.manual_seed(0)
    return Classifier(**{"width": 2, "features": 5} | options).eval()


def digits(*shape: int) -> torch.Tensor:
    return normal(*shape, 1, 28, 28, dtype=torch.float32)


def test_logits_and_features_have_the_sizes_asked_for():
    assert small()(digits(3)).shape == (3, 10)
    assert small(classes=4)(digits(3)).shape == (3, 4)
    assert small().features(digits(3)).shape == (3, 5)
    assert small().features(digits(0)).shape == (0, 5)
    assert Classifier().features(digits(1)).shape == (1, 128)


def test_logits_are_a_line_of_the_features_and_these_are_not_negative():
    model, x = small(), digits(8)
    seen = model.features(x)
    assert seen.min() >= 0 and seen.max() > 0
    assert_close(model(x), seen @ model.head.weight.T + model.head.bias)


def test_in_eval_mode_each_image_is_seen_alone():
    model, x = small(), digits(4)
    assert_close(model(x)[1:2], model(x[1:2]))
    model.train()
    assert not torch.allclose(model(x)[1:3], model(x[1:3]), atol=1e-4)


def test_gradients_reach_every_parameter_and_the_image():
    """Guidance by a classifier needs the gradient by the image."""
    model, x = small(features=64).train(), digits(4).requires_grad_()
    model(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


# ---- its training --------------------------------------------------------------------------------


def test_it_learns_to_read():
    """After 150 steps it reads three test digits of four; chance reads one of ten."""
    task = Classify(width=4, features=32)
    how = replace(task.train, steps=150, batch_size=64, warmup=10, ema_decay=0.9, log_every=150)
    torch.manual_seed(3)
    (log,) = train(task.build(), *task.batches(torch.device("cpu")), how)
    images, labels = (split[::10] for split in mnist("test"))
    assert accuracy(log.ema, images, labels) > 0.75


def test_its_loss_is_minus_the_log_probability_of_the_label():
    model, x, y = small(), digits(5), torch.tensor([0, 3, 9, 9, 1])
    p = model(x).softmax(1)
    assert_close(cross_entropy(model, x, y), -p[torch.arange(5), y].log().mean())


def test_its_batches_are_moved_digits_and_their_labels():
    draw, _ = Classify().batches(torch.device("cpu"))
    x, y = draw(64, torch.Generator().manual_seed(0))
    assert x.shape == (64, 1, 28, 28) and x.min() >= -1 and x.max() <= 1 and y.max() < 10
    model = load_task("classifier")[1]
    assert (model(x).argmax(1) == y).float().mean() > 0.9
    levels = (x + 1) * 127.5
    assert ((levels - levels.round()).abs() > 0.01).float().mean() > 0.1  # between the 256: moved


def test_augmentation_moves_digits_and_keeps_what_they_are():
    x = to_unit(mnist("test")[0][:200])[:, None].float()
    y = moved(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape and y.min() >= -1 and y.max() <= 1
    assert (y[:, 0, 0] == -1).float().mean() > 0.99  # background comes in at the border
    ink, moved_ink = (x + 1).sum((1, 2, 3)), (y + 1).sum((1, 2, 3))
    assert 0.75 < (moved_ink / ink).min() and (moved_ink / ink).max() < 1.3
    where = torch.arange(28.0)
    centres = [((z + 1).sum(2) * where).sum((1, 2)) / (z + 1).sum((1, 2, 3)) for z in (x, y)]
    gap = (centres[1] - centres[0]).abs()
    assert 0.5 < gap.mean() < 2 and gap.max() < 4
    assert torch.equal(y, moved(x, torch.Generator().manual_seed(0)))


# ---- the weights in the package ------------------------------------------------------------------


def test_the_shipped_weights_read_the_test_split():
    tensors, facts = load_checkpoint(WEIGHTS)
    assert WEIGHTS.stat().st_size <= 1.2e6
    assert {v.dtype for v in tensors.values() if v.is_floating_point()} == {torch.float16}
    task, model = load_task("classifier")
    assert task == Classify()
    assert not model.training and next(model.parameters()).dtype == torch.float32
    found = accuracy(model, *mnist("test"))
    assert found >= 0.993
    assert abs(found - facts["test_accuracy"]) <= 2e-4  # another CPU may round a close call


def test_the_card_says_what_the_file_says():
    facts, card = load_checkpoint(WEIGHTS).facts, WEIGHTS.with_suffix(".md").read_text("utf-8")
    assert f"{facts['test_accuracy']:.2%}".replace("%", " %") in card
    for name in ("command", "seed", "epochs"):
        assert str(facts[name]) in card
    assert f"{sum(p.numel() for p in Classifier(**facts['config']).parameters()):,}" in card


BAD = [
    bad("classes", lambda: Classifier(classes=0), "classes must be at least 1, got 0"),
    bad("width", lambda: Classifier(width=0), "width must be at least 1, got 0"),
    bad("features", lambda: Classifier(features=-1), "features must be at least 1, got -1"),
    bad("no channel", lambda: small()(torch.zeros(3, 28, 28)), r"\[B, 1, 28, 28\], got \[3, 28"),
    bad("32 rows", lambda: small()(torch.zeros(3, 1, 32, 32)), r"x must be images .*32, 32\]"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
