"""ddpm-lite train: what it leaves, how it is stopped and resumed, with any kind."""

import errno
import json
import os
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import FLAGS, TINY, one_line, train
from folders import logged, stop_at
from kinds import KINDS, same_tensors
from PIL import Image

from ddpm_lite import cli
from ddpm_lite.tasks import PRESETS, Drawing, draw, in_turn, load_pretrained, load_task
from ddpm_lite.tasks.drawing import grid
from ddpm_lite.training import load_checkpoint, run

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


def test_flags_make_the_configuration_and_a_preset_gives_the_rest():
    assert cli._parse("train", *FLAGS, "--train.steps", "10").task == TINY
    book, full = PRESETS["digits"].values()
    asked = cli._parse(
        "train", "digits", "full", "--train.lr", "0.5", "--network.multipliers", "1", "1"
    )
    assert asked.task.train == replace(full.train, lr=0.5)
    assert asked.task.network == replace(full.network, multipliers=(1, 1))
    assert asked.out == Path("runs/digits-full")
    assert cli._parse("train").task == cli._parse("train", "digits").task == book
    for kind, presets in PRESETS.items():
        for name, task in presets.items():
            assert cli._parse("train", kind, name).task == task
        asked = cli._parse("train", kind, "--train.steps", "7", "--out", "x")
        assert asked.task == replace(task := next(iter(presets.values())), train=asked.task.train)
        assert asked.task.train == replace(task.train, steps=7) and asked.out == Path("x")


def test_training_leaves_checkpoints_grids_and_a_model(trained):
    names = {path.name for path in trained.iterdir()}
    checkpoints = {f"checkpoint-{step:07d}.safetensors" for step in (8, 10)}
    grids = {f"samples-{step:07d}.png" for step in (4, 8, 10)}
    assert names == checkpoints | grids | {"log.jsonl", "model.safetensors"}
    assert Image.open(trained / "samples-0000010.png").size == (3 * (300 - 2), 3 * (120 - 2))


def test_the_grids_show_what_the_averaged_weights_draw(trained):
    model = load_pretrained(trained / "checkpoint-0000010.safetensors")
    images = torch.cat(list(draw(model, in_turn("0123456789", 40), Drawing(steps=12))))
    seen = np.asarray(Image.open(trained / "samples-0000010.png"))
    assert np.array_equal(seen, np.asarray(grid(images, 10)))


