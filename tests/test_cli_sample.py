"""ddpm-lite sample, evaluate and info: what they write, and where when the disk refuses."""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import FEW, one_line, sample, train
from disks import fill, small_disk
from kinds import small_mnist
from PIL import Image
from test_files import REFUSED

from ddpm_lite import cli
from ddpm_lite.tasks import Drawing, draw, evaluation, load_pretrained
from ddpm_lite.tasks.digits import Digits
from ddpm_lite.training import load_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert train(folder) == 0
    return folder


@pytest.fixture
def few_digits(monkeypatch):
    """The first 300 digits of each split."""
    monkeypatch.setattr(evaluation, "mnist", small_mnist)


def test_npz_holds_images_and_labels_in_turn(trained, tmp_path):
    path = sample(trained, tmp_path / "new" / "some.npz", "--digits", "380", "--n", "7", *FEW)
    found = np.load(path)
    assert found["images"].shape == (7, 28, 28) and found["images"].dtype == np.uint8
    assert found["labels"].tolist() == [3, 8, 0, 3, 8, 0, 3]
    model = load_pretrained(trained)
    images = torch.cat(list(draw(model, torch.tensor([3, 8, 0, 3, 8, 0, 3]), Drawing(steps=3))))
    assert np.array_equal(found["images"], images.numpy())
    again = sample(trained, tmp_path / "X.NPZ", "--classes", "380", "--n", "7", *FEW)
    assert np.array_equal(np.load(again)["images"], found["images"])


@pytest.mark.parametrize(
    ("flags", "columns", "rows"),
    [
        ([], 10, 1),
        (["--digits", "7"], 1, 1),
        (["--digits", "7", "--n", "9"], 3, 3),
        (["--digits", "12", "--n", "9"], 4, 3),
        (["--n", "25"], 10, 3),
        (["--n", "3"], 3, 1),
    ],
)
def test_png_is_about_square_and_its_rows_begin_alike(trained, tmp_path, flags, columns, rows):
    picture = Image.open(sample(trained, tmp_path / "some.png", *FEW, *flags))
    assert picture.mode == "L" and picture.size == (3 * (30 * columns - 2), 3 * (30 * rows - 2))


def test_a_vae_draws_without_labels(tmp_path):
    found = np.load(sample("vae-plane", tmp_path / "a.npz", "--n", "5"))
    assert found["images"].shape == (5, 28, 28) and set(found) == {"images"}
    picture = Image.open(sample("vae-plane", tmp_path / "a.png"))
    assert picture.size == (3 * (30 * 4 - 2), 3 * (30 * 4 - 2))


@pytest.mark.parametrize(("name", "most"), [("x.png", 9_876), ("x.npz", 1_369_568)])
def test_more_than_fits_is_refused_before_anything_is_drawn(
    tmp_path, capsys, monkeypatch, name, most
):
    """A billion digits were killed without a word."""
    drawn = []
    monkeypatch.setattr(Digits, "sample", lambda *args: drawn.append(args) or iter([]))
    for n in (10**9, 10**18, most + 1):
        assert cli.main(["sample", "--n", str(n), "--out", str(tmp_path / name)]) == 2
        said = f"n must be at most {most:,} for one .{name[2:]}, got {n:,}: draw several files"
        assert said in capsys.readouterr().err
    assert drawn == [] == list(tmp_path.iterdir())


def test_precision_reaches_the_drawing(tmp_path, monkeypatch):
    """And with it the layout that convolutions of that precision like: see `memory_format`."""
    seen = []

    def spy(self, model, how, labels):
        seen.append((how.precision, model.net.stem.weight.is_contiguous()))
        return iter([torch.zeros(10, 28, 28, dtype=torch.uint8)])

    monkeypatch.setattr(Digits, "sample", spy)
    for precision in ("fp32", "bf16"):
        sample("digits", tmp_path / "x.png", "--precision", precision, "--device", "cpu")
    assert seen == [("fp32", False), ("bf16", True)]


# ---- evaluate, info ------------------------------------------------------------------------------


def test_evaluate_writes_every_measure_beside_that_of_real_digits(
    trained, tmp_path, capsys, few_digits
):
    out, kept = tmp_path / "results.json", tmp_path / "kept.npz"
    flags = "--n 40 --steps 3 --seed 5 --bound-images 6 --bound-times 4".split()
    arguments = ["evaluate", str(trained), *flags, "--out", str(out), "--images", str(kept)]
    assert cli.main(arguments) == 0
    found = json.loads(out.read_text())
    assert found["command"] == shlex.join(["ddpm-lite", *arguments])
    how = {"n": 40, "sampler": "ddim", "eta": 1.0, "steps": 3, "shift": None, "seed": 5}
    how |= {"precision": "fp32", "guidance": 1.0}
    assert found["drawing"] == how | {"seconds": found["drawing"]["seconds"]}
    assert found["checkpoint"]["step"] == 10 and found["checkpoint"]["kind"] == "digits"
    assert found["machine"]["torch"] == torch.__version__
    classifier, saved = load_pretrained("classifier"), np.load(kept)
    images, labels = torch.from_numpy(saved["images"]), torch.from_numpy(saved["labels"])
    assert found["measures"] == evaluation.measure(classifier, images, labels, seed=5)
    model = load_pretrained(trained).to(memory_format=torch.channels_last)
    assert found["bits_per_dim"] == evaluation.bound(model, 6, 4, seed=5)
    said = capsys.readouterr().out
    assert all(name in said for name in (*found["measures"], "bits/dim", str(out)))


