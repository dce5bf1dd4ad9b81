"""The parts of a diffusion program, and denoisers that are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Scales = Callable[[Tensor], tuple[Tensor, Tensor]]
Model = Callable[..., Tensor]

POINT = 0.5  # the single point
NARROW = 0.25  # the standard deviation of a narrow normal law


@dataclass(frozen=True)
class Program:
    """The parts of a diffusion program, as their author wrote them; None where one is not given.

    scales: t [B] -> signal and noise, each [B], with x_t = signal x_0 + noise eps; t is whatever
    the model is told: 1..T, 0..T - 1, a sigma. times: all of them, from little noise to much.
    output: what the model returns, "eps", "x_0" or "v". loss(model, x_0) -> a scalar; sample(model,
    n) -> x_0 [n, ...]; network(x_t, t): the trained one. guided(model, y, scale) -> model, where
    model(x_t, t, y=None), and scale 1 is meant to be the labelled model. images: x_0 [B, ...] as
    they go into the loss, labels: theirs; limit: where x_0 ends, if it is known (1 for images).
    hide(y): labels as training sees them, some replaced by "not told"; classes: how many there are.
    """

    scales: Scales
    times: Tensor
    output: str = "eps"
    loss: Callable[[Model, Tensor], Tensor] | None = None
    sample: Callable[[Model, int], Tensor] | None = None
    network: Model | None = None
    guided: Callable[..., Model] | None = None
    images: Tensor | None = None
    labels: Tensor | None = None
    limit: float | None = None
    hide: Callable[[Tensor], Tensor] | None = None
    classes: int = 10


class Finding(NamedTuple):
    """name: of the bug; says: what was seen, with its number, and what to do."""

    name: str
    says: str


def like(values: Tensor, x: Tensor) -> Tensor:
    """[B] as [B, 1, ...], to multiply x."""
    return values.to(x).reshape(-1, *[1] * (x.ndim - 1))


def answers(program: Program, eps: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
    """eps and x_0 as the program's model returns them."""
    if program.output == "v":
        signal, noise = (like(v, eps) for v in program.scales(t))
        return (signal * eps - noise * x_0) / (signal**2 + noise**2).sqrt()
    return eps if program.output == "eps" else x_0


def of_a_point(program: Program, c: float = POINT) -> Model:
    """The perfect model of data that are all c: x_0_hat = c."""

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise = (like(v, x_t) for v in program.scales(t))
        return answers(program, (x_t - signal * c) / noise, torch.full_like(x_t, c), t)

    return model


def of_a_normal_law(program: Program, std: float = NARROW) -> Model:
    """The perfect model of data N(0, std^2): x_0_hat is x_t, shrunk."""

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise = (like(v, x_t) for v in program.scales(t))
        x_0 = signal * std**2 / (signal**2 * std**2 + noise**2) * x_t
        return answers(program, (x_t - signal * x_0) / noise, x_0, t)

    return model


class Watched:
    """A model, and what it was asked: calls, a list of (x_t, t). Says 0 at times that are none."""

    def __init__(self, model: Model, times: Tensor) -> None:
        self.model, self.times = model, times
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls.append((x_t.clone(), t.clone()))
        outside = (t < self.times.min()).any() or (t > self.times.max()).any()
        return torch.zeros_like(x_t) if outside else self.model(x_t, t)
