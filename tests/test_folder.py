"""The folder of a run: one run at a time, only its own files, damage passed over, full disks."""

import errno
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from children import fork, in_parent, wait
from folders import SHORT, check_same, go, logged, nothing_half, steps_in, stop_at
from kinds import with_train

from ddpm_lite import files
from ddpm_lite.training import CheckpointError, folder, newest, run, save_checkpoint

LONG = with_train(SHORT, steps=24, warmup=4)


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("ended")
    go(where, SHORT)
    return where


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("stopped")
    stop_at(where, 7, LONG).close()
    return where


@pytest.fixture
def half(stopped, tmp_path) -> Path:
    """A run that was stopped at step 6 of 24."""
    return shutil.copytree(stopped, tmp_path / "half")


# ---- whose files ---------------------------------------------------------------------------------

OTHERS = [
    "checkpoint-0000002-best.safetensors",
    "checkpoint-best.safetensors",
    "checkpoint-0000002.safetensors.bak",
    "checkpoint-2.safetensors",
    ".x.tmp",
    "mine.tmp",
    ".checkpoint-0000002.safetensors.123.tmp",
    "samples.png",
]


def test_only_its_own_files_are_touched(tmp_path, ended):
    for name in OTHERS:
        (tmp_path / name).write_text(name)
    (tmp_path / f"{files.PREFIX}abc{files.SUFFIX}").write_text("of a killed run")
    stop_at(tmp_path, 5).close()
    go(tmp_path, resume=True)
    for name in OTHERS:
        assert (tmp_path / name).read_text() == name
        (tmp_path / name).unlink()
    check_same(tmp_path, ended)


FOREIGN = [
    "my notes\n",
    "my notes",
    '{"epoch": 1}\n',
    '{"step": 1, "loss": 7}\n',
    '{"step": 1, "loss": 7, "seconds": 1}\nmine\n',
    '{"step": true, "loss": 7, "seconds": 1}\n',
    "[" * 100_000 + "\n",
]


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_a_foreign_log_stays_and_nothing_begins(tmp_path, content):
    (tmp_path / "log.jsonl").write_text(content)
    with pytest.raises(CheckpointError, match="holds a log.jsonl that no run of ddpm_lite wrote"):
        next(run(tmp_path, SHORT))
    assert (tmp_path / "log.jsonl").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("torn", ["", '{"st', '{"step": 2, "loss": 0.1'])
def test_the_log_of_a_run_that_was_killed_before_its_first_checkpoint_goes(tmp_path, ended, torn):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 7, "seconds": 0.1}\n' + torn)
    go(tmp_path)
    check_same(tmp_path, ended)


def test_a_folder_that_holds_a_run_is_not_overwritten(ended):
    message = "holds a run already .checkpoint-0000004.*: resume it, or choose another"
    with pytest.raises(CheckpointError, match=message):
        next(run(ended, SHORT))


# ---- one run at a time ---------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_the_folder_is_refused_and_told_of_the_first(tmp_path, ended, resume):
    running = stop_at(tmp_path, 3)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    message = f"is in use by another run .process {os.getpid()} on .*: wait for it, stop it, or"
    with pytest.raises(CheckpointError, match=message):
        next(run(tmp_path, SHORT, resume=resume))
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    for _ in running:
        pass
    check_same(tmp_path, ended)


def run_and_die(where: Path) -> None:
    running = stop_at(where, 3)
    assert (where / folder.LOCK).exists() and running
    os.kill(os.getpid(), signal.SIGKILL)


def killed(where: Path) -> list[int]:
    return wait(fork(run_and_die, where))


def test_the_lock_of_a_killed_run_holds_nobody_up(tmp_path, ended):
    assert in_parent(killed, tmp_path) == [-signal.SIGKILL]
    assert "process" in (tmp_path / folder.LOCK).read_text()
    go(tmp_path, resume=True)
    check_same(tmp_path, ended)


def test_a_lock_that_was_just_removed_is_no_lock(tmp_path, monkeypatch):
    """The run before removes its lock and ends; who opened that file first must not have it."""
    path = tmp_path / folder.LOCK
    with open(path, "a+") as file:
        path.unlink()
        assert not folder._lock(file, path)
        path.write_text("another's")
        assert not folder._lock(file, path)


