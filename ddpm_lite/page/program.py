"""A program for `runner.js` while it is made: buffers, weights, operations over them.

A buffer holds one sample's floats; buffer 0 holds the constants. A `Value` is a
tensor that lies in a buffer with strides, so a view (a slice, a transposition) costs no operation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

BATCH = 2  # of the tensors that stand for values; the runner takes sample after sample


class Value(NamedTuple):
    """view: on the device "meta", [BATCH, ...]: shape, strides and offset; the floats lie in
    ``buffer``, with ``margin`` rows and columns of zeros around an image."""

    view: Tensor
    buffer: int
    margin: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.view.shape[1:])

    @property
    def strides(self) -> tuple[int, ...]:
        return self.view.stride()[1:]

    def at(self, *strides: int) -> list[int]:
        """The value as the runner reads it: [buffer, offset, *strides]."""
        return [self.buffer, int(self.view.storage_offset()), *strides]


class Exported(NamedTuple):
    """program: for JSON; weights: float16, little-endian."""

    program: dict[str, Any]
    weights: bytes


@dataclass
class Builder:
    """Collects a program's operations, the sizes of its buffers, its weights and constants."""

    operations: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=lambda: [0])
    weights: list[np.ndarray] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    module: str = ""  # where the operation comes from

    def emit(self, op: str, **facts: Any) -> None:
        self.operations.append({"op": op, **facts, "module": self.module})

    def new(self, shape: tuple[int, ...], margin: int = 0, rows: bool = False) -> Value:
        """A buffer for [*shape]; images [C, H, W] lie with the channels last, unless ``rows``."""
        if len(shape) != 3 or rows:
            view = torch.empty(BATCH, *shape, device="meta")
        else:
            c, h, w = shape
            whole = torch.empty(BATCH, h + 2 * margin, w + 2 * margin, c, device="meta")
            view = whole.permute(0, 3, 1, 2)[:, :, margin : margin + h, margin : margin + w]
        self.sizes.append(view.stride(0))
        return Value(view, len(self.sizes) - 1, margin)

    def copy(self, value: Value, margin: int = 0, rows: bool = False) -> Value:
        """The same numbers in a buffer of their own."""
        out = self.new(value.shape, margin, rows)
        self.each("copy", out, value)
        return out

    def each(self, fn: str, out: Value, *values: Value | Tensor | float) -> None:
        """out = fn(values), number by number; they are broadcast to the shape of ``out``."""
        operands = [out, *(v if isinstance(v, Value) else self.constant(v) for v in values)]
        views = [v.view.expand(out.view.shape) for v in operands]
        sizes, strides = _loops(list(out.shape), [list(v.stride()[1:]) for v in views])
        places = [v.at(*s) for v, s in zip(operands, strides, strict=True)]
        self.emit("each", fn=fn, sizes=sizes, out=places[0], **{"in": places[1:]})

    def constant(self, number: Tensor | float) -> Value:
        """Numbers that are no weights of the network, kept as they are: [1, ...] in buffer 0."""
        values = torch.as_tensor(number, dtype=torch.float32)
        values = values.reshape(values.shape or (1,))
        shape, start = values.shape, len(self.constants)
        self.constants += values.flatten().tolist()
        whole = torch.empty(start + values.numel(), device="meta")
        return Value(whole[start:].view(shape), 0)

    def weight(self, values: Tensor) -> int:
        """Keep these numbers as float16; returns where they begin."""
        start = sum(v.size for v in self.weights)
        kept = values.detach().cpu().float().numpy().ravel().astype(np.float16)
        if not np.isfinite(kept).all():
            raise ValueError(f"{self.module}: weights must be finite and below 65504 for float16")
        self.weights.append(kept)
        return start

    def finish(self, inputs: dict[str, Value], out: Value) -> Exported:
        """The program as JSON takes it, and the blob of its weights."""
        out = out if out.view.is_contiguous() else self.copy(out, rows=True)
        blob = np.concatenate([np.zeros(0, np.float16), *self.weights]).astype("<f2")
        program = {
            "inputs": {k: list(v.shape) for k, v in inputs.items()},
            "places": {k: v.buffer for k, v in inputs.items()},
            "output": {"buffer": out.buffer, "shape": list(out.shape)},
            "buffers": [0, *self.sizes[1:]],
            "weights": blob.size,
            "constants": self.constants,
            "operations": self.operations,
        }
        return Exported(program, blob.tobytes())


def _loops(sizes: list[int], strides: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """The fewest nested loops over these sizes: sorted as the first operand lies, and merged."""
    order = sorted(range(len(sizes)), key=lambda i: -strides[0][i])
    found: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for i in [i for i in order if sizes[i] > 1]:
        if found and all(s[-1] == own[i] * sizes[i] for s, own in zip(steps, strides, strict=True)):
            found[-1] *= sizes[i]
            for s, own in zip(steps, strides, strict=True):
                s[-1] = own[i]
            continue
        found.append(sizes[i])
        for s, own in zip(steps, strides, strict=True):
            s.append(own[i])
    return found or [1], [s or [1] for s in steps]
