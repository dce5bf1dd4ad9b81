"""How each operation of torch.export becomes operations of `runner.js`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.fx import Node

from . import images
from .images import Norm, made_for
from .program import Builder, Value

# They only look at the same numbers in another way.
RESHAPES = {"flatten", "reshape", "view", "unflatten"}
SAME = {"to", "detach_", "detach", "contiguous", "dropout", "clone", "alias"}
SLICES = {"unsqueeze", "squeeze", "chunk", "split", "mT", "transpose", "permute", "slice", "select"}
VIEWS = RESHAPES | SAME | SLICES


def flat(nested: Any) -> list[Any]:
    """All that is in tuples, lists and dictionaries."""
    if isinstance(nested, Value) or not isinstance(nested, tuple | list | dict):
        return [nested]
    items = nested.values() if isinstance(nested, dict) else nested
    return [leaf for item in items for leaf in flat(item)]


def viewed(builder: Builder, name: str, node: Node, x: Value, *args: Any, **kwargs: Any) -> Any:
    """A view of x; a copy only where no strides can tell it."""
    if name in SAME:
        return x
    if name in RESHAPES:
        shape = node.meta["val"].shape
        try:
            return Value(x.view.view(shape), x.buffer)
        except RuntimeError:
            x = builder.copy(x, rows=True)
            return Value(x.view.view(shape), x.buffer)
    found = node.target(x.view, *args, **kwargs)  # type: ignore[operator]
    if isinstance(found, Tensor):
        return Value(found, x.buffer)
    return tuple(Value(part, x.buffer) for part in found)


# ---- number by number ----------------------------------------------------------------------------


def _each(fn: str) -> Callable[..., Value]:
    def rule(builder: Builder, node: Node, *values: Any, **kwargs: Any) -> Value:
        if kwargs or any(isinstance(v, str) for v in values):
            raise ValueError(f"{node.target} (in {builder.module}): the runner takes no {kwargs}")
        if fn == "silu" and isinstance(values[0], Norm):
            return values[0].finish(made_for(builder, node), silu=True)
        if fn == "addcmul" and isinstance(values[1], Norm):
            return values[1].steered(values[2], values[0])  # type: ignore[return-value]
        out = made_for(builder, node)
        builder.each(fn, out, *values)
        return out

    return rule


def _cat(builder: Builder, node: Node, values: list[Value], dim: int = 0) -> Value:
    out, start = made_for(builder, node), 0
    for value in values:
        length = value.view.shape[dim]
        builder.each("copy", Value(out.view.narrow(dim, start, length), out.buffer), value)
        start += length
    return out


# ---- the others ----------------------------------------------------------------------------------


def _matmul(builder: Builder, node: Node, a: Value, b: Value) -> Value:
    """[M, K] times [K, N], of each sample."""
    if not (isinstance(a, Value) and isinstance(b, Value) and len(a.shape) == len(b.shape) == 2):
        raise ValueError(f"{builder.module}: matmul must have two matrices a sample")
    a = a if a.strides[1] == 1 else builder.copy(a, rows=True)
    out = builder.new((a.shape[0], b.shape[1]))
    builder.emit(
        "matmul",
        a=a.at(a.strides[0]),
        b=b.at(*b.strides),
        out=out.at(b.shape[1]),
        size=[*a.shape, b.shape[1]],
    )
    return out


def _softmax(builder: Builder, node: Node, x: Value, dim: int, *_: Any) -> Value:
    if dim % x.view.ndim != x.view.ndim - 1:
        raise ValueError(f"{builder.module}: softmax must be along the last dimension, got {dim}")
    out = builder.copy(x, rows=True)
    n = out.shape[-1]
    builder.emit("softmax", out=out.at(), size=[math.prod(out.shape) // n, n])
    return out


def _embedding(builder: Builder, node: Node, weight: Tensor, index: Value, *_: Any) -> Value:
    if index.shape:
        raise ValueError(f"{builder.module}: embedding must have one index a sample")
    rows, n = weight.shape
    out = builder.new((n,))
    builder.emit(
        "embedding", index=index.at(), out=out.at(), size=[rows, n], weight=builder.weight(weight)
    )
    return out


_FUNCTIONS = (
    "add",
    "sub",
    "mul",
    "div",
    "addcmul",
    "silu",
    "tanh",
    "sigmoid",
    "relu",
    "sin",
    "cos",
)
RULES: dict[str, Callable[..., Any]] = (
    {fn: _each(fn) for fn in _FUNCTIONS}
    | images.RULES
    | {
        "cat": _cat,
        "embedding": _embedding,
        "matmul": _matmul,
        "softmax": _softmax,
    }
)
