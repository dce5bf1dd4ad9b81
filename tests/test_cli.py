"""The command line: what it writes, what it says, and with which exit code it ends."""

import errno
import json
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from children import fork, in_parent, wait
from PIL import Image
from torch.testing import assert_close

from ddpm_lite import checkpoint, cli, digits, evaluation
from ddpm_lite.data import mnist
from ddpm_lite.networks import UNetConfig
from ddpm_lite.tasks import PRESETS, Digits, Drawing, draw, in_turn, load_pretrained
from ddpm_lite.training import TrainConfig, load_checkpoint, run, save_checkpoint

TINY = Digits(
    UNetConfig(width=8, blocks=1, embedding=16),
    TrainConfig(steps=10, batch_size=8, warmup=2, log_every=2, precision="fp32"),
    T=12,
    save_every=4,
)
FLAGS = """--network.width 8 --network.blocks 1 --network.embedding 16 --T 12 --save-every 4
    --train.batch-size 8 --train.warmup 2 --train.log-every 2 --train.precision fp32
    --train.betas 0.9 0.999 --train.clip None --train.ema-decay 0.99 --train.lr 2e-3
    --train.no-stratified""".split()


def train(folder: Path, *more: str, steps: int = 10) -> int:
    return cli.main(["train", *FLAGS, "--train.steps", str(steps), "--out", str(folder), *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert train(folder) == 0
    return folder


def same(one: Path, other: Path) -> bool:
    """Do two checkpoints hold the same tensors, bit for bit?"""
    a, b = (load_checkpoint(path).tensors for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def steps_logged(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


# ---- train ---------------------------------------------------------------------------------------


def test_flags_make_the_configuration_and_a_preset_gives_the_rest():
    assert cli._parse("train", *FLAGS, "--train.steps", "10").config == TINY
    full = cli._parse("train", "full", "--train.lr", "0.5", "--network.multipliers", "1", "1")
    assert full.config.train == replace(PRESETS["full"].train, lr=0.5)
    assert full.config.network == replace(PRESETS["full"].network, multipliers=(1, 1))
    assert full.out == Path("runs/full")
    assert cli._parse("train").config == PRESETS["book"]


def test_training_leaves_checkpoints_grids_and_a_model(trained):
    names = {path.name for path in trained.iterdir()}
    checkpoints = {f"checkpoint-{step:07d}.safetensors" for step in (8, 10)}
    grids = {f"samples-{step:07d}.png" for step in (4, 8, 10)}
    assert names == checkpoints | grids | {"log.jsonl", "model.safetensors"}
    assert Image.open(trained / "samples-0000010.png").size == (3 * (300 - 2), 3 * (120 - 2))


def test_the_grids_show_what_the_averaged_weights_draw(trained):
    model = load_digits(trained / "checkpoint-0000010.safetensors")
    images = torch.cat(list(draw(model, in_turn("0123456789", 40), Drawing(steps=12))))
    seen = np.asarray(Image.open(trained / "samples-0000010.png"))
    assert np.array_equal(seen, np.asarray(digits.grid(images, 10)))


def test_drawing_does_not_disturb_the_training(trained, tmp_path):
    for _ in run(tmp_path, TINY):
        pass
    last = "checkpoint-0000010.safetensors"
    assert same(trained / last, tmp_path / last)
    assert same(trained / "model.safetensors", tmp_path / "model.safetensors")


def test_the_bar_tells_loss_speed_and_time_left(tmp_path, capsys, monkeypatch):
    tqdm = cli.tqdm
    monkeypatch.setattr(cli, "tqdm", lambda **options: tqdm(**{**options, "delay": 0}))
    assert train(tmp_path / "run", steps=4) == 0
    said = capsys.readouterr()
    assert re.search(r"4/4 \[\d+:\d+<00:00, .*loss \d\.\d{4}, [\d,]+ images/s\]", said.err)
    assert said.out == f"trained; draw with it: ddpm-lite sample --checkpoint {tmp_path / 'run'}\n"


def interrupt_after(monkeypatch, calls: int) -> None:
    """Ctrl-C in the middle of a step: the weights are new, the averages are not."""
    schedule, count = torch.optim.lr_scheduler.LambdaLR, [calls + 1]  # one call at the start

    class Interrupted(schedule):
        def step(self, *args):
            count[0] -= 1
            if count[0] < 0:
                raise KeyboardInterrupt
            super().step(*args)

    monkeypatch.setattr(torch.optim.lr_scheduler, "LambdaLR", Interrupted)


def drawn_at(monkeypatch, step: int) -> None:
    """Ctrl-C while the grid of this step is drawn."""
    write = cli.write_digits

    def interrupted(path, *args):
        if path.name == f"samples-{step:07d}.png":
            raise KeyboardInterrupt
        write(path, *args)

    monkeypatch.setattr(cli, "write_digits", interrupted)


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


def interrupt_a_process(folder: Path) -> list[int]:
    arguments = [*FLAGS, "--train.steps", "100000", "--train.log-every", "1", "--out", str(folder)]
    process = fork(child, ["train", *arguments], folder.with_suffix(".txt"))
    for _ in range(600):
        time.sleep(0.1)
        if (folder / "log.jsonl").exists():
            break
    os.kill(process, signal.SIGINT)
    return wait(process)


def test_a_real_ctrl_c_ends_a_process_with_130(tmp_path):
    assert in_parent(interrupt_a_process, tmp_path / "run") == [130]
    said, step = (tmp_path / "run.txt").read_text(), steps_logged(tmp_path / "run")[-1]
    assert f"step {step} is saved" in said and "Traceback" not in said
    assert (tmp_path / "run" / f"checkpoint-{step:07d}.safetensors").exists()


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
    ours, theirs = (
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (trained, tmp_path / "run")
    )
    assert_close(theirs, ours, rtol=1e-4, atol=0)


# ---- sample --------------------------------------------------------------------------------------


def sample(folder: Path, out: Path, *more: str) -> Path:
    """Draw with the small run's model."""
    assert cli.main(["sample", "--checkpoint", str(folder), "--out", str(out), *more]) == 0
    return out


FEW = ("--steps", "3")


def test_npz_holds_images_and_labels_dealt_in_turn(trained, tmp_path):
    path = sample(trained, tmp_path / "new" / "some.npz", "--digits", "380", "--n", "7", *FEW)
    found = np.load(path)
    assert found["images"].shape == (7, 28, 28) and found["images"].dtype == np.uint8
    assert found["labels"].tolist() == [3, 8, 0, 3, 8, 0, 3]
    model = load_digits(trained)
    images = torch.cat(list(draw(model, torch.tensor([3, 8, 0, 3, 8, 0, 3]), Drawing(steps=3))))
    assert np.array_equal(found["images"], images.numpy())


@pytest.mark.parametrize(
    ("flags", "columns", "rows"),
    [
        ([], 10, 1),
        (["--digits", "7"], 1, 1),
        (["--digits", "7", "--n", "9"], 3, 3),
        (["--digits", "12", "--n", "9"], 4, 3),
        (["--n", "25"], 10, 3),
    ],
)
def test_png_is_about_square_and_its_rows_begin_alike(trained, tmp_path, flags, columns, rows):
    picture = Image.open(sample(trained, tmp_path / "some.png", *FEW, *flags))
    assert picture.mode == "L" and picture.size == (3 * (30 * columns - 2), 3 * (30 * rows - 2))


def test_a_picture_holds_each_digit_at_its_place():
    images = torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 28, 28) + 1
    page = np.asarray(digits.grid(images, columns=2, gap=1, zoom=2))
    assert page.shape == (114, 114)
    assert page[0, 0] == page[55, 55] == 1 and page[0, 58] == page[55, 113] == 2
    assert page[58, 0] == page[113, 55] == 3 and page[58, 58] == page[56, 0] == page[0, 57] == 0


def test_a_seed_decides_the_digits_and_nothing_else_moves(trained):
    model, labels, state = load_digits(trained), in_turn("01", 4), torch.get_rng_state()

    def images(**options):
        return torch.cat(list(draw(model, labels, Drawing(steps=3, **options))))

    assert torch.equal(images(), images(seed=0))
    assert not torch.equal(images(), images(seed=1))
    assert not torch.equal(images(), images(eta=0.0))
    assert not torch.equal(images(), images(sampler="ddpm"))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_chunk_is_the_same_whatever_follows_it(trained, monkeypatch):
    monkeypatch.setattr(digits, "CHUNK", 4)
    model, how = load_digits(trained), Drawing(steps=3)
    few, many = ([*draw(model, in_turn("0123456789", n), how)] for n in (4, 10))
    assert [len(part) for part in many] == [4, 4, 2]
    assert torch.equal(few[0], many[0]) and not torch.equal(many[0], many[1])


def test_pixels_are_the_nearest_of_256_levels(trained, monkeypatch):
    ends = torch.tensor([-1.5, -1.0, 0.0, 1 / 127.5, 1.0, 2.0])
    x_0 = torch.zeros(1, 1, 28, 28)
    x_0.view(-1)[: len(ends)] = ends
    monkeypatch.setattr(digits, "sample", lambda *_, **__: iter([(0, x_0, x_0)]))
    (images,) = draw(load_digits(trained), torch.tensor([3]))
    assert images.flatten()[: len(ends)].tolist() == [0, 0, 128, 128, 255, 255]


def test_the_folder_of_a_run_means_its_model_or_else_its_newest_checkpoint(trained, tmp_path):
    assert checkpoint.find(trained) == trained / "model.safetensors"
    for step in (8, 10):
        name = f"checkpoint-{step:07d}.safetensors"
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    assert checkpoint.find(tmp_path).name == "checkpoint-0000010.safetensors"
    averaged, final = load_digits(tmp_path), load_digits(trained)
    assert_close(averaged.state_dict(), final.state_dict(), rtol=1e-3, atol=1e-6)


# ---- evaluate, info ------------------------------------------------------------------------------


@pytest.fixture
def small_mnist(monkeypatch):
    """The first 300 digits of each split."""
    monkeypatch.setattr(evaluation, "mnist", lambda split: tuple(x[:300] for x in mnist(split)))


def test_evaluate_writes_every_measure_beside_that_of_real_digits(
    trained, tmp_path, capsys, small_mnist
):
    out, kept = tmp_path / "results.json", tmp_path / "kept.npz"
    arguments = f"--n 40 --steps 3 --seed 5 --bound-images 6 --bound-times 4 --out {out}".split()
    arguments = ["evaluate", str(trained), *arguments, "--images", str(kept)]
    assert cli.main(arguments) == 0
    found = json.loads(out.read_text())
    assert found["command"] == shlex.join(["ddpm-lite", *arguments])
    assert found["drawing"] == {"n": 40, "sampler": "ddim", "eta": 1.0, "steps": 3, "seed": 5}
    assert found["checkpoint"]["step"] == 10
    assert found["machine"]["torch"] == torch.__version__
    classifier, saved = load_pretrained("classifier"), np.load(kept)
    images, labels = torch.from_numpy(saved["images"]), torch.from_numpy(saved["labels"])
    assert found["measures"] == evaluation.measure(classifier, images, labels, seed=5)
    assert found["bits_per_dim"] == evaluation.bound(load_digits(trained), 6, 4, seed=5)
    said = capsys.readouterr().out
    assert all(name in said for name in (*found["measures"], "bits/dim", str(out)))


def test_labels_are_asked_for_in_the_shares_of_the_training_set():
    labels = evaluation.asked(40_000, seed=1)
    assert labels.dtype == torch.int64 and len(labels) == 40_000
    shares, real = (y.bincount() / len(y) for y in (labels, mnist("train")[1]))
    assert_close(shares, real, rtol=0, atol=3.5e-3)  # four standard errors
    assert real[1] > 1.2 * real[5]
    assert evaluation.asked(20).bincount().tolist() == [2] * 10
    assert not torch.equal(labels, evaluation.asked(40_000, seed=2))
    assert torch.equal(labels, evaluation.asked(40_000, seed=1))


def test_real_digits_measure_as_real_digits_do(small_mnist):
    """The floors are the measures of N random training digits, or of the test set."""
    images, labels = mnist("train")
    some = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:50]
    classifier = load_pretrained("classifier")
    found = evaluation.measure(classifier, images[some], labels[some])
    for name in ("frechet", "kid", "kid_error", "precision", "recall"):
        assert found[name]["value"] == found[name]["real"], name
    assert found["nearest_least"]["value"] == 0 < found["nearest_least"]["real"]
    images, labels = (x[:300] for x in mnist("test"))
    found = evaluation.measure(classifier, images, labels)
    for name in ("accuracy", "class_score", "variety", "nearest_median"):
        assert found[name]["value"] == found[name]["real"], name
    assert found["accuracy"]["value"] > 0.97 and found["frechet"]["value"] < 1e-6


def test_the_bound_is_the_sum_of_its_terms(trained):
    model = load_digits(trained)
    found = evaluation.bound(model, n=20, times=4, seed=3, batch=8)
    total = found["prior"] + found["middle"] + found["decoder"]
    assert_close(found["total"], total, rtol=1e-9, atol=0)
    assert_close(sum(found["strata"]["bits"]), found["middle"], rtol=0, atol=1e-5)
    first = found["strata"]["first_t"]
    assert first[0] == 2 and len(first) == 4 and first == sorted(set(first)) and first[-1] <= 12
    every = evaluation.bound(model, n=20, seed=3)
    assert every["strata"]["first_t"] == list(range(2, 13))
    assert abs(every["total"] - found["total"]) < 4 * found["standard_error"]


def test_info_says_what_a_checkpoint_holds(trained, capsys):
    for name in ("model", "checkpoint-0000010"):
        path = trained / f"{name}.safetensors"
        assert cli.main(["info", str(path)]) == 0
        first, _, facts = capsys.readouterr().out.partition("\n")
        count = sum(p.numel() for p in load_digits(path).parameters())
        assert first == f"{path}: {path.stat().st_size / 1e6:.2f} MB, {count:,} parameters"
        assert json.loads(facts) == load_checkpoint(path).facts


def test_info_of_the_classifier(capsys):
    assert cli.main(["info", "classifier"]) == 0
    assert '"test_accuracy": 0.99' in capsys.readouterr().out


# ---- what goes wrong -----------------------------------------------------------------------------

BAD = {
    "no command": (["fly"], "unknown command 'fly': choose from train, sample, evaluate, info"),
    "no preset": (["train", "huge"], "unknown preset 'huge': choose from book, full"),
    "steps": (["train", "--train.steps", "0"], "steps must be a whole number"),
    "save": (["train", "--save-every", "3"], "save_every must be a multiple of log_every"),
    "folder in use": (["train", "--out", "{run}"], "holds a run already: resume it, or choose"),
    "nothing to resume": (["train", "--resume", "--out", "{tmp}/no"], "nothing to resume from in"),
    "resume and flags": (
        ["train", "--resume", "--out", "{run}", "--train.lr", "1"],
        "--resume takes the run's own configuration: leave out yours",
    ),
    "foreign run": (["train", "--resume", "--out", "{tmp}/other"], "is of no run of this version"),
    "train to a file": (["train", "--out", "{tmp}/file"], "cannot write .*; name another"),
    "no checkpoint": (
        ["sample", "--checkpoint", "nowhere"],
        "no checkpoint 'nowhere': give a .safetensors file.*classifier",
    ),
    "no network": (["sample", "--checkpoint", "classifier"], "draws no digits: .* a Classifier"),
    "damaged": (["sample", "--checkpoint", "{tmp}/file"], "is damaged or is no safetensors file"),
    "foreign": (["sample", "--checkpoint", "{tmp}/other"], "does not hold a network of this"),
    "foreign info": (["info", "{tmp}/other"], "does not hold a network of this version"),
    "empty folder": (["info", "{tmp}"], "no checkpoint '.*': give"),
    "n": (["sample", "--n", "0"], "n must be at least 1, got 0"),
    "digits": (["sample", "--digits", "12a"], "digits must be some of 0123456789, got '12a'"),
    "none": (["sample", "--digits", ""], "digits must be some of 0123456789, got ''"),
    "suffix": (["sample", "--out", "x.jpg"], "--out must end in .png or .npz, got x.jpg"),
    "into a file": (["sample", "--out", "{tmp}/file/x.png"], "cannot write .*x.png: "),
    "a folder": (["sample", "--out", "{tmp}/dir.png"], "dir.png: it is a folder; name a file"),
    "device": (["sample", "--device", "tpu"], "device 'tpu' does not work here: try .*auto"),
    "steps > T": (["sample", "--checkpoint", "{run}", "--steps", "99"], "steps must be .*T = 12"),
    "eta": (["sample", "--checkpoint", "{run}", *FEW, "--eta", "2"], r"eta must lie in \[0, 1\]"),
    "flag": (["sample", "--sampel", "1"], "Unrecognized options: --sampel"),
    "sampler": (["sample", "--sampler", "euler"], "invalid choice 'euler'"),
    "kept": (["evaluate", "--images", "x.png"], "--images must end in .npz, got x.png"),
    "few": (["evaluate", "{run}", "--n", "3"], r"n must lie in 20..60000, .* got 3"),
    "bound": (["evaluate", "{run}", "--bound-images", "1"], "the bound needs 2..10000 .* got 1"),
    "times": (["evaluate", "{run}", "--bound-times", "99"], r"times must be None .*1..11 strata"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_a_wrong_request_ends_with_2_and_says_what_to_do(
    trained, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no checkpoint")
    (tmp_path / "dir.png").mkdir()
    facts = {"config": {"network": {"heads": 8}}, "step": 4}
    save_checkpoint(tmp_path / "other" / "checkpoint-0000004.safetensors", {}, facts)
    arguments = [a.format(run=trained, tmp=tmp_path) for a in arguments]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert re.search(message, " ".join(said.replace("│", " ").split())), said
    assert "Traceback" not in said
    assert said.count("\n") == 1 or not said.startswith("ddpm-lite: ")  # tyro draws a box


def full_disk(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_with_1_and_keeps_what_was_saved(tmp_path, capsys, monkeypatch):
    write = cli.write_digits

    def fill(path, *args):
        write(path, *args)
        if "0000008" in path.name:
            monkeypatch.setattr(os, "fsync", full_disk)

    monkeypatch.setattr(cli, "write_digits", fill)
    assert train(tmp_path) == 1
    *_, said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"ddpm-lite: cannot write .*: No space left .*; free some.*", said)
    assert [path.stem for path in tmp_path.glob("checkpoint*")] == ["checkpoint-0000004"]


def test_a_full_disk_while_a_picture_is_written(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "write_digits", full_disk)
    out = str(tmp_path / "x.png")
    assert cli.main(["sample", "--checkpoint", str(trained), *FEW, "--out", out]) == 1
    assert "No space left on device" in capsys.readouterr().err


def test_nan_ends_with_1_and_says_what_to_try(tmp_path, capsys):
    more = ["--train.lr", "1e20", "--train.warmup", "0", "--train.log-every", "1"]
    assert train(tmp_path, *more, "--save-every", "1") == 1
    said = capsys.readouterr().err
    assert re.search(rf"the loss is \w+ at step \d+: lower lr .*; what was .* {tmp_path}\n", said)
    assert "Traceback" not in said
    loss = load_checkpoint(max(tmp_path.glob("checkpoint-*"))).facts["loss"]
    assert 0 < loss < float("inf")


def test_ctrl_c_elsewhere_just_ends(trained, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "draw", interrupted)
    assert cli.main(["sample", "--checkpoint", str(trained)]) == 130


# ---- the rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize("works", ["cuda", "mps", "cpu"])
def test_auto_is_the_first_device_that_works(monkeypatch, works):
    def zeros(*_, device, **__):
        if device not in (works, "cpu"):
            raise {"cuda": AssertionError, "mps": TypeError}[device]("not here")
        return SimpleNamespace(device=device)

    monkeypatch.setattr(torch, "zeros", zeros)
    assert cli._device("auto") == works


def test_a_damaged_checkpoint_is_named_in_one_line(trained, tmp_path, capsys):
    """And the one before it is resumed from."""
    for step in (8, 10):
        name = f"checkpoint-{step:07d}.safetensors"
        (tmp_path / name).write_bytes((trained / name).read_bytes()[: 10**9 if step == 8 else 999])
    assert cli.main(["train", "--resume", "--out", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "ddpm-lite" in line]
    assert len(lines) == 1 and "is damaged" in lines[0] and "checkpoint-0000008" in lines[0]
    assert same(tmp_path / "model.safetensors", trained / "model.safetensors")


def test_the_command_that_resumes_starts_as_many_processes(trained, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    said = cli.Train(TINY, trained)._how_to_resume()
    assert said.endswith(
        f": torchrun --nproc-per-node 4 -m ddpm_lite train --resume --out {trained}"
    )


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["-h"], 0), ([], 2)])
def test_help_lists_the_commands(capsys, arguments, code):
    assert cli.main(arguments) == code
    said = capsys.readouterr().out
    assert all(f"    ddpm-lite {name} " in said for name in cli.COMMANDS)


def test_the_flags_are_told_with_the_presets_values(capsys):
    for preset in PRESETS:
        assert cli.main(["train", preset, "--help"]) == 0
        said = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert f"--train.steps INT (default: {PRESETS[preset].train.steps})" in said
        assert "share of the labels that are hidden" in said  # the field's own comment


def test_the_script_and_the_module_are_the_same_command(monkeypatch, capsys):
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"ddpm-lite": "ddpm_lite.cli:main"}
    monkeypatch.setattr(sys, "argv", ["ddpm-lite", "fly"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("ddpm_lite", run_name="__main__")
    assert "unknown command 'fly'" in capsys.readouterr().err


def test_it_starts_without_what_it_does_not_need():
    """A module more may cost a second at each start."""
    code = "import sys, ddpm_lite.cli; print({'scipy', 'matplotlib', 'IPython'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
