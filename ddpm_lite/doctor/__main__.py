"""The command: python -m ddpm_lite.doctor FILE.py | CHECKPOINT."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..data import mnist, to_unit
from ..tasks import load_pretrained
from ..training import CheckpointError
from . import PARTS, Program, diagnose


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was looked at and what was found; 1 if something was, 2 if it cannot be tested."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1 or given[0] in ("-h", "--help"):
        print("usage: python -m ddpm_lite.doctor FILE.py | CHECKPOINT\n")
        print("FILE.py makes a ddpm_lite.doctor.Program and names it `program`.")
        return 0 if given and given[0] in ("-h", "--help") else 2
    try:
        program = _from_file(Path(given[0])) if given[0].endswith(".py") else _digits(given[0])
        findings = diagnose(program)
    except (OSError, ValueError, TypeError, CheckpointError) as error:
        print(f"cannot be tested: {error}", file=sys.stderr)
        return 2
    looked_at = [p for p in PARTS if p == "times" or getattr(program, p) is not None]
    print(f"looked at: {', '.join(looked_at)}")
    for name, says in findings:
        print(f"{name}: {says}")
    print(f"{len(findings)} found" if findings else "nothing found")
    return int(bool(findings))


def _from_file(path: Path) -> Program:
    """The `program` that a file makes."""
    program = runpy.run_path(str(path)).get("program")
    if program is None:
        raise ValueError(f"{path} must name its Program `program`")
    return program


def _digits(name: str) -> Program:
    """A model of digits: its own schedule, and the network itself, read as eps."""
    model = load_pretrained(name)
    schedule = getattr(model, "schedule", None)
    if schedule is None:
        raise ValueError(
            f"{name} is no diffusion model of images: for other parts write a file (--help)"
        )
    images, labels = mnist("test")

    def scales(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return schedule.alpha_bar[t].sqrt(), (1 - schedule.alpha_bar[t]).sqrt()

    return Program(
        scales,
        torch.arange(1, schedule.T + 1),
        network=model,
        images=to_unit(images[:500])[:, None],
        labels=labels[:500],
        limit=1.0,
    )


if __name__ == "__main__":
    sys.exit(main())
