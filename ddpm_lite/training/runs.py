"""A training run in a folder: checkpoints to go on from, a log, previews, the final model."""

from __future__ import annotations

import json
import subprocess
import time
import warnings
from collections.abc import Generator, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..loss import Draw, Loss
from .checkpoint import CheckpointError, check_fits, load_checkpoint, part_of, save_checkpoint
from .distributed import chief
from .folder import MODEL, check_new, locked, log_line, newest, prune, tidy
from .loop import Log, Players, fastest_precision, train
from .precision import memory_format
from .task import Task

Logs = Generator[tuple[Log, float], None, None]


def run(
    folder: str | Path,
    task: Task,
    device: torch.device | str = "cpu",
    resume: bool = False,
    start: nn.Module | None = None,
) -> Logs:
    """Train ``task`` in ``folder``, yielding (`Log`, seconds of training so far) as `train` does.

    Every ``save_every`` steps a checkpoint is written (the last two are kept) with a preview beside
    it (where that fails, a warning says why), and at the end ``model.safetensors``: the averaged
    weights alone, in float16. A log is yielded before it is written: what the caller does with it
    is done again if the run is killed in between. resume: go on from the newest checkpoint that is
    whole; ``task`` is then the one that it was made with, see `tasks.resumed`. start: begin with
    the weights of this model. Ctrl-C saves the state of the last log, and then goes on as
    KeyboardInterrupt. Raises CheckpointError when the folder holds another run, or none, is in use,
    or cannot be written to.
    """
    folder, device = Path(folder), torch.device(device)
    if resume and start is not None:
        raise ValueError("a run that is resumed has its weights: leave start out")
    with locked(folder):
        if not resume:
            check_new(folder)
        task, state, seconds, step = task.begun(), None, 0.0, 0
        if resume:
            state, facts = newest(folder)
            task = _as_saved(task, facts, folder)
            seconds, step = facts["seconds"], facts["step"]
        if chief():
            tidy(folder, step)
        model, task, batches = _prepared(task, device, state, start)
        yield from _logged(folder, task, train(model, *batches, task.train, state), seconds)
        if chief():
            _finish(folder, task.train.steps)


def _as_saved(task: Task, facts: Mapping[str, Any], folder: Path) -> Task:
    """``task`` with the precision that its run chose; CheckpointError where the run is another."""
    saved, mine = facts.get("config"), json.loads(json.dumps(asdict(task)))
    if not isinstance(saved, dict) or facts.get("kind") != task.kind:
        raise CheckpointError(
            f"{folder} holds a run of kind {facts.get('kind')!r}, not {task.kind}"
        )
    chosen = _flat(saved).get("train.precision")
    if task.train.precision == "auto" and chosen in ("fp32", "bf16"):
        task = replace(task, train=replace(task.train, precision=chosen))
        mine["train"]["precision"] = chosen
    for name, value in _flat(saved).items():
        if value != (now := _flat(mine).get(name)):
            raise CheckpointError(
                f"{folder} holds a run of another configuration ({name} is {value!r}, not "
                f"{now!r}): resume it with its own (tasks.resumed)"
            )
    return task


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one, with names like "train.lr"."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, dict)
        found |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def _prepared(
    task: Task, device: torch.device, state: dict[str, Tensor] | None, start: nn.Module | None
) -> tuple[nn.Module, Task, tuple[Draw, Loss | Players]]:
    """The model before its first step, the task with its precision chosen, and its batches."""
    if state is not None:
        check_fits(task.build, part_of(state, "model."))
    torch.manual_seed(task.train.seed)
    model = task.build().to(device)
    if start is not None:
        _begin(model, start)
    batches = task.batches(device)
    if task.train.precision == "auto":
        chosen = fastest_precision(model, *batches, task.train)
        task = replace(task, train=replace(task.train, precision=chosen))
    layout = memory_format(device, task.train.precision)
    return model.to(memory_format=layout), task, batches  # type: ignore[call-overload]


def _begin(model: nn.Module, start: nn.Module) -> None:
    """Give ``model`` the weights of ``start``. Raises ValueError where they do not fit."""
    if _called(start) != _called(model):
        raise ValueError(f"start must be a {_called(model)}, got a {_called(start)}")
    try:
        check_fits(lambda: model, start.state_dict())
    except CheckpointError as error:
        raise ValueError(f"start does not fit this task's model: {error}") from None
    model.load_state_dict(start.state_dict())


def _called(model: nn.Module) -> str:
    """What a model is; of a Denoiser, also what its network returns."""
    name, output = type(model).__name__, getattr(model, "output", None)
    return f"{name} that returns {output}" if isinstance(output, str) else name


def _logged(folder: Path, task: Task, logs: Any, seconds: float) -> Logs:
    """Yield the logs, and write after each what there is to write."""
    start, last = time.perf_counter() - seconds, None
    try:
        for log in logs:
            seconds = time.perf_counter() - start
            last = (log, seconds, log.state()) if chief() else None
            yield log, seconds
            if last:
                _write(folder, task, *last)
    except KeyboardInterrupt:  # perhaps in the middle of a step, so the weights will not do
        if last:
            tidy(folder, last[0].step - 1)
            _write(folder, task, *last, save=True)
        raise


def _write(
    folder: Path,
    task: Task,
    log: Log,
    seconds: float,
    state: dict[str, Tensor],
    save: bool = False,
) -> None:
    """A line of the log, when it is time a preview, and then or if ``save`` a checkpoint."""
    line = {"step": log.step, "loss": log.loss, "seconds": round(seconds, 1)}
    on_time = log.step % task.save_every == 0 or log.step == task.train.steps
    if on_time:  # first: killed in the middle of it, the step comes again
        try:
            task.preview(log.ema, folder / f"samples-{log.step:07d}")
        except Exception as error:  # whatever it is: a picture is not worth a run
            warnings.warn(f"no preview of step {log.step}: {error}", stacklevel=2)
    log_line(folder, line)
    if save or on_time:
        facts = {"kind": task.kind, "config": asdict(task), "commit": _commit(), **line}
        save_checkpoint(folder / f"checkpoint-{log.step:07d}.safetensors", state, facts)
        prune(folder, log.step)


def _finish(folder: Path, steps: int) -> None:
    """The model, out of the last checkpoint: so a run that was killed right after it can do it."""
    tensors, facts = load_checkpoint(folder / f"checkpoint-{steps:07d}.safetensors")
    save_checkpoint(folder / MODEL, averaged(tensors), facts)


def averaged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint, in float16 where they are real and fit into it."""
    return {k: _half(v) for k, v in part_of(tensors, "ema.").items()}


def _half(v: Tensor) -> Tensor:
    half = v.half() if v.is_floating_point() else v
    return half if half.isfinite().all() else v


@cache
def _commit() -> str | None:
    """The last commit that changed the package, where git knows it."""
    asked = ["git", "-C", str(Path(__file__).parents[1]), "log", "-1", "--format=%h", "--", "."]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return said or None
