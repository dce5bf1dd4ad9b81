"""A run that is killed wherever it may be goes on as if nothing had been."""

import os
import random
import shutil
import signal
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from children import fork, in_parent, wait
from folders import SHORT, check_same, go, logged, nothing_half, steps_in, stop_at
from kinds import KINDS, Adversaries, with_train

from ddpm_lite.training import Task, loop, newest, run

room = import_module("ddpm_lite.training.runs")


def long(kind: str) -> Task:
    task = with_train(KINDS[kind], steps=16, warmup=4)
    quick = {"T": 2} if kind == "digits" else {}  # so the previews are
    return replace(task, save_every=4, **quick)


def kill_at_random(folder: Path, kind: str, kills: int) -> list[str]:
    """Run again and again, killed at random moments, every third time in the middle of the next
    checkpoint (if it is still seen there); returns the folders of the ended runs."""
    moments, ended = random.Random(0), []
    start = time.perf_counter()
    assert wait(fork(go, folder / "whole", long(kind))) == [0]
    seconds = time.perf_counter() - start
    while kills:
        ended.append(f"killed-{len(ended)}")
        code = -signal.SIGKILL
        while code:
            process = fork(go, folder / ended[-1], long(kind))
            if kills:
                time.sleep(moments.uniform(0, 0.4 * seconds))
                late = time.perf_counter() + 0.2 * seconds
                while kills % 3 == 0 and time.perf_counter() < late:
                    if any((folder / ended[-1]).glob(".*.tmp")):
                        break
                os.kill(process, signal.SIGKILL)
            (code,) = wait(process)
            assert code in (0, -signal.SIGKILL)
            kills -= code != 0
    return ended


@pytest.mark.parametrize("kind", ["digits", "classifier", "adversaries"])
def test_killed_at_20_random_moments_it_ends_with_the_same_bits(tmp_path, kind):
    for name in in_parent(kill_at_random, tmp_path, kind, 20):
        check_same(tmp_path / name, tmp_path / "whole")
    assert [step for step, _ in logged(tmp_path / "whole")] == list(range(1, 17))


def die(*args: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def halve(descriptor: int) -> None:
    """In place of os.fsync: only half of the file has come to the disk."""
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    die()


# Where, from which step on, what it does there; the checkpoints and half files that it leaves.
WORST = {
    "before the first checkpoint": (room, "save_checkpoint", 1, die, [], 0),
    "half a checkpoint is written": (os, "fsync", 4, halve, [2], 1),
    "it has no name yet": (os, "replace", 4, die, [2], 1),
    "the old one is not yet removed": (room, "prune", 6, die, [2, 4, 6], 0),
    "the preview is being drawn": (type(SHORT), "preview", 4, die, [2], 0),
    "the model is not yet written": (room, "_finish", 6, die, [4, 6], 0),
}


def die_at(folder: Path, where: str) -> None:
    owner, name, step, deed, *_ = WORST[where]
    for log, _ in run(folder, SHORT):
        if log.step == step:
            setattr(owner, name, deed)


def kill_at_worst(folder: Path) -> None:
    """Kill a run at each of the worst moments, copy what it left, and resume it."""
    assert wait(fork(go, folder / "whole", SHORT)) == [0]
    for where in WORST:
        assert wait(fork(die_at, folder / where, where)) == [-signal.SIGKILL]
        shutil.copytree(folder / where, folder / f"{where}, as left")
        assert wait(fork(go, folder / where, SHORT)) == [0]


def test_killed_at_the_worst_moments_it_ends_with_the_same_bits(tmp_path):
    in_parent(kill_at_worst, tmp_path)
    for where, (*_, checkpoints, halves) in WORST.items():
        left = tmp_path / f"{where}, as left"
        assert steps_in(left) == checkpoints, where
        assert len(list(left.glob(".*.tmp"))) == halves, where
        check_same(tmp_path / where, tmp_path / "whole")


def test_what_the_caller_does_with_a_log_is_done_before_the_log_is_written(tmp_path):
    """So a caller's own pictures are never missing: stopped in between, the step comes again."""
    stop_at(tmp_path, 4).close()
    assert [log.step for log, _ in run(tmp_path, SHORT, resume=True)] == [3, 4, 5, 6]
    assert [step for step, _ in logged(tmp_path)] == [1, 2, 3, 4, 5, 6]


# ---- Ctrl-C --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ended")
    go(folder)
    return folder


def interrupt(*args: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", [3, 4])
def test_ctrl_c_while_the_caller_has_the_log_saves_its_state(tmp_path, ended, step):
    running = stop_at(tmp_path, step)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt)
    assert newest(tmp_path).facts["step"] == step == logged(tmp_path)[-1][0]
    assert nothing_half(tmp_path)
    go(tmp_path, resume=True)
    if step == 3:
        assert (tmp_path / "checkpoint-0000004.safetensors").exists()
    check_same(tmp_path, ended)


@pytest.mark.parametrize("place", ["update", "average", "log"])
def test_ctrl_c_in_the_middle_of_a_step_saves_the_state_of_the_last_log(
    tmp_path, ended, monkeypatch, place
):
    """The weights may be new there, and the averages not."""
    running = stop_at(tmp_path, 3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Training, place, interrupt)
        next(running)
    assert newest(tmp_path).facts["step"] == 3 == logged(tmp_path)[-1][0]
    assert nothing_half(tmp_path)
    go(tmp_path, resume=True)
    check_same(tmp_path, ended)


@pytest.mark.parametrize("place", ["save_checkpoint", "prune", "log_line"])
def test_ctrl_c_while_a_checkpoint_is_written_writes_it(tmp_path, ended, monkeypatch, place):
    running = stop_at(tmp_path, 4)
    was, calls = getattr(room, place), iter([interrupt])  # once
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(room, place, lambda *a: next(calls, was)(*a))
        next(running)
    assert newest(tmp_path).facts["step"] == 4 == logged(tmp_path)[-1][0]
    assert nothing_half(tmp_path)
    go(tmp_path, resume=True)
    check_same(tmp_path, ended)


def test_ctrl_c_before_the_first_log_leaves_a_folder_to_begin_in(tmp_path, ended, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Training, "update", interrupt)
        go(tmp_path)
    assert list(tmp_path.iterdir()) == []
    go(tmp_path)
    check_same(tmp_path, ended)


def test_a_task_of_a_kind_of_ones_own_runs_like_the_others(tmp_path):
    """Two players, no preview, not in the registry."""
    task = Adversaries(SHORT.train, save_every=2)
    go(tmp_path, task)
    assert steps_in(tmp_path) == [4, 6] and not list(tmp_path.glob("samples*"))
    assert newest(tmp_path).facts["kind"] == "adversaries"
