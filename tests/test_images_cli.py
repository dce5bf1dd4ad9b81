"""One's own pictures from the command line: what is written and said, and how it ends."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from albums import album, image, npz, save
from PIL import Image

from ddpm_lite import cli
from ddpm_lite.tasks import PRESETS, likeness, load_task
from ddpm_lite.training import TrainConfig

FLAGS = """--size 8 --network.width 8 --network.blocks 1 --network.embedding 16 --T 60
    --train.steps 4 --train.batch-size 8 --train.log-every 2 --train.precision fp32
    --save-every 2""".split()


def train(data: Path, out: Path, *more: str) -> int:
    return cli.main(["train", "images", *FLAGS, "--data", str(data), "--out", str(out), *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small run on pictures of two classes."""
    folder = tmp_path_factory.mktemp("images")
    assert train(album(folder / "some", 26), folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """And of one on grey pictures without classes."""
    folder = tmp_path_factory.mktemp("grey")
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    assert train(npz(folder / "some.npz", images=images), folder / "run", "--channels", "1") == 0
    return folder / "run"


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def test_flags_make_the_task_and_a_preset_gives_the_rest():
    task = cli._parse("train", "images", "--data", "x", "--size", "64", "--channels", "1").task
    network = task.build().net.config
    assert (network.size, network.channels, network.classes, network.patch) == (64, 1, 0, 2)
    assert cli._parse("train", "images").out == Path("runs/images")
    full = cli._parse("train", "images", "full", "--network.multipliers", "1", "2", "2", "2").task
    assert full.train == PRESETS["digits"]["full"].train
    assert full.unet.size == 32 and full.unet.multipliers == (1, 2, 2, 2)
    assert cli._parse("train", "images", "mnist").task.unet == (
        PRESETS["images"]["book"].__class__(size=28, channels=1).unet
    )


def test_training_leaves_a_grid_of_all_classes_in_turn(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"model.safetensors", "samples-0000002.png", "samples-0000004.png"} <= names
    grid = Image.open(trained / "samples-0000004.png")
    assert grid.size == (12 * (10 * 10 - 2), 12 * (4 * 10 - 2)) and grid.mode == "RGB"


def test_what_is_done_to_the_pictures_is_said_when_a_run_begins(tmp_path, capsys):
    save(album(tmp_path / "some", 2) / "red" / "wide.png", image(0, 40, 20, "L"))
    (tmp_path / "some" / "red" / "torn.png").write_bytes(b"nothing")
    assert train(tmp_path / "some", tmp_path / "run") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:4] == [
        f"5 pictures in {tmp_path / 'some'}, 2 classes: blue (2), red (3)",
        "they are 8 x 8 to 40 x 20 pixels: resized so that the shorter side is 8, and the middle "
        "cut out",
        "some are grey, and made coloured (1)",
        "5 of them are trained on, 0 held out to measure on",
    ]
    assert f"1 of the 6 pictures in {tmp_path / 'some'} are skipped: red/torn.png" in said.err


def test_classes_are_drawn_by_name(trained, tmp_path, capsys):
    sample = ["sample", "--checkpoint", str(trained), "--out"]
    assert cli.main([*sample, str(tmp_path / "x.npz"), "--classes", "red,blue", "--n", "3"]) == 0
    drawn = arrays(tmp_path / "x.npz")
    assert drawn["images"].shape == (3, 3, 8, 8) and drawn["labels"].tolist() == [1, 0, 1]
    assert cli.main([*sample, str(tmp_path / "x.png")]) == 0
    assert Image.open(tmp_path / "x.png").size == (12 * 18, 12 * 8)
    assert "x.png: 2 samples, seed 0" in capsys.readouterr().out
    assert cli.main([*sample, str(tmp_path / "y.png"), "--classes", "red,pink"]) == 2
    assert "no class 'pink': choose from blue, red" in capsys.readouterr().err


def test_without_classes_n_are_drawn(grey, tmp_path, capsys):
    sample = ["sample", "--checkpoint", str(grey), "--out"]
    assert cli.main([*sample, str(tmp_path / "x.npz"), "--n", "3"]) == 0
    drawn = arrays(tmp_path / "x.npz")
    assert drawn["images"].shape == (3, 8, 8) and "labels" not in drawn
    assert cli.main([*sample, str(tmp_path / "x.png")]) == 0
    grid = Image.open(tmp_path / "x.png")
    assert grid.mode == "L" and grid.size == (12 * 38, 12 * 38), "16, in a square"
    assert cli.main([*sample, str(tmp_path / "y.png"), "--classes", "red"]) == 2
    assert "knows no classes" in capsys.readouterr().err


def test_what_is_measured_is_written_and_said(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(likeness, "SMALL", TrainConfig(steps=4, batch_size=8))
    out, kept = tmp_path / "x.json", tmp_path / "x.npz"
    flags = ["--n", "4", "--out", str(out), "--images", str(kept)]
    assert cli.main(["evaluate", str(trained), *flags]) == 0
    said, found = capsys.readouterr().out, json.loads(out.read_text())
    assert found["data"] == {"pictures": 52, "held_out": 4} and found["drawing"]["n"] == 4
    assert [*found["measures"]] == [
        "loss",
        *(f"loss_{low}_{low + 5}" for low in range(1, 60, 6)),
        *("nearest_median", "nearest_least", "frechet", "kid", "accuracy"),
    ]
    for name in (*found["measures"], *found["notes"]):
        assert name in said
    assert arrays(kept)["images"].shape == (4, 3, 8, 8) and len(arrays(kept)["labels"]) == 4


def test_a_run_goes_on_where_it_stopped(trained, tmp_path):
    data = trained.parent / "some"
    assert train(data, tmp_path / "run", "--train.seed", "1") == 0
    whole = load_task(tmp_path / "run")[1].state_dict()
    (tmp_path / "run" / "model.safetensors").unlink()
    (tmp_path / "run" / "checkpoint-0000004.safetensors").unlink()
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    task, model = load_task(tmp_path / "run")
    assert all(torch.equal(v, whole[k]) for k, v in model.state_dict().items())
    assert asdict(task)["data"] == str(data)


COMPLAINTS = {
    "no data": ([], "data must name a folder of pictures or a .npz file: --data FOLDER"),
    "nowhere": (["--data", "no/where"], "there is nothing at no/where .*: look at the path"),
    "size": (["--size", "30"], "size must be a multiple of 4 .* got 30: .* to 28 or 32"),
    "channels": (["--channels", "2"], r"channels must be 1 \(grey\) or 3 \(colour\), got 2"),
    "network": (["--network.size", "64"], r"network.size must be left out \(0\), got 64"),
    "names": (["--names", "a", "a"], "names must be different words"),
}


@pytest.mark.parametrize("name", COMPLAINTS)
def test_what_cannot_be_is_said_in_a_line(tmp_path, capsys, name):
    flags, message = COMPLAINTS[name]
    assert cli.main(["train", "images", *flags, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert not said.out and "Traceback" not in said.err
    assert re.search(message, said.err)
