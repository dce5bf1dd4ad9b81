"""A training run in a folder: checkpoints to go on from, a log, previews, the final model."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import subprocess
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import PREFIX, SUFFIX, write_whole
from .checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from .distributed import chief
from .loop import Log, fastest_precision, train
from .precision import memory_format
from .task import Task

LOG, LOCK, MODEL = "log.jsonl", ".ddpm-lite-lock", "model.safetensors"
_CHECKPOINT = re.compile(r"checkpoint-(\d{7,})\.safetensors")


def run(
    folder: str | Path,
    task: Task,
    device: torch.device | str = "cpu",
    resume: bool = False,
    start: nn.Module | None = None,
) -> Generator[tuple[Log, float], None, None]:
    """Train ``task`` in ``folder``, yielding (`Log`, seconds of training so far) as `train` does.

    Every ``save_every`` steps a checkpoint is written (the last two are kept) with a preview beside
    it, and at the end ``model.safetensors``: the averaged weights alone, in float16. A log is
    yielded before it is written: what the caller does with it is done again if the run is killed in
    between. resume: go on from the newest checkpoint that is whole; ``task`` is then the one that
    it was made with, see `tasks.resumed`. start: begin with the weights of this model. Ctrl-C saves
    the state of the last log, and then goes on as KeyboardInterrupt. Raises CheckpointError when
    the folder holds another run, or none, or cannot be written to.
    """
    folder = Path(folder)
    with _locked(folder):
        state, seconds, step = None, 0.0, 0
        if resume:
            state, facts = newest(folder)
            seconds, step = facts["seconds"], facts["step"]
        elif found := [f.name for f in (*checkpoints(folder), folder / MODEL) if f.exists()]:
            raise CheckpointError(
                f"{folder} holds a run already ({found[0]}): resume it, or choose another folder"
            )
        elif (folder / LOG).exists() and (folder / LOG).stat().st_size:
            raise CheckpointError(
                f"{folder} holds the {LOG} of a run that stopped before its first checkpoint, or "
                "somebody else's: remove it, or choose another folder"
            )
        if chief():
            _tidy(folder, step)
        model, task = _prepared(task, torch.device(device), start)
        yield from _logged_run(folder, task, model, torch.device(device), state, seconds)


def _prepared(task: Task, device: torch.device, start: nn.Module | None) -> tuple[nn.Module, Task]:
    """The model before its first step, and the task with its precision chosen."""
    torch.manual_seed(task.train.seed)
    model = task.build().to(device)
    if start is not None:
        model.load_state_dict(start.state_dict())
    if task.train.precision == "auto":
        chosen = fastest_precision(model, *task.batches(device), task.train)
        task = replace(task, train=replace(task.train, precision=chosen))
    layout = memory_format(device, task.train.precision)
    return model.to(memory_format=layout), task  # type: ignore[call-overload]


def _logged_run(
    folder: Path,
    task: Task,
    model: nn.Module,
    device: torch.device,
    state: dict[str, Tensor] | None,
    seconds: float,
) -> Generator[tuple[Log, float], None, None]:
    """Yield the logs, and write after each what there is to write."""
    start, last = time.perf_counter() - seconds, None
    try:
        for log in train(model, *task.batches(device), task.train, state):
            seconds = time.perf_counter() - start
            last = (log, seconds, log.state()) if chief() else None
            yield log, seconds
            if last:
                _write(folder, task, *last)
    except KeyboardInterrupt:  # perhaps in the middle of a step, so the weights will not do
        if last:
            _tidy(folder, last[0].step - 1)
            _write(folder, task, *last, save=True)
        raise
    if chief():
        _finish(folder, task.train.steps)


def newest(folder: str | Path) -> Checkpoint:
    """The newest checkpoint in ``folder`` that can be read; a damaged one is passed over, with a
    warning. Raises CheckpointError where there is none."""
    problems = []
    for path in reversed(checkpoints(Path(folder))):
        try:
            found = load_checkpoint(path)
            step, seconds = found.facts.get("step"), found.facts.get("seconds")
            if not isinstance(step, int) or not isinstance(seconds, int | float):
                raise CheckpointError(f"{path} does not say its step and seconds")
        except CheckpointError as error:
            problems.append(str(error))
        else:
            for problem in problems:
                warnings.warn(f"{problem}: going on from {path.name}", stacklevel=2)
            return found
    raise CheckpointError("\n".join([f"nothing to resume from in {folder}", *problems]))


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first; files with other names are not ours."""
    return sorted(p for p in folder.glob("checkpoint-*") if _CHECKPOINT.fullmatch(p.name))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One run a folder; the lock goes with the process, however it ends."""
    if not chief():
        yield
        return
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write in {folder}: {error.strerror}") from error
    with file:
        if not _lock(file):
            file.seek(0)
            raise CheckpointError(
                f"{folder} is in use by another run ({file.read().strip()}): wait for it, stop it, "
                "or choose another folder"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(file: Any) -> bool:
    """Take the lock on an open file, if nobody has it."""
    try:
        import fcntl
    except ImportError:  # not on Windows: there two runs in one folder are not noticed
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _write(
    folder: Path,
    task: Task,
    log: Log,
    seconds: float,
    state: dict[str, Tensor],
    save: bool = False,
) -> None:
    """One line of the log and, when it is time or ``save`` is asked for, checkpoint and preview."""
    line = {"step": log.step, "loss": log.loss, "seconds": round(seconds, 1)}
    try:
        with open(folder / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"cannot write the log in {folder}: {error.strerror}; free some space and resume"
        ) from error
    on_time = log.step % task.save_every == 0 or log.step == task.train.steps
    if save or on_time:
        facts = {"kind": task.kind, "config": asdict(task), "commit": _commit(), **line}
        save_checkpoint(folder / f"checkpoint-{log.step:07d}.safetensors", state, facts)
        _prune(folder, log.step)
    if on_time:
        try:
            task.preview(log.ema, folder / f"samples-{log.step:07d}")
        except OSError as error:
            warnings.warn(f"no preview of step {log.step}: {error}", stacklevel=2)


def _finish(folder: Path, steps: int) -> None:
    """The model, out of the last checkpoint: so a run that was killed right after it can do it."""
    tensors, facts = load_checkpoint(folder / f"checkpoint-{steps:07d}.safetensors")
    save_checkpoint(folder / MODEL, averaged(tensors), facts)


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint, in float16 where they are real."""
    ours = {k.removeprefix("ema."): v for k, v in tensors.items() if k.startswith("ema.")}
    return {k: v.half() if v.is_floating_point() else v for k, v in ours.items()}


def _prune(folder: Path, step: int) -> None:
    """Keep the last two checkpoints up to ``step``: later ones, if any, are damaged."""
    upto = [path for path in checkpoints(folder) if _step(path) <= step]
    for old in upto[:-2]:
        old.unlink()


def _step(path: Path) -> int:
    found = _CHECKPOINT.fullmatch(path.name)
    return int(found[1]) if found else -1


def _tidy(folder: Path, step: int) -> None:
    """Before going on from ``step``: away with half files of a killed run, and later logs."""
    _prune(folder, step)
    for half in folder.glob(f"{PREFIX}*{SUFFIX}"):
        half.unlink()
    log = folder / LOG
    if log.exists():
        kept = [line for line in log.read_bytes().splitlines(True) if _logged(line) <= step]
        write_whole(log, b"".join(kept))


def _logged(line: bytes) -> float:
    """The step of a line of the log; infinity where the line is torn."""
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else math.inf
    except (KeyError, TypeError, ValueError):
        return math.inf


def _commit() -> str | None:
    """The commit of the code, where git knows it."""
    here = Path(__file__).parent
    try:
        asked = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
