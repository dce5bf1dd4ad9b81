"""What is in the folder of a run, and whether two runs ended alike."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from kinds import KINDS, same_tensors

from ddpm_lite.training import Task, load_checkpoint, run

SHORT = KINDS["line"]  # 6 steps, a checkpoint every 2


def go(folder: Path, task: Task = SHORT, resume: bool | None = None) -> None:
    """Run to the end; by default, resume if there is something to resume from."""
    begun = any(folder.glob("checkpoint-*"))
    for _ in run(folder, task, resume=begun if resume is None else resume):
        pass


def stop_at(folder: Path, step: int, task: Task = SHORT, resume: bool = False) -> Iterator:
    """Run until the caller has the log of this step, and go away; returns the running run."""
    running = run(folder, task, resume=resume)
    for log, _ in running:
        if log.step == step:
            return running
    raise AssertionError(f"no step {step}")


def logged(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def steps_in(folder: Path) -> list[int]:
    """Of its checkpoints."""
    names = [path.stem for path in folder.glob("checkpoint-*.safetensors")]
    return sorted(int(name.removeprefix("checkpoint-")) for name in names)


def check_same(folder: Path, whole: Path) -> None:
    """Bit for bit the same tensors and log, and no file more."""
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}
    assert logged(folder) == logged(whole)
    for path in whole.glob("*.safetensors"):
        a, b = load_checkpoint(folder / path.name), load_checkpoint(path)
        assert same_tensors(a.tensors, b.tensors), path.name
        timeless = [{**facts, "seconds": 0} for facts in (a.facts, b.facts)]
        assert timeless[0] == timeless[1]


def nothing_half(folder: Path) -> bool:
    """No half file, and no lock."""
    return not list(folder.glob(".*"))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "model.safetensors").tensors
