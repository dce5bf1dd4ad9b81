"""How good drawn digits are: each measure beside what real digits reach, as JSON holds it."""

from __future__ import annotations

import platform
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__, metrics
from ..bound import Terms, bits_per_dim, vlb_terms
from ..data import mnist, to_unit
from ..networks import Denoiser
from ..prediction import clipped

CLOSEST = 1000  # images whose nearest training digit is looked for, among all 60,000


def check_size(n: int) -> None:
    """Raise ValueError where n digits are too few to measure, or more than MNIST has."""
    if not 20 <= n <= 60_000:
        raise ValueError(f"n must lie in 20..60000, to be measured beside real digits, got {n}")


def random_labels(n: int, seed: int = 0) -> Tensor:
    """Which digits to draw for a fair comparison: labels int64 [n], n in 20..60,000.

    Two of each digit, which the measures need, and then the labels of random training digits.
    MNIST has a quarter more ones than fives: as many of each would lie farther from it.
    """
    check_size(n)
    _, labels = mnist("train")
    rows = _some(n - 20, torch.Generator().manual_seed(seed))
    return torch.cat([torch.arange(10).repeat(2), labels[rows]])


class Judge:
    """What a classifier and the pixels have to say of digits, beside the test set."""

    def __init__(self, classifier: nn.Module) -> None:
        self.classifier = classifier
        self.train, self.test = mnist("train"), mnist("test")
        self.seen = metrics.features(classifier, self.test[0])

    def against_test(self, images: Tensor) -> dict[str, float]:
        """What compares two sets of images, by their features; images: uint8 [N, 28, 28]."""
        seen = metrics.features(self.classifier, images)
        kid, error = metrics.kid(seen, self.seen)
        precision, recall = metrics.precision_recall(self.seen, seen)
        frechet = metrics.frechet(seen, self.seen)
        found = {"frechet": frechet, "kid": kid, "kid_error": error}
        return found | {"precision": precision, "recall": recall}

    def alone(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """What needs no second set, but the training digits to look for copies.

        nearest: the L2 distance to the nearest training digit, the median and the least of the
        first `CLOSEST` images.
        """
        nearest, _ = metrics.neighbours(images[:CLOSEST], self.train[0])
        return {
            "accuracy": metrics.accuracy(self.classifier, images, labels),
            "class_score": metrics.class_score(metrics.probabilities(self.classifier, images)),
            "variety": metrics.variety(images, labels),
            "nearest_median": float(nearest.median()),
            "nearest_least": float(nearest.min()),
        }

    def floor(self, n: int, seed: int = 0, draws: int = 1) -> dict[str, float]:
        """`against_test` of n random training digits: the mean over ``draws`` such sets."""
        generator = torch.Generator().manual_seed(seed)
        images, _ = self.train
        found = [self.against_test(images[_some(n, generator)]) for _ in range(draws)]
        return {name: sum(f[name] for f in found) / draws for name in found[0]}


def _some(n: int, generator: torch.Generator) -> Tensor:
    """n random rows of the training set."""
    return torch.randperm(len(mnist("train")[0]), generator=generator)[:n]


def measure(classifier: nn.Module, images: Tensor, labels: Tensor, seed: int = 0) -> dict[str, Any]:
    """Each measure of a `Judge`: its ``value``, and that of ``real`` digits.

    images: uint8 [N, 28, 28], drawn for labels [N], N in 20..60,000 with two or more of a class.
    Where the measure compares two sets, the real digits are N random ones of the training set;
    else they are the test set.
    """
    check_size(len(images))
    judge = Judge(classifier)
    value = judge.against_test(images) | judge.alone(images, labels)
    real = judge.floor(len(images), seed) | judge.alone(*judge.test)
    return {name: {"value": value[name], "real": real[name]} for name in value}


def terms_of(model: Denoiser, rows: Tensor, times: int | None, generator: torch.Generator) -> Terms:
    """The terms of the bound on -log p(x_0 | label) of some test digits, on the model's device.

    rows: int64 [B], which; times: see `bound.vlb_terms`. sigma^2 is beta_tilde, sigma_1^2 is
    beta_tilde_2, x_0_hat is clipped to [-1, 1].
    """
    (images, labels), device = mnist("test"), generator.device
    x_0, y = to_unit(images[rows])[:, None].to(device), labels[rows].to(device)
    asked = clipped(partial(model, y=y), model.schedule, 1.0)
    return vlb_terms(asked, model.schedule, x_0, times, generator)


def in_bits(terms: Terms) -> dict[str, float]:
    """Means over the digits, in bits per dimension.

    ``middle`` adds the terms of t = 2..T; ``standard_error`` is that of ``total``.
    """
    nats: dict[str, Tensor | float] = {
        "total": terms.total.mean(),
        "standard_error": terms.standard_error,
        "prior": terms.prior.mean(),
        "middle": (terms.sizes * terms.middle).sum(1).mean(),
        "decoder": terms.decoder.mean(),
    }
    return {name: float(bits_per_dim(value, 28 * 28)) for name, value in nats.items()}


def bound(
    model: Denoiser, n: int, times: int | None = None, seed: int = 0, batch: int = 100
) -> dict[str, Any]:
    """`in_bits` of the `terms_of` n random test digits; and ``strata``, where the bits are: the
    first t of each stratum, and the bits of all its t."""
    size = len(mnist("test")[0])
    if not 2 <= n <= size:
        raise ValueError(f"the bound needs 2..{size} test digits, got {n}")
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    chosen = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:n]
    parts = [terms_of(model, rows, times, generator) for rows in chosen.split(batch)]
    terms = Terms(*map(torch.cat, zip(*parts, strict=True)))
    strata = (terms.sizes * terms.middle).mean(0)
    first = 2 + terms.sizes[0].cumsum(0) - terms.sizes[0]
    return {
        "images": n,
        **in_bits(terms),
        "variance": "sigma^2 = beta_tilde, sigma_1^2 = beta_tilde_2",
        "strata": {
            "first_t": first.tolist(),
            "bits": [round(float(bits_per_dim(s, 28 * 28)), 6) for s in strata],
        },
    }


def machine(device: torch.device) -> dict[str, Any]:
    """On what, and with which versions, a number was made."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "ddpm_lite": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