def test_the_precision_that_auto_chose_is_what_is_told(trained, tmp_path, few_digits, monkeypatch):
    from ddpm_lite.tasks import drawing

    monkeypatch.setattr(drawing, "fastest", lambda *_: "bf16")
    out = tmp_path / "r.json"
    flags = ["--n", "20", "--steps", "2", "--bound-images", "0", "--precision", "auto"]
    assert cli.main(["evaluate", str(trained), *flags, "--out", str(out)]) == 0
    assert json.loads(out.read_text())["drawing"]["precision"] == "bf16"


def test_evaluate_of_the_shipped_models_of_codes(tmp_path, monkeypatch, capsys):
    from ddpm_lite.tasks import classifier, codes

    for module in (codes, classifier):
        monkeypatch.setattr(module, "mnist", small_mnist)
    for name, measure, low, high in (
        ("vae", "bits_per_dim", 2.0, 3.5),
        ("autoencoder", "squared_error", 5, 40),
        ("classifier", "test_accuracy", 0.98, 1.0),
    ):
        assert cli.main(["evaluate", name, "--out", str(tmp_path / "r.json")]) == 0
        found = json.loads((tmp_path / "r.json").read_text())
        assert low <= found["measures"][measure]["value"] <= high
        assert measure in capsys.readouterr().out


def test_info_says_what_a_checkpoint_holds(trained, capsys):
    for name in ("model", "checkpoint-0000010"):
        path = trained / f"{name}.safetensors"
        assert cli.main(["info", str(path)]) == 0
        first, _, facts = capsys.readouterr().out.partition("\n")
        count = sum(p.numel() for p in load_pretrained(path).parameters())
        assert first == f"{path}: {path.stat().st_size / 1e6:.2f} MB, {count:,} parameters"
        assert json.loads(facts) == load_checkpoint(path).facts


def test_info_of_the_classifier(capsys):
    assert cli.main(["info", "classifier"]) == 0
    assert '"test_accuracy": 0.99' in capsys.readouterr().out


# ---- where a result cannot be written ------------------------------------------------------------

SHORT = ("--n", "20", "--steps", "2", "--bound-images", "0")


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("flag", ["sample --out", "evaluate --out", "evaluate --images"])
def test_it_is_said_before_the_work(tmp_path, capsys, monkeypatch, case, flag):
    """A read-only file, a device, a name too long ... : nothing is drawn or measured."""
    work = []
    for name in ("sample", "evaluate"):
        monkeypatch.setattr(Digits, name, lambda *args: work.append(args))
    make, message = REFUSED[case]
    path = make(tmp_path)
    suffix = {"sample --out": ".png", "evaluate --out": "", "evaluate --images": ".npz"}[flag]
    if suffix and case == "device":
        pytest.skip("no device has such a name")
    if suffix and case == "300 characters":
        path = path.with_name(path.name + suffix)
    elif suffix and case == "in a file":
        path = path.with_name("b" + suffix)
    elif suffix:
        (tmp_path / f"link{suffix}").symlink_to(path)
        path = tmp_path / f"link{suffix}"
    command, option = flag.split()
    others = ["--out", str(tmp_path / "fine")] if option == "--images" else []
    assert cli.main([command, *others, option, str(path)]) == 2
    assert re.search(rf"cannot write .*({message})", capsys.readouterr().err)
    assert work == []


def test_out_and_images_must_be_two_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Digits, "evaluate", lambda *_: {"measures": {}})
    (tmp_path / "b.npz").symlink_to(tmp_path / "a.npz")
    for images in ("a.npz", "b.npz", "./a.npz"):
        arguments = ["--out", str(tmp_path / "a.npz"), "--images", f"{tmp_path}/{images}"]
        assert cli.main(["evaluate", *arguments]) == 2
        assert "--out and --images must be two files" in capsys.readouterr().err


def saved_in(said: str) -> Path:
    return Path(re.search(r"the result is in (\S+)", one_line(said))[1])


def test_a_picture_that_no_longer_fits_is_saved_elsewhere(trained, tmp_path, capsys, monkeypatch):
    """The disk had room when the work began; the old picture stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with small_disk(tmp_path / "disk") as disk:
        (disk / "x.npz").write_bytes(b"before")
        fill(disk, leave=12_000)
        arguments = ["--out", str(disk / "x.npz"), "--n", "40", *FEW]
        assert cli.main(["sample", "--checkpoint", str(trained), *arguments]) == 1
        said = capsys.readouterr().err
        assert re.search("cannot write .*x.npz: No space left on device; the result is in", said)
        assert (disk / "x.npz").read_bytes() == b"before"
    assert len(np.load(saved_in(said))["images"]) == 40


def test_measures_and_images_that_no_longer_fit_are_saved_elsewhere(
    trained, tmp_path, capsys, monkeypatch, few_digits
):
    """And all measures are printed first."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    evaluate = Digits.evaluate
    with small_disk(tmp_path / "disk") as disk:

        def filling(*args):
            fill(disk)
            return evaluate(*args)

        monkeypatch.setattr(Digits, "evaluate", filling)
        arguments = ["--out", str(disk / "r.json"), "--images", str(disk / "x.npz"), *SHORT]
        assert cli.main(["evaluate", str(trained), *arguments]) == 1
        assert {path.name for path in disk.iterdir()} == {"filling"}
    out, err = capsys.readouterr()
    images, results = (saved_in(line) for line in err.splitlines() if "result is in" in line)
    assert len(np.load(images)["images"]) == 20
    found = json.loads(results.read_text())
    assert all(f"{name} " in out for name in found["measures"]) and str(results) in out


def test_where_the_digits_are_kept_nothing_else_is_left(trained, tmp_path, few_digits):
    flags = ["--out", str(tmp_path / "r.json"), "--images", str(tmp_path / "x.npz"), *SHORT]
    assert cli.main(["evaluate", str(trained), *flags]) == 0
    assert sorted(os.listdir(tmp_path)) == ["r.json", "x.npz"]
