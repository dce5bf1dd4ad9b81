"""Times that can be compared: measures that take turns, beside the name of the machine."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from common import at_least, command

Key = TypeVar("Key")


def add_timing(parser: argparse.ArgumentParser) -> None:
    """--device, --threads, --digits, --steps and --rounds: what is timed, and on what."""
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=at_least(1), default=torch.get_num_threads())
    parser.add_argument("--digits", type=at_least(1), default=64)
    parser.add_argument("--steps", type=at_least(1), default=50, help="network calls a digit")
    parser.add_argument("--rounds", type=at_least(1), default=5)


def processor(device: str = "cpu") -> str:
    """The CPU's name and the instructions that decide how fast bf16 is; or the GPU's name."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        name = info.split("model name\t: ", 1)[1].split("\n", 1)[0]
        has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in info]
        return f"{name} ({', '.join(has)})"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def timed_by(
    script: str, arguments: Sequence[str] | None, args: argparse.Namespace
) -> dict[str, Any]:
    """What stands beside a time: the line that was typed, the machine, and what was drawn."""
    return {
        "command": command(script, arguments),
        "machine": processor(args.device),
        "device": args.device,
        "threads": args.threads,
        "torch": str(torch.__version__),
        "digits": args.digits,
        "steps": args.steps,
    }


def wait(device: str) -> None:
    """Until the device has done all that it was asked for."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: str = "cpu") -> float:
    """How long ``run()`` takes."""
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def in_rounds(measures: Mapping[Key, Callable[[], float]], rounds: int) -> dict[Key, list[float]]:
    """What each measure returns in each round.

    They take turns, so a busy machine slows all of them alike, and the ratios stay. The round
    before the first warms up.
    """
    found: dict[Key, list[float]] = {name: [] for name in measures}
    for k in range(1 + rounds):
        for name, measure in measures.items():
            value = measure()
            found[name] += [value] if k else []
        print(f"round {k}/{rounds}", flush=True)
    return found


def medians(found: Mapping[Key, Sequence[float]]) -> dict[Key, float]:
    return {name: statistics.median(values) for name, values in found.items()}
