"""Tests of a program's schedule, loss and sampler: no data, no training."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .program import (
    NARROW,
    POINT,
    Finding,
    Program,
    Watched,
    of_a_normal_law,
    of_a_point,
)

MANY = 2000  # samples of a test


def of_times(program: Program) -> Iterator[Finding]:
    """Does the noise begin small, grow, and end with next to no signal, but some?"""
    signal, noise = program.scales(program.times)
    ratio = signal / noise
    if (ratio.diff() > 0).any():
        yield Finding("times", "more noise must come later: the ratio of signal to noise rises")
    if ratio[-1] > 0.1:
        yield Finding(
            "short schedule",
            f"at the last time {ratio[-1]:.2f} of the signal is left beside noise of 1, and a "
            "sampler starts from noise alone: more steps, or larger beta (rescale beta with 1/T)",
        )
    if program.output == "eps" and signal[-1] < 1e-6:
        yield Finding(
            "unclipped schedule",
            f"the signal at the last time is {signal[-1]:.0e}, by which x_0_hat is divided: clip "
            "beta at 0.999, or let the model return v",
        )


def of_the_loss(program: Program) -> Iterator[Finding]:
    """What x_t and t it shows the model, and whether the perfect model has no loss."""
    assert program.loss
    seen = Watched(lambda x_t, t: torch.zeros_like(x_t), program.times)
    far = 1e6 * max(1.0, float(program.scales(program.times)[1].max()))
    program.loss(seen, torch.full((MANY, 1), far, dtype=torch.float64))
    x_t, t = seen.calls[-1]
    if (t == t[0]).all():
        yield Finding("one t", "all of a batch have the same t: draw one for each")
    yield from _signal(program, x_t.flatten() / far, t)
    rows = torch.full((MANY, 1), POINT, dtype=torch.float64)
    all_of, alone = (float(program.loss(of_a_point(program), r)) for r in (rows, rows[:1]))
    if all_of > 1e-6 and alone < 1e-6:
        yield Finding(
            "all pairs",
            f"the perfect model has loss {all_of:.2f}, and 0 with a batch of one: shapes broadcast "
            "to [B, B]; let eps_hat and eps have the same",
        )
    if all_of > 1e-6:
        yield Finding(
            "fresh noise",
            f"the perfect model has loss {all_of:.2f}: its target must be the eps of x_t",
        )


def _signal(program: Program, found: Tensor, t: Tensor) -> Iterator[Finding]:
    """Is the signal in the loss's x_t the one that scales says?"""
    signal = program.scales(program.times)[0].double()
    place = (t.double().flatten()[:, None] - program.times.double()).abs().argmin(1)
    earlier = torch.cat([signal.new_ones(1), signal])[place]
    wanted = program.scales(t.flatten())[0].double()

    def off(other: Tensor) -> float:
        return float((found - other).abs().max())

    if off(wanted) < 1e-4:
        return
    says = f"x_t holds up to {off(wanted):.2f} more or less of x_0 than scales(t) says: "
    if off(wanted**2) < 1e-4:
        yield Finding("no root", says + "it holds alpha_bar of it; take the roots")
    if off(earlier) < 1e-4:
        yield Finding("late noise", says + "it has the noise of one time before; count from 1")
    if off(wanted / earlier) < 1e-4:
        yield Finding("one step", says + "it has the noise of one step; alpha_bar, not alpha")
    yield Finding("noise", says + "x_t = signal x_0 + noise eps")


def of_the_sampler(program: Program) -> Iterator[Finding]:
    """Which times it visits; whether it returns a point, and a normal law."""
    assert program.sample
    seen = Watched(of_a_point(program), program.times)
    point = program.sample(seen, MANY)
    yield from _visits(program, seen, point)
    yield from _point(program, point)
    if program.limit:
        most = float(program.sample(of_a_point(program, 3 * program.limit), 50).abs().max())
        if most > 1.5 * program.limit:
            yield Finding(
                "no clip",
                f"an x_0_hat of {3 * program.limit:g} comes through as {most:.2f}: clip x_0_hat to "
                f"[-{program.limit:g}, {program.limit:g}] at each step",
            )
    yield from _normal(program, len(seen.calls))


def _visits(program: Program, seen: Watched, point: Tensor) -> Iterator[Finding]:
    """Are its times those that it shows the model, does it start at the last, is x_t left free?"""
    asked, times = torch.stack([t[0] for _, t in seen.calls]).double(), program.times.double()
    outside = asked.min() < times.min() or asked.max() > times.max()
    first, last, least = (
        float(asked[0]),
        float(times[-1]),
        float(program.scales(program.times[:1])[1]),
    )
    if outside or (first != last and point.std() > 0.03 * least):
        yield Finding(
            "early t",
            f"it starts at t = {last:g} and asks the model at {first:g}: x_t and the t that the "
            "model is told do not belong together",
        )
    if first != last:
        yield Finding(
            "leading grid",
            f"it starts from pure noise at t = {first:g}, and pure noise is at {last:g}: a grid "
            "that begins there (trailing)",
        )
    for x_t, t in seen.calls[1:]:
        most, noisy = x_t.abs().max(), float(program.scales(t[:1])[1]) > 0.7
        if noisy and (x_t.abs() > 0.999 * most).double().mean() > 0.1:
            yield Finding(
                "clipped x_t",
                f"at t = {t[0]:g} many x_t are {most:.2f}, none is beyond: clip x_0_hat, not x_t",
            )
            return


def _point(program: Program, point: Tensor) -> Iterator[Finding]:
    """What it makes of the perfect model of a single point."""
    off, spread = float((point.mean() - POINT).abs()), float(point.std())
    least = float(program.scales(program.times[:1])[1])
    if off < 0.05 and spread < 0.3 * least:
        return
    if off < 0.05 and spread < 3 * least:
        yield Finding(
            "noisy end",
            f"asked for a single point, it returns noise of width {spread:.3f} around it: the last "
            "step adds none",
        )
    perfect = of_a_point(program)
    turned = program.sample(lambda x_t, t: -perfect(x_t, t), 50)  # type: ignore[misc]
    if (turned - POINT).abs().max() < 3 * least:
        yield Finding("wrong sign", "it returns the point when the model's sign is turned")
    yield Finding(
        "sampler", f"asked for a single point, {POINT:g}, it returns {point.mean():.2f} on average"
    )


def _normal(program: Program, calls: int) -> Iterator[Finding]:
    """What it makes of a narrow normal law, in four batches; a few long steps make it narrower."""
    assert program.sample
    batches = torch.stack(
        [program.sample(of_a_normal_law(program), MANY // 4).double().flatten() for _ in range(4)]
    )
    means, width = float(batches.mean(1).std()), float(batches.std())
    if means > 4 * NARROW / (MANY / 4) ** 0.5:
        yield Finding(
            "one z",
            f"means of batches differ by {means:.3f}, fifty times less would be chance: draw z for "
            "each sample, z = randn_like(x)",
        )
    least = 0.8 if calls >= 40 else 0.15
    if not least < width / NARROW < 1.25:
        yield Finding(
            "variance for width",
            f"a normal law of width {NARROW:g} comes out with {width:.3f}: the noise of a step is "
            "sigma z, with sigma the root of the variance, and z standard normal (randn)",
        )
