"""The folder of a run: one run at a time, its checkpoints and its log; all else is left alone."""

from __future__ import annotations

import json
import math
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files import PREFIX, SUFFIX, write_whole
from .checkpoint import Checkpoint, CheckpointError, checkpoints, load_checkpoint, step_of
from .distributed import chief

LOG = "log.jsonl"
LOCK = ".ddpm-lite-lock"
MODEL = "model.safetensors"


def newest(folder: str | Path) -> Checkpoint:
    """The newest checkpoint in ``folder`` that can be read; a damaged one is passed over, with a
    warning. Raises CheckpointError where there is none."""
    problems = []
    for path in reversed(checkpoints(Path(folder))):
        try:
            found = load_checkpoint(path)
            step, seconds = found.facts.get("step"), found.facts.get("seconds")
            if type(step) is not int or step != step_of(path):
                raise CheckpointError(f"{path} is of step {step!r}, not of that in its name")
            if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:  # type: ignore[operator]
                raise CheckpointError(f"{path} took {seconds!r} seconds, which is no time")
        except CheckpointError as error:
            problems.append(str(error))
        else:
            for problem in problems:
                warnings.warn(f"{problem}: going on from {path.name}", stacklevel=2)
            return found
    raise CheckpointError("\n".join([f"nothing to resume from in {folder}", *problems]))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
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
        if not _lock(file, path):
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


def _lock(file: Any, path: Path) -> bool:
    """Take the lock on an open file, if nobody has it and nobody has just removed it."""
    try:
        import fcntl
    except ImportError:  # not on Windows: there two runs in one folder are not noticed
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems have no locks
        return True
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def check_new(folder: Path) -> None:
    """Raise CheckpointError where the folder holds a run, or a log that is not ours.

    A log alone is of a run that was killed before its first checkpoint: of no use to anybody.
    """
    if found := [*checkpoints(folder), *folder.glob(MODEL)]:
        raise CheckpointError(
            f"{folder} holds a run already ({found[0].name}): resume it, or choose another folder"
        )
    if any(_logged(line) < 0 and not _torn(line) for line in _lines(folder)):
        raise CheckpointError(
            f"{folder} holds a {LOG} that no run of ddpm_lite wrote: choose another folder"
        )


def tidy(folder: Path, step: int) -> None:
    """Before going on from ``step``: away with half files of a killed run, and later logs."""
    prune(folder, step)
    for half in folder.glob(f"{PREFIX}*{SUFFIX}"):
        half.unlink(missing_ok=True)
    lines = _lines(folder)
    kept = [line for line in lines if 0 <= _logged(line) <= step]
    if kept != lines:
        _write_log(folder, lambda path: write_whole(path, b"".join(kept)))


def prune(folder: Path, step: int) -> None:
    """Keep the last two checkpoints up to ``step``: later ones, if any, are damaged."""
    for old in [path for path in checkpoints(folder) if step_of(path) <= step][:-2]:
        old.unlink(missing_ok=True)


def log_line(folder: Path, facts: dict[str, Any]) -> None:
    """Append a line to the log. Raises CheckpointError where the disk refuses."""

    def append(path: Path) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")

    _write_log(folder, append)


def _write_log(folder: Path, write: Any) -> None:
    try:
        write(folder / LOG)
    except OSError as error:
        raise CheckpointError(
            f"cannot write the log in {folder}: {error.strerror}; free some space and resume"
        ) from error


def _lines(folder: Path) -> list[bytes]:
    """The lines of the log, the last perhaps torn."""
    log = folder / LOG
    return log.read_bytes().splitlines(True) if log.exists() else []


def _logged(line: bytes) -> float:
    """The step of a line of our log; -1 where it is torn, or not ours."""
    try:
        facts = json.loads(line) if line.endswith(b"\n") else {}
        ours = facts.keys() == {"step", "loss", "seconds"} and type(facts["step"]) is int
    except (AttributeError, RecursionError, ValueError):
        return -1
    return facts["step"] if ours else -1


def _torn(line: bytes) -> bool:
    """Whether this is the beginning of a line of ours."""
    start = b'{"step": '
    return not line.endswith(b"\n") and line[: len(start)] == start[: len(line)]
