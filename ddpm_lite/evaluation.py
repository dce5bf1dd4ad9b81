"""How good drawn digits are: each measure beside what real digits reach, as JSON holds it."""

from __future__ import annotations

import platform
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import __version__, metrics
from .data import mnist, to_unit
from .networks import Reading
from .objective import Terms, bits_per_dim, vlb_terms

CLOSEST = 1000  # images whose nearest training digit is looked for, among all 60,000


def check_size(n: int) -> None:
    """Raise ValueError where n digits are too few to measure, or more than MNIST has."""
    if not 20 <= n <= 60_000:
        raise ValueError(f"n must lie in 20..60000, to be measured beside real digits, got {n}")


def measure(classifier: nn.Module, images: Tensor, labels: Tensor, seed: int = 0) -> dict[str, Any]:
    """Each measure of `metrics` against the test set: its ``value``, and that of ``real`` digits.

    images: uint8 [N, 28, 28], drawn for labels [N], N in 20..60,000 with two or more of a class.
    Where the measure compares two sets (frechet, kid, precision, recall), the real digits are N
    random ones of the training set; else (accuracy, class_score, variety) they are the test set.
    nearest: the L2 distance to the nearest training digit, the median and the least of the first
    `CLOSEST` images.
    """
    check_size(len(images))
    train, _ = mnist("train")
    test, test_labels = mnist("test")
    generator = torch.Generator().manual_seed(seed)
    some = train[torch.randperm(len(train), generator=generator)[: len(images)]]
    seen_test = metrics.features(classifier, test)

    def alone(images: Tensor, labels: Tensor) -> dict[str, float]:
        nearest, _ = metrics.neighbours(images[:CLOSEST], train)
        return {
            "accuracy": metrics.accuracy(classifier, images, labels),
            "class_score": metrics.class_score(metrics.probabilities(classifier, images)),
            "variety": metrics.variety(images, labels),
            "nearest_median": float(nearest.median()),
            "nearest_least": float(nearest.min()),
        }

    def against_test(images: Tensor) -> dict[str, float]:
        seen = metrics.features(classifier, images)
        kid, error = metrics.kid(seen, seen_test)
        precision, recall = metrics.precision_recall(seen_test, seen)
        return {
            "frechet": metrics.frechet(seen, seen_test),
            "kid": kid,
            "kid_error": error,
            "precision": precision,
            "recall": recall,
        }

    value = against_test(images) | alone(images, labels)
    real = against_test(some) | alone(test, test_labels)
    return {name: {"value": value[name], "real": real[name]} for name in value}


def bound(
    model: Reading, n: int, times: int | None = None, seed: int = 0, batch: int = 100
) -> dict[str, Any]:
    """The bound on -log p(x_0 | label) of n random test digits: bits per dimension of each term.

    times: see `objective.vlb_terms`. sigma^2 is beta_tilde, sigma_1^2 is beta_tilde_2, x_0_hat is
    clipped to [-1, 1]. ``middle`` adds the terms of t = 2..T; ``strata`` tells where: the first t
    of each stratum, and the bits of all its t. ``standard_error`` is that of ``total``.
    """
    images, labels = mnist("test")
    if not 2 <= n <= len(images):
        raise ValueError(f"the bound needs 2..{len(images)} test digits, got {n}")
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]
    parts = []
    for some in chosen.split(batch):
        x_0, y = to_unit(images[some])[:, None].to(device), labels[some].to(device)
        asked = partial(model, y=y)
        parts.append(vlb_terms(asked, model.schedule, x_0, times, generator, clip=1.0))
    terms = Terms(*map(torch.cat, zip(*parts, strict=True)))

    def bits(nats: Tensor | float) -> float:
        return float(bits_per_dim(nats, 28 * 28))

    strata = (terms.sizes * terms.middle).mean(0)
    first = 2 + terms.sizes[0].cumsum(0) - terms.sizes[0]
    return {
        "images": n,
        "total": bits(terms.total.mean()),
        "standard_error": bits(terms.standard_error),
        "prior": bits(terms.prior.mean()),
        "middle": bits(strata.sum()),
        "decoder": bits(terms.decoder.mean()),
        "variance": "sigma^2 = beta_tilde, sigma_1^2 = beta_tilde_2",
        "strata": {"first_t": first.tolist(), "bits": [round(bits(s), 6) for s in strata]},
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