def test_drawing_does_not_disturb_the_training(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(type(TINY), "preview", lambda *_: None)
    for _ in run(tmp_path, TINY):
        pass
    for name in ("checkpoint-0000010.safetensors", "model.safetensors"):
        assert same(trained / name, tmp_path / name)


@pytest.mark.parametrize("kind", ["line", "vae", "autoencoder", "classifier"])
def test_any_kind_is_trained_told_of_and_used(tmp_path, capsys, kind):
    """From the command line alone: train, info, sample, evaluate."""
    out = str(tmp_path / "run")
    small = {"line": "--width 8 --depth 1", "classifier": "--width 2 --features 8"}
    flags = small.get(kind, "--latent 2 --width 2 --hidden 8") + " --train.steps 4"
    flags += " --train.batch-size 8 --train.log-every 2 --save-every 2"
    assert cli.main(["train", kind, *flags.split(), "--out", out]) == 0
    can_draw = kind in ("line", "vae")
    what = "sample --checkpoint" if can_draw else "info"
    assert capsys.readouterr().out == f"trained; see: ddpm-lite {what} {out}\n"
    assert cli.main(["info", out]) == 0
    assert f'"kind": "{kind}"' in capsys.readouterr().out
    task, model = load_task(out)
    assert task.kind == kind and not model.training
    for name in ("a.png", "a.npz"):
        done = cli.main(["sample", "--checkpoint", out, "--out", str(tmp_path / name)])
        assert done == (0 if can_draw else 2) and (tmp_path / name).exists() == can_draw
    said = capsys.readouterr()
    assert can_draw or said.err == 2 * f"ddpm-lite: a model of kind '{kind}' draws nothing\n"


def test_a_line_is_measured_if_it_has_learned_something(tmp_path, capsys):
    out, short = str(tmp_path / "run"), "--width 16 --train.lr 0.02 --train.log-every 50".split()
    line = ["train", "line", *short, "--save-every", "50", "--out"]
    assert cli.main([*line, out + "2", "--train.steps", "1"]) == 0
    assert cli.main(["evaluate", out + "2", "--out", str(tmp_path / "no.json")]) == 2
    assert "nowhere near the data: train longer" in capsys.readouterr().err
    assert cli.main([*line, out, "--train.steps", "150"]) == 0
    assert cli.main(["evaluate", out, "--out", str(tmp_path / "r.json"), "--steps", "20"]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert 0 < found["measures"]["w1"]["exact"] < 0.1 < found["measures"]["w1"]["value"] < 0.5
    assert found["checkpoint"]["kind"] == "line" and found["steps"] == 20


def test_the_bar_tells_loss_speed_and_time_left(tmp_path, capsys, monkeypatch):
    tqdm = cli.tqdm
    monkeypatch.setattr(cli, "tqdm", lambda **options: tqdm(**{**options, "delay": 0}))
    assert train(tmp_path / "run", steps=4) == 0
    said = capsys.readouterr()
    assert re.search(r"4/4 \[\d+:\d+<00:00, .*loss \d\.\d{4}, [\d,]+ samples/s\]", said.err)
    assert said.out == f"trained; see: ddpm-lite sample --checkpoint {tmp_path / 'run'}\n"


def test_the_bar_tells_the_loss_of_each_player(tmp_path, capsys):
    task = KINDS["adversaries"]
    bar = cli.tqdm(total=6)
    cli._follow(run(tmp_path, task), task, bar)
    assert re.search(r"critic \d\.\d{4}, generator \d\.\d{4}", bar.postfix)


# ---- begun with other weights --------------------------------------------------------------------


def test_start_begins_with_the_weights_of_a_checkpoint(trained, tmp_path, capsys):
    frozen = ("--train.lr", "1e-30", "--train.ema-decay", "0", "--start", str(trained))
    assert train(tmp_path / "a", *frozen, steps=4) == 0
    for folder in (trained, tmp_path / "a"):
        assert same(folder / "model.safetensors", trained / "model.safetensors")
    capsys.readouterr()
    wrong = {
        "classifier": "start must be a Denoiser that returns v, got a Classifier",
        "digits": r"start does not fit this task's model: .* net.down",
        "nowhere": "no checkpoint 'nowhere'",
        str(trained / "log.jsonl"): "is damaged or is no safetensors file",
    }
    for name, message in wrong.items():
        assert train(tmp_path / "b", "--start", name) == 2
        assert re.search(message, one_line(capsys.readouterr().err))
    assert cli.main(["train", "--resume", "--start", "digits", "--out", str(trained)]) == 2
    assert "--resume goes on with its own weights" in capsys.readouterr().err


# ---- what goes wrong -----------------------------------------------------------------------------


def full_disk(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_with_1_and_keeps_what_was_saved(tmp_path, capsys, monkeypatch):
    save, calls = room.save_checkpoint, []

    def fill(*args):
        calls.append(args)
        if len(calls) == 2:
            monkeypatch.setattr(os, "fsync", full_disk)
        save(*args)

    monkeypatch.setattr(room, "save_checkpoint", fill)
    assert train(tmp_path) == 1
    *_, said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"ddpm-lite: cannot write .*: No space left .*; free some.*", said)
    assert [path.stem for path in tmp_path.glob("checkpoint*")] == ["checkpoint-0000004"]


def test_nan_ends_with_1_and_says_what_to_try(tmp_path, capsys):
    more = ["--train.lr", "1e20", "--train.warmup", "0", "--train.log-every", "1"]
    assert train(tmp_path, *more, "--save-every", "1") == 1
    said = capsys.readouterr().err
    assert re.search(
        rf"(not finite|is \w+) at step \d+: lower lr .*; what was .* {tmp_path}\n", said
    )
    assert "Traceback" not in said
    loss = load_checkpoint(max(tmp_path.glob("checkpoint-*"))).facts["loss"]
    assert 0 < loss < float("inf")


def test_two_runs_in_one_folder_end_with_2_and_the_other_is_named(tmp_path, capsys):
    running = stop_at(tmp_path, 2, TINY)
    assert train(tmp_path) == 2 == cli.main(["train", "--resume", "--out", str(tmp_path)])
    first, second = capsys.readouterr().err.splitlines()
    assert f"is in use by another run (process {os.getpid()} on " in first
    assert "nothing to resume from" in second
    for _ in running:
        pass
    assert steps_logged(tmp_path) == [2, 4, 6, 8, 10]


def test_a_damaged_checkpoint_is_named_in_one_line(trained, tmp_path, capsys):
    """And the one before it is resumed from."""
    for step in (8, 10):
        name = f"checkpoint-{step:07d}.safetensors"
        (tmp_path / name).write_bytes((trained / name).read_bytes()[: 10**9 if step == 8 else 999])
    assert cli.main(["train", "--resume", "--out", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "ddpm-lite" in line]
    assert len(lines) == 1 and "is damaged" in lines[0] and "checkpoint-0000008" in lines[0]
    assert same(tmp_path / "model.safetensors", trained / "model.safetensors")
