"""Tests of a program's network, guidance and data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .program import Finding, Program, answers, like

MANY = 2000  # labels of a test


def of_the_network(program: Program) -> Iterator[Finding]:
    """Is it the same each time, does it see t, and is its output what it is taken for?"""
    assert program.network
    if program.images is None:
        raise ValueError("images must be given beside network: it is asked about noisy ones")
    x_0 = program.images[:16]
    eps, t = torch.randn_like(x_0), program.times[len(program.times) // 3].expand(len(x_0))
    signal, noise = (like(v, x_0) for v in program.scales(t))
    x_t = signal * x_0 + noise * eps
    once, again = (program.network(x_t, t) for _ in range(2))
    alone = torch.cat([program.network(x_t[i : i + 1], t[:1]) for i in range(2)])
    size = float(once.abs().mean()) + 1e-12
    if (once - again).abs().mean() > 1e-3 * size or (once[:2] - alone).abs().mean() > 1e-2 * size:
        yield Finding("training mode", "its answer changes with the rest of the batch: net.eval()")
    ends = [program.network(x_t, program.times[k].expand(len(x_t))) for k in (0, -1)]
    if (ends[0] - ends[1]).abs().mean() < 1e-6 * size:
        yield Finding("no t", "it says the same at the first and at the last time: give it t")
    errors = {
        name: float((once - answers(replaced(program, name), eps, x_0, t)).square().mean())
        for name in ("eps", "x_0", "v")
    }
    best = min(errors, key=errors.__getitem__)
    if best != program.output and errors[best] < 0.5 * errors[program.output]:
        yield Finding(
            "another output",
            f"its squared error is {errors[program.output]:.2f} as {program.output}, and "
            f"{errors[best]:.2f} as {best}: read it as {best}",
        )


def replaced(program: Program, output: str) -> Program:
    """The program with another output of its model."""
    return Program(program.scales, program.times, output)


def of_guidance(program: Program) -> Iterator[Finding]:
    """Where scale 0 and scale 1 lead, for a model that says 1 with a label and 0 without."""
    assert program.guided

    def model(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x_t) if y is None else torch.ones_like(x_t)

    y, t = torch.zeros(2, dtype=torch.int64), program.times[-1].expand(2)
    at_0, at_1 = (float(program.guided(model, y, s)(torch.zeros(2), t)[0]) for s in (0.0, 1.0))
    if (at_0, at_1) == (1.0, 2.0):
        yield Finding(
            "other scale",
            "scale 0 is the labelled model, so it counts from there: its scale w is s - 1",
        )
    elif (at_0, at_1) != (0.0, 1.0):
        yield Finding("guidance", f"scale 0 gives {at_0:g} and scale 1 {at_1:g}, not 0 and 1")


def of_images(program: Program) -> Iterator[Finding]:
    """Do they fill the range, and do their labels belong to them?"""
    x = program.images
    assert x is not None
    if program.limit and x.min() > -0.5 * program.limit:
        yield Finding(
            "half range",
            f"x_0 lies in [{x.min():.2f}, {x.max():.2f}], and the sampler's in "
            f"[-{program.limit:g}, {program.limit:g}]: x_0 = 2 x - 1",
        )
    if program.labels is None or len(x) < 100:
        return
    y, flat = program.labels, x.flatten(1).double()
    centres = torch.stack([flat[y == k].mean(0) if (y == k).any() else flat[0] for k in y.unique()])
    within = (flat - centres[torch.searchsorted(y.unique(), y)]).square().mean()
    chance = (flat - flat.mean(0)).square().mean() * (1 - len(y.unique()) / len(y))
    if within > 0.97 * chance:
        yield Finding(
            "shuffled labels",
            f"images of one label are as different as any ({within / chance:.2f} of the variance "
            "is left): shuffle images and labels together",
        )


def of_hidden_labels(program: Program) -> Iterator[Finding]:
    """Is "not told" said, and is it no class?"""
    assert program.hide
    y = torch.arange(MANY) % program.classes
    seen = program.hide(y.clone())
    changed = seen != y
    if not changed.any():
        yield Finding("no label hidden", "training never sees a batch without labels: hide a tenth")
    elif (seen[changed] < program.classes).all():
        k = int(seen[changed][0])
        yield Finding(
            "null is a class", f"hidden labels become {k}, which is a class: use one more"
        )
