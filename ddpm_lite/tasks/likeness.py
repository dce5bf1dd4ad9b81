"""How like one's own pictures the drawn ones are: each measure beside that of real pictures."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import metrics
from ..data import to_unit
from ..files import keep
from ..loss import simple_loss
from ..networks import Classifier, Denoiser
from ..training import CheckpointError, TrainConfig, train
from .classifier import Classify, cross_entropy
from .drawing import CHUNK, Asked, draw, gathered, settled, write_images
from .pictured import Pictured

LEAST = 4  # pictures that are drawn: `metrics.kid` needs them
CLOSEST = 1000  # pictures at most whose loss is measured, and whose nearest ones are looked for
PARTS = 10  # of 1..T
SLICE = 50_000_000  # pixels that are looked through at a time: 400 MB
SMALL = TrainConfig(steps=400, batch_size=64, lr=4e-3, warmup=50, ema_decay=0.95)  # a classifier
FEATURES = 32  # of it: few, for a Frechet distance needs many more pictures than features
Measures = dict[str, dict[str, float]]


def likeness(task: Pictured, model: nn.Module, asked: Asked) -> dict[str, Any]:
    """What `Images.evaluate` returns.

    As many pictures are drawn as are asked for, but at most half as many as the data have, and of
    the labels of random ones: then one half of the data can be compared as they are.
    """
    found, held, notes = task.pictures, task.held, list[str]()
    n = min(asked.n, len(held) // 2)
    if n < LEAST:
        raise ValueError(
            f"measuring needs {2 * LEAST} pictures or more, and {LEAST} or more to be drawn, got "
            f"{len(held)} in {task.data}, and n = {asked.n}"
        )
    if not isinstance(model, Denoiser):
        raise TypeError(f"model must be a Denoiser, got a {type(model).__name__}")
    judge = _judge(task, asked, next(model.parameters()).device, notes)
    rows = torch.randperm(len(held), generator=torch.Generator().manual_seed(asked.how.seed))
    labels = n if found.labels is None else found.labels[rows[:n]]
    how, start = settled(asked.how, model, n), time.perf_counter()
    drawn = gathered(draw(model, labels, how), n, "picture")
    seconds = round(time.perf_counter() - start)
    if asked.images:
        y = None if isinstance(labels, int) else labels
        keep(asked.images, lambda path: write_images(path, drawn, y))
    measures = losses(task, model, asked.how.seed) | copies(task, drawn)
    if judge:
        measures |= _seen(task, *judge, drawn, rows)
    if not held.any():
        notes.append("no picture was held out: all are measured, and all were trained on")
    return {
        "drawing": {"n": n, **asdict(how), "seconds": seconds},
        "data": {"pictures": len(held), "held_out": int(held.sum())},
        "measures": measures,
        "notes": notes,
    }


# ---- what the network is trained on --------------------------------------------------------------


def losses(task: Pictured, model: Denoiser, seed: int = 0) -> Measures:
    """E (eps - eps_hat)^2 over all t, and over each tenth of 1..T.

    value: of held-out pictures; trained_on: of as many that were trained on, with the same t and
    eps. Where none is held out, value is of those trained on.
    """
    T, held = model.schedule.T, task.held
    rows = {"value": held.nonzero()[:CLOSEST, 0], "trained_on": (~held).nonzero()[:CLOSEST, 0]}
    rows["trained_on"] = rows["trained_on"][: len(rows["value"]) or CLOSEST]
    if not held.any():
        rows = {"value": rows["trained_on"]}
    parts, ends = {}, [part * T // min(PARTS, T) for part in range(min(PARTS, T) + 1)]
    for low, high in zip(ends, ends[1:], strict=False):
        parts[f"loss_{low + 1}_{high}"] = {
            name: _loss(task, model, some, (low + 1, high + 1), seed) for name, some in rows.items()
        }
    return {"loss": {k: sum(p[k] for p in parts.values()) / len(parts) for k in rows}} | parts


@torch.no_grad()
def _loss(task: Pictured, model: Denoiser, rows: Tensor, span: tuple[int, int], seed: int) -> float:
    """The mean over these pictures, each with its own t in the span, and eps."""
    images, labels, *_ = task.pictures
    device, total = next(model.parameters()).device, 0.0
    generator = torch.Generator().manual_seed(seed)
    for some in rows.split(CHUNK):
        x_0 = to_unit(images[some])
        t = torch.randint(*span, (len(some),), generator=generator)
        eps = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
        x_0, t, eps = (v.to(device) for v in (x_0, t, eps))
        asked = partial(model, y=None if labels is None else labels[some].to(device))
        total += len(some) * float(simple_loss(asked, model.schedule, x_0, t, eps))
    return total / len(rows)


# ---- copies --------------------------------------------------------------------------------------


def copies(task: Pictured, drawn: Tensor) -> Measures:
    """The L2 distance to the nearest picture that was trained on: the median, and the least.

    value: of drawn pictures; real: of held-out ones or, where there are none, of those that were
    trained on, each to the nearest other.
    """
    images, held = task.pictures.images, task.held
    trained = images[~held]
    value = nearest(drawn[:CLOSEST], trained)
    if held.any():
        real = nearest(images[held][:CLOSEST], trained)
    else:
        real = nearest(trained[:CLOSEST], trained, k=2)  # the nearest is itself
    return {
        "nearest_median": {"value": float(value.median()), "real": float(real.median())},
        "nearest_least": {"value": float(value.min()), "real": float(real.min())},
    }


def nearest(images: Tensor, reference: Tensor, k: int = 1) -> Tensor:
    """The distance of each image to the k-th nearest of the reference, uint8 both: [N].

    As `metrics.neighbours`, but some of the reference at a time, for there may be 2 GB of it.
    """
    parts = reference.split(max(k, SLICE // reference[0].numel()))
    near = [metrics.neighbours(images, some, min(k, len(some)))[0] for some in parts]
    return torch.cat(near, 1).kthvalue(k, 1).values


# ---- what a classifier sees ----------------------------------------------------------------------

_Judge = tuple[Classifier, tuple[str, ...]]
"""A classifier, and the names of its classes."""


def _judge(task: Pictured, asked: Asked, device: torch.device, notes: list[str]) -> _Judge | None:
    """The classifier that is asked for, or a small one that learns the classes now, if any."""
    if asked.classifier is not None:
        return _given(asked.classifier, task, device)
    if len(task.pictures.names) < 2:
        notes.append(
            "no Frechet distance: there are no classes to train a classifier on, and no "
            "--classifier was given"
        )
        return None
    names = task.pictures.names
    with torch.random.fork_rng([]):
        torch.manual_seed(SMALL.seed)
        model = Classifier(len(names), 16, FEATURES, task.size, task.channels).to(device)
    *_, log = train(model, task.own(device), cross_entropy, SMALL)
    notes.append(f"the classifier was trained now, in {SMALL.steps} steps, on the same pictures")
    return log.ema, names  # type: ignore[return-value]


def _given(name: str, task: Pictured, device: torch.device) -> _Judge:
    from . import load_task

    reads, model = load_task(name, device)
    if not isinstance(model, Classifier) or not isinstance(reads, Classify):
        raise CheckpointError(
            f"classifier must be a checkpoint of kind 'classifier', {name} is of {reads.kind!r}"
        )
    if model.shape != (task.channels, task.size, task.size):
        raise ValueError(
            f"classifier {name} reads pictures of size {reads.size} with {reads.channels} channels,"
            f" but these are of size {task.size} with {task.channels}: train one with ddpm-lite "
            f"train classifier --data {task.data} --size {task.size} --channels {task.channels}"
        )
    return model, reads.names or tuple(map(str, range(reads.classes)))


def _seen(
    task: Pictured, judge: Classifier, names: tuple[str, ...], drawn: Tensor, rows: Tensor
) -> Measures:
    """How far drawn pictures, and a half of the data (real), are from the other half; and the share
    of the labels that is read right, where the judge knows the same classes.

    Of few pictures the Frechet distance is far above 0, and less variety can lower it; KID has not
    this fault, but an error.
    """
    (images, labels, own, _), n = task.pictures, len(drawn)
    sets = drawn, images[rows[:n]], images[rows[n : 2 * n]]
    seen, half, other = (metrics.features(judge, some) for some in sets)
    value, real = metrics.frechet(seen, other), metrics.frechet(half, other)
    measures = {"frechet": {"value": value, "real": real}}
    (value, error), (real, _) = metrics.kid(seen, other), metrics.kid(half, other)
    measures["kid"] = {"value": value, "error": error, "real": real}
    if labels is not None and names == own:
        test = task.held if task.held.any() else ~task.held
        real = metrics.accuracy(judge, images[test], labels[test])
        value = metrics.accuracy(judge, drawn, labels[rows[:n]])
        measures["accuracy"] = {"value": value, "real": real}
    return measures
