"""ddpm-lite train, stopped by Ctrl-C and resumed; and by several processes."""

import os
import shlex
import signal
import socket
from importlib import import_module
from pathlib import Path

import pytest
from children import fork, in_parent, wait
from commands import FLAGS, TINY, train
from folders import logged
from kinds import same_tensors
from torch.testing import assert_close

from ddpm_lite import cli
from ddpm_lite.training import load_checkpoint, loop

room = import_module("ddpm_lite.training.runs")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert train(folder) == 0
    return folder


def same(one: Path, other: Path) -> bool:
    """Do two checkpoints hold the same tensors, bit for bit?"""
    return same_tensors(load_checkpoint(one).tensors, load_checkpoint(other).tensors)


def steps_logged(folder: Path) -> list[int]:
    return [step for step, _ in logged(folder)]


def interrupt_after(monkeypatch, calls: int) -> None:
    """Ctrl-C in the middle of a step: the weights are new, the averages are not."""
    average, count = loop._Training.average, [calls]

    def interrupted(self):
        count[0] -= 1
        if count[0] < 0:
            raise KeyboardInterrupt
        average(self)

    monkeypatch.setattr(loop._Training, "average", interrupted)


def drawn_at(monkeypatch, step: int) -> None:
    """Ctrl-C while the grid of this step is drawn, once."""
    preview, stops = type(TINY).preview, [f"samples-{step:07d}"]

    def interrupted(self, model, path):
        if path.name in stops:
            stops.clear()
            raise KeyboardInterrupt
        preview(self, model, path)

    monkeypatch.setattr(type(TINY), "preview", interrupted)


@pytest.mark.parametrize(("stop", "at", "kept"), [(interrupt_after, 6, 6), (drawn_at, 8, 8)])
def test_ctrl_c_saves_and_names_the_command_that_resumes(
    trained, tmp_path, capsys, monkeypatch, stop, at, kept
):
    with monkeypatch.context() as patch:
        stop(patch, at)
        assert train(tmp_path / "a run", "--device", "cpu") == 130
    said = capsys.readouterr().err
    assert f"step {kept} is saved" in said and "Traceback" not in said
    again = shlex.split(said[said.rindex("ddpm-lite train") :])
    folder = str(tmp_path / "a run")
    assert again == ["ddpm-lite", "train", "--resume", "--out", folder, "--device", "cpu"]
    assert cli.main(again[1:]) == 0
    for name in ("checkpoint-0000010.safetensors", "model.safetensors"):
        assert same(trained / name, tmp_path / "a run" / name)
    assert steps_logged(tmp_path / "a run") == steps_logged(trained) == [2, 4, 6, 8, 10]


def test_ctrl_c_before_the_first_log_says_so(tmp_path, capsys, monkeypatch):
    interrupt_after(monkeypatch, 1)
    assert train(tmp_path) == 130
    assert "nothing to go on from" in capsys.readouterr().err


def child(arguments: list[str], errors: Path) -> None:
    """A process of its own: its complaints go to a file, its exit code to the system."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
    with open(errors, "w") as file:
        os.dup2(file.fileno(), 2)
        os._exit(cli.main(arguments))


def child_that_stops(arguments: list[str], errors: Path) -> None:
    """The signal comes while the fifth line of the log is written."""
    write, lines = room.log_line, []

    def interrupted(folder, facts):
        write(folder, facts)
        lines.append(facts)
        if len(lines) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    room.log_line = interrupted
    child(arguments, errors)


def interrupt_a_process(folder: Path) -> list[int]:
    arguments = [*FLAGS, "--train.steps", "100000", "--train.log-every", "1", "--out", str(folder)]
    return wait(fork(child_that_stops, ["train", *arguments], folder.with_suffix(".txt")))


def test_a_real_ctrl_c_ends_a_process_with_130(tmp_path):
    assert in_parent(interrupt_a_process, tmp_path / "run") == [130]
    said, step = (tmp_path / "run.txt").read_text(), steps_logged(tmp_path / "run")[-1]
    assert step == 5 and f"step {step} is saved" in said and "Traceback" not in said
    assert (tmp_path / "run" / f"checkpoint-{step:07d}.safetensors").exists()


# ---- two processes -------------------------------------------------------------------------------


def ranked(rank: int, port: int, folder: Path) -> None:
    """What torchrun tells each of two processes."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    os.environ |= dict(zip(names, (str(rank), str(rank), "2", "127.0.0.1", str(port)), strict=True))
    os.environ["TORCHELASTIC_RUN_ID"] = "test"
    arguments = ["train", *FLAGS, "--train.steps", "10", "--out", str(folder), "--device", "cpu"]
    child(arguments, folder.with_name(f"{rank}.txt"))


def run_ranked(folder: Path) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return wait(*[fork(ranked, rank, port, folder) for rank in (0, 1)])


def test_under_torchrun_one_process_speaks_and_writes(trained, tmp_path):
    assert in_parent(run_ranked, tmp_path / "run") == [0, 0]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        path.name for path in trained.iterdir()
    }
    assert (tmp_path / "1.txt").read_text() == ""
    assert_close(logged(tmp_path / "run"), logged(trained), rtol=1e-4, atol=0)


def test_the_command_that_resumes_starts_as_many_processes(trained, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    said = cli.Train(TINY, trained)._how_to_resume()
    assert said.endswith(
        f": torchrun --nproc-per-node 4 -m ddpm_lite train --resume --out {trained}"
    )
