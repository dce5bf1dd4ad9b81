"""What is wrong with a diffusion program: cheap tests of its parts, by denoisers known exactly.

    python -m ddpm_lite.doctor FILE.py       a file that makes a `Program` and names it `program`
    python -m ddpm_lite.doctor CHECKPOINT    a network that came with the package, or was trained

The tests need no data and no training: the denoiser of a single point is one line, and every right
sampler returns that point. They hold for any convention, since the program says how much signal
and noise there is at what its model is told (chapter 23).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from .functions import of_the_loss, of_the_sampler, of_times
from .models import of_guidance, of_hidden_labels, of_images, of_the_network
from .program import Finding, Program

PARTS: dict[str, Callable[[Program], Iterator[Finding]]] = {
    "times": of_times,
    "loss": of_the_loss,
    "sample": of_the_sampler,
    "network": of_the_network,
    "guided": of_guidance,
    "images": of_images,
    "hide": of_hidden_labels,
}


def diagnose(program: Program) -> list[Finding]:
    """What is wrong with the parts that are given: at most one finding a part, [] if all pass.

    Draws from torch's global generator, whose state it leaves as it was.
    """
    _check(program)
    findings: list[Finding] = []
    for given, look in PARTS.items():
        if given == "times" or getattr(program, given) is not None:
            with torch.random.fork_rng([]), torch.no_grad():
                torch.manual_seed(0)
                findings += [found] if (found := next(look(program), None)) else []
    return findings


def _check(program: Program) -> None:
    """Raise TypeError or ValueError where a program cannot be tested."""
    if not isinstance(program, Program):
        raise TypeError(f"program must be a doctor.Program, got {type(program).__name__}")
    if program.output not in ("eps", "x_0", "v"):
        raise ValueError(f'output must be "eps", "x_0" or "v", got {program.output!r}')
    times = program.times
    if not isinstance(times, torch.Tensor) or times.ndim != 1 or len(times) < 2:
        raise ValueError("times must be a tensor [n], n >= 2: all that the model may be told")
    try:
        signal, noise = program.scales(times)
        wrong = signal.shape != times.shape or noise.shape != times.shape
    except (TypeError, ValueError, AttributeError):
        wrong = True
    if wrong:
        raise ValueError("scales must take t [n] to signal and noise, two tensors [n]")


__all__ = ["PARTS", "Finding", "Program", "diagnose"]
