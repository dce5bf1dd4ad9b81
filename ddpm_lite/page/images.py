"""Convolutions, linear layers and norms for `runner.js`: an image lies with its channels last."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from .program import Builder, Value


def made_for(builder: Builder, node: Node) -> Value:
    """A buffer for what the node makes, with the margin that a convolution after it wants."""
    shape = tuple(node.meta["val"].shape[1:])
    wanted = [_padding(user) for user in node.users if name(user) == "conv2d"]
    return builder.new(shape, max(wanted, default=0))


def name(node: Node) -> str:
    return getattr(node.target, "__name__", "").split(".")[0]


def _padding(node: Node) -> int:
    padding = node.args[4] if len(node.args) > 4 else [0, 0]
    return padding[0]  # type: ignore[index, return-value]


def _image(builder: Builder, x: Value, margin: int = 0) -> Value:
    """x [C, H, W] as convolutions want it: the channels of a pixel, then the next pixel."""
    c = x.shape[0]
    lies = (c == 1 or x.strides[0] == 1) and x.strides[2] == c and x.margin >= margin
    return x if lies else builder.copy(x, margin)


def _pixel(x: Value) -> list[int]:
    """[buffer, offset, stride of rows, stride of columns]."""
    return x.at(x.strides[1], x.strides[2])


def panels(matrix: Tensor) -> Tensor:
    """A matrix [K, N] as the kernel reads it, [N / 4, K, 4]; N is filled up with zeros."""
    full = F.pad(matrix, (0, -matrix.shape[1] % 4))
    return full.reshape(len(matrix), -1, 4).transpose(0, 1)


def _conv2d(
    builder: Builder,
    node: Node,
    x: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Value:
    plain = len({*stride}) == len({*padding}) == 1 and {*dilation, groups} == {1}
    if not plain or isinstance(padding, str):
        raise ValueError(f"{builder.module}: the runner's conv2d has no dilation and no groups")
    x, out = _image(builder, x, padding[0]), made_for(builder, node)
    rows = torch.stack([panels(w.permute(2, 1, 0).flatten(0, 1)) for w in weight.unbind(2)])
    (_, h, w), step = out.shape, stride[0]
    place, into = _pixel(x), _pixel(out)
    place[1] -= padding[0] * (place[2] + place[3])  # of the corner, in the margin
    if weight.shape[2:] == (1, 1) and step == 1 and place[2:] == [w * place[3], place[3]]:
        if into[2] == w * into[3]:
            h, w = 1, h * w  # one row of all pixels
    weighed(
        builder,
        "conv",
        rows,
        bias,
        x=place,
        out=into,
        rows=h,
        columns=w,
        stride=step,
        kernel=weight.shape[2],
        depth=weight.shape[3] * weight.shape[1],
        channels=len(weight),
    )
    return out


def weighed(builder: Builder, op: str, matrix: Tensor, bias: Tensor | None, **facts: Any) -> None:
    """An operation with a matrix of weights, and maybe a bias."""
    b = -1 if bias is None else builder.weight(bias)
    builder.emit(op, **facts, weight=builder.weight(matrix), bias=b)


def _linear(
    builder: Builder, node: Node, x: Value, weight: Tensor, bias: Tensor | None = None
) -> Value:
    x = x if x.view.is_contiguous() else builder.copy(x, rows=True)
    out, (n, k) = builder.new(tuple(node.meta["val"].shape[1:]), rows=True), weight.shape
    weighed(
        builder,
        "conv",
        panels(weight.T),
        bias,
        x=x.at(0, k),
        out=out.at(0, n),
        rows=1,
        columns=math.prod(x.shape[:-1]),
        stride=1,
        kernel=1,
        depth=k,
        channels=n,
    )
    return out


def _conv_transpose2d(
    builder: Builder,
    node: Node,
    x: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    output_padding: Any = (0, 0),
    groups: int = 1,
    dilation: Any = (1, 1),
) -> Value:
    if {*dilation, groups} != {1} or len({*stride}) != 1 or len({*padding}) != 1:
        raise ValueError(f"{builder.module}: conv_transpose2d must have no dilation and no groups")
    x, out = _image(builder, x), made_for(builder, node)
    (c, h, w), (_, n, kernel, _) = x.shape, weight.shape
    if x.strides[1] != w * c:
        x = builder.copy(x)
    every = panels(weight.permute(0, 2, 3, 1).flatten(1))
    weighed(
        builder,
        "spread",
        every,
        bias,
        x=x.at(),
        out=_pixel(out),
        size=[h, w, c],
        into=list(out.shape),
        stride=stride[0],
        padding=padding[0],
        kernel=kernel,
        channels=n,
    )
    return out


def _pixel_unshuffle(builder: Builder, node: Node, x: Value, r: int) -> Value:
    out = made_for(builder, node)
    b, c, h, w = x.view.shape
    parts = x.view.unflatten(3, (w // r, r)).unflatten(2, (h // r, r)).permute(0, 1, 3, 5, 2, 4)
    builder.each(
        "copy", Value(out.view.unflatten(1, (c, r, r)), out.buffer), Value(parts, x.buffer)
    )
    return out


def _pixel_shuffle(builder: Builder, node: Node, x: Value, r: int) -> Value:
    out = made_for(builder, node)
    _, c, h, w = out.view.shape
    parts = out.view.unflatten(3, (w // r, r)).unflatten(2, (h // r, r)).permute(0, 1, 3, 5, 2, 4)
    builder.each("copy", Value(parts, out.buffer), Value(x.view.unflatten(1, (c, r, r)), x.buffer))
    return out


def _upsample_nearest2d(builder: Builder, node: Node, x: Value, *_: Any) -> Value:
    """Each pixel a whole number of times."""
    out = made_for(builder, node)
    h, w = x.shape[1:]
    down, right = out.shape[1] // h, out.shape[2] // w
    if out.shape[1:] != (h * down, w * right):
        raise ValueError(f"{builder.module}: upsampling must be by a whole number")
    parts = out.view.unflatten(3, (w, right)).unflatten(2, (h, down))
    builder.each("copy", Value(parts, out.buffer), Value(x.view[:, :, :, None, :, None], x.buffer))
    return out


class Norm:
    """A group norm that waits for what follows: a scale and a shift, a SiLU; all is one pass."""

    def __init__(self, builder: Builder, x: Value, groups: int, facts: dict[str, Any]) -> None:
        self.builder, self.x, self.facts = builder, x, {"groups": groups, **facts}

    def steered(self, scale: Value, shift: Value) -> Norm:
        for name, value in {"scale": scale, "shift": shift}.items():
            if not isinstance(value, Value) or value.shape != (self.x.shape[0], 1, 1):
                raise ValueError(f"{self.builder.module}: {name} must be one number a channel")
            self.facts[name] = value.at(value.strides[0])
        return self

    def finish(self, out: Value, silu: bool) -> Value:
        c, h, w = self.x.shape
        self.builder.emit(
            "norm", x=_pixel(self.x), out=_pixel(out), size=[h, w, c], act=silu, **self.facts
        )
        return out


def _group_norm(
    builder: Builder,
    node: Node,
    x: Value,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Any:
    if len(x.shape) != 3:
        raise ValueError(f"{builder.module}: group_norm must have images, got {list(x.shape)}")
    affine = {
        k: -1 if v is None else builder.weight(v) for k, v in (("weight", weight), ("bias", bias))
    }
    waiting = Norm(builder, _image(builder, x), groups, {"eps": eps, **affine})
    (user, *others) = node.users
    steers = name(user) == "addcmul" and user.args[1] is node
    if steers and not others:
        (user, *others) = user.users
    if name(user) == "silu" and not others:
        return waiting
    if steers:
        raise ValueError(f"{builder.module}: a scale and a shift must have a SiLU after them")
    return waiting.finish(made_for(builder, node), silu=False)


RULES: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "group_norm": _group_norm,
    "linear": _linear,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "upsample_nearest2d": _upsample_nearest2d,
}