def test_without_locks_in_the_file_system_it_runs_all_the_same(tmp_path, ended, monkeypatch):
    import fcntl

    def unsupported(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    go(tmp_path)
    check_same(tmp_path, ended)


# ---- damaged -------------------------------------------------------------------------------------


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


DAMAGE = {
    "truncated": cut,
    "empty": lambda content: b"",
    "no header": lambda content: content[:4],
    "flipped": lambda content: content[:20] + bytes([content[20] ^ 255]) + content[21:],
    "a weight": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "a web page": lambda content: b"<html>404</html>" * 99,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_checkpoint_before_a_damaged_one_is_used_and_said(half, damage):
    path = half / "checkpoint-0000006.safetensors"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.warns(UserWarning, match="0000006.* damaged .*going on from checkpoint-0000004"):
        log, _ = next(run(half, LONG, resume=True))
    assert log.step == 5 and [step for step, _ in logged(half)] == [1, 2, 3, 4]


def test_after_a_fallback_two_good_checkpoints_are_kept(half):
    path = half / "checkpoint-0000006.safetensors"
    (half / "checkpoint-0000020.safetensors").write_bytes(cut(path.read_bytes()))
    with pytest.warns(UserWarning, match="0000020"):
        stop_at(half, 11, LONG, resume=True).close()
    assert steps_in(half) == [8, 10, 20]


WRONG = {
    "step": None,
    "step ": "4",
    "step  ": True,
    "step of another": 4,
    "step that is real": 6.0,
    "seconds": "abc",
    "seconds ": -1,
    "seconds  ": None,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_checkpoint_whose_step_or_seconds_cannot_be_is_passed_over(half, name):
    path = half / "checkpoint-0000006.safetensors"
    tensors, facts = newest(half)
    key = name.split()[0]
    save_checkpoint(path, tensors, facts | {key: WRONG[name]})
    with pytest.warns(UserWarning, match=f"0000006.* {key}.*going on from checkpoint-0000004"):
        assert newest(half).facts["step"] == 4


def test_seconds_that_are_no_number_are_passed_over(half):
    path = half / "checkpoint-0000006.safetensors"
    content = path.read_bytes()
    found = re.search(rb'\\"seconds\\": [0-9.]+', content)
    path.write_bytes(content.replace(found[0], b'\\"seconds\\":NaN'.ljust(len(found[0])), 1))
    with pytest.warns(UserWarning, match="took nan seconds, which is no time"):
        assert newest(half).facts["step"] == 4


def test_with_no_checkpoint_left_every_problem_is_told(half):
    for path in half.glob("checkpoint-*"):
        path.write_bytes(b"")
    message = "(?s)nothing to resume from .*0000006.* damaged.*0000004.* damaged"
    with pytest.raises(CheckpointError, match=message):
        next(run(half, LONG, resume=True))
    with pytest.raises(CheckpointError, match="holds a run already"):
        next(run(half, LONG))


def test_weights_of_another_size_are_refused_before_anything_is_built(half):
    """The configuration of the run, and tensors that are not of it."""
    path = half / "checkpoint-0000006.safetensors"
    tensors, facts = newest(half)
    for name in list(tensors):
        if name.endswith("layers.0.bias"):
            tensors[name] = torch.zeros(9)
    save_checkpoint(path, tensors, facts)
    with pytest.raises(CheckpointError, match=r"layers.0.bias should be \[8\], is \[9\]"):
        next(run(half, LONG, resume=True))


# ---- no space ------------------------------------------------------------------------------------


def full(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_on_a_full_disk_the_run_stops_and_keeps_what_it_has(tmp_path, ended, monkeypatch):
    running = stop_at(tmp_path, 4)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with (
            pytest.warns(UserWarning, match="no preview of step 4"),
            pytest.raises(CheckpointError, match="No space left on device.*free some") as caught,
        ):
            next(running)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert steps_in(tmp_path) == [2] and nothing_half(tmp_path)
    go(tmp_path, resume=True)
    check_same(tmp_path, ended)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_on_a_full_disk_the_log_says_so(tmp_path, ended):
    running = stop_at(tmp_path, 4)
    log = tmp_path / "log.jsonl"
    log.rename(tmp_path / "kept")
    log.symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="the log in .*No space left.*free some space"):
        next(running)
    (tmp_path / "kept").replace(log)
    go(tmp_path, resume=True)
    check_same(tmp_path, ended)
