"""In which precision the network runs: fp32, or bf16 where the hardware makes that faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from .distributed import agree


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager:
    """Within it the network computes in this precision; the weights stay what they are."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


def fastest(run: Callable[[], object], device: torch.device, repeats: int = 3) -> str:
    """ "fp32" or "bf16", whichever makes ``run()`` faster on this machine.

    bf16 needs hardware (a GPU's tensor cores, a CPU's AMX); without it, it is slower. The global
    random state stays as it is. Under torch.distributed, process 0 decides.
    """
    seconds = {}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # dropout draws from it
        for precision in ("fp32", "bf16"):
            times = []
            for _ in range(1 + repeats):  # the first warms up
                start = time.perf_counter()
                with autocast(device, precision):
                    run()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                times.append(time.perf_counter() - start)
            seconds[precision] = min(times[1:])
    return "bf16" if agree(seconds["bf16"] < seconds["fp32"], device) else "fp32"


def memory_format(device: torch.device | str, precision: str) -> torch.memory_format:
    """The layout for images: channels_last, which convolutions like, but for bf16 on a CPU.

    There GroupNorm is slow in it.
    """
    slow = torch.device(device).type == "cpu" and precision == "bf16"
    return torch.contiguous_format if slow else torch.channels_last
