"""What public doors check: times, samples and labels.

Shapes and dtypes are always checked. Values are checked where reading them is free, on a CPU tensor
outside tracing: on a device each read is a wait for all that runs there, and in a compiled graph it
is a break.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def readable(x: Tensor) -> bool:
    """Whether looking at the values of x costs nothing: it is on the CPU, and nothing is traced."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def check_times(
    t: Tensor, T: int, like: Tensor, first: int = 1, name: str = "t", real: bool = False
) -> None:
    """Raise TypeError or ValueError unless t is int64 [B] in first..T and ``like`` is [B, *D].

    name: what the message calls t; real: a floating-point t in (0, T] will do too ([0, T] if first
    is 0).
    """
    real = real and isinstance(t, Tensor) and t.is_floating_point()
    if not isinstance(t, Tensor) or not (real or t.dtype == torch.int64):
        remedy = f"{name}.long()" if isinstance(t, Tensor) else f"torch.full((B,), {name})"
        raise TypeError(f"{name} must be an int64 tensor of shape [B], got {kind(t)}: use {remedy}")
    if like.ndim == 0 or t.shape != like.shape[:1]:
        raise ValueError(
            f"{name} must have one entry per sample, shape [B]: "
            f"{name} is {list(t.shape)}, the batch {list(like.shape)}"
        )
    if t.shape[0] == 0:  # len(t) would tie an exported graph to one size
        raise ValueError(f"the batch is empty: {name} has no entries")
    if not readable(t):
        return
    low = (t > 0 if real and first else t >= first).all()  # NaN fails too
    if not low or not (t <= T).all():
        why = " (t = 0 is clean data: nothing to denoise)" if first == 1 and t.min() == 0 else ""
        span = f"{'(' if first else '['}0, {T}]" if real else f"{first}..{T}"
        raise ValueError(f"{name} must lie in {span}, got {extent(t)}{why}")


def check_samples(**samples: Tensor) -> None:
    """Raise TypeError or ValueError unless all are finite floating-point tensors of one shape.

    Whether they are finite is looked at where they are `readable`.
    """
    shape = None
    for name, x in samples.items():
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(
                f"{name} must be a floating-point tensor, got {kind(x)}: convert it first"
            )
        if shape is not None and x.shape != shape[1]:
            raise ValueError(
                f"{name} must have the shape of {shape[0]}, {list(shape[1])}, got {list(x.shape)}"
            )
        if readable(x):
            check_finite(name, x)
        shape = shape or (name, x.shape)


def check_batch(**samples: Tensor) -> None:
    """As `check_samples`, and each must be a batch [B, *D] with B >= 1."""
    check_samples(**samples)
    for name, x in samples.items():
        if x.ndim == 0 or x.shape[0] == 0:
            raise ValueError(f"{name} must be a batch [B, *D] with B >= 1, got {list(x.shape)}")


def check_finite(name: str, x: Tensor) -> None:
    """Raise ValueError where x holds NaN or infinity; reads the values, wherever they are."""
    if not x.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinity: look at what made it")


def check_labels(y: Tensor, batch: int, classes: int, name: str = "y", look: bool = False) -> None:
    """Raise ValueError unless y is int64 [batch] in 0..classes - 1.

    The values are looked at where they are `readable`, or anywhere with ``look``.
    """
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (batch,):
        got = f"{y.dtype} {list(y.shape)}" if isinstance(y, Tensor) else kind(y)
        raise ValueError(f"{name} must be int64 [B] = [{batch}], got {got}")
    if batch and (look or readable(y)) and not (0 <= y.min() and y.max() < classes):
        raise ValueError(f"{name} must lie in 0..{classes - 1}, got {extent(y)}")


def check_real(**tensors: Tensor) -> None:
    """Raise TypeError unless all are float32 or float64: in half precision a sum would drift."""
    for name, x in tensors.items():
        if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} must be float32 or float64, got {kind(x)}: use {name}.float()")


def check_slope(field: Callable[[Tensor], Tensor], x: Tensor, value: Tensor) -> None:
    """Raise ValueError where value = field(x) moves with x, but autograd does not see it.

    So it is where the field runs under `torch.no_grad` or `torch.inference_mode`: a divergence
    would come out without its part. Looks only where a gradient by x is asked for.
    """
    asked = x.requires_grad and torch.is_grad_enabled()
    if asked and not value.requires_grad and not torch.equal(field(x.detach() + 0.1), value):
        raise ValueError(
            "the model must be differentiable, but autograd sees no slope: call it without "
            "torch.no_grad, torch.inference_mode or detach"
        )


def kind(x: object) -> str:
    """What x is, for a message."""
    return f"a {x.dtype} tensor" if isinstance(x, Tensor) else type(x).__name__


def extent(t: Tensor) -> str:
    """The values of t, for a message."""
    low, high = t.min().item(), t.max().item()
    return f"values from {low:g} to {high:g}" if low < high else f"{low:g}"
