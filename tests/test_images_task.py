"""The task on one's own pictures: which are trained on, and from which model one samples."""

from dataclasses import replace

import pytest
import torch
from albums import QUICK, SMALL, album, finished, noise, npz, small
from strategies import bad, check_bad

from ddpm_lite import tasks
from ddpm_lite.data import mnist
from ddpm_lite.networks import Classifier
from ddpm_lite.tasks import PRESETS, Asked, Digits, Drawing, likeness
from ddpm_lite.training import CheckpointError, run


def keys(images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


# ---- held out ------------------------------------------------------------------------------------


def test_a_tenth_of_each_class_is_held_out(tmp_path):
    task = small(album(tmp_path, 60))
    assert task.pictures.labels[task.held].bincount().tolist() == [6, 6]
    assert int(replace(task, held_out=0.25).held.sum()) == 30
    assert not replace(task, held_out=0.0).held.any()


@pytest.mark.parametrize(("each", "held"), [(24, 0), (25, 4)])
def test_of_fewer_than_fifty_none_is_held_out(tmp_path, each, held):
    assert int(small(album(tmp_path, each)).held.sum()) == held


def test_the_same_pictures_are_held_out_in_any_order_and_under_any_name(tmp_path):
    task = small(album(tmp_path / "x", 60))
    images, labels, names, _ = task.pictures
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    other = npz(tmp_path / "y.npz", images=images[order], labels=1 - labels[order])
    again = small(other)
    assert again.names != names
    assert keys(images[task.held]) == keys(again.pictures.images[again.held])


def test_what_is_held_out_is_never_drawn_and_all_else_is_with_its_label(tmp_path):
    task = small(album(tmp_path, 30), label_dropout=0.0)
    images, labels, *_ = task.pictures
    drawn, y = task.source(torch.device("cpu"))(3000, torch.Generator().manual_seed(0))
    seen = ((drawn + 1) * 127.5).round().byte()
    assert keys(seen) == keys(images[~task.held]) and keys(seen).isdisjoint(keys(images[task.held]))
    red = seen[:, 0].double().mean((1, 2)) > 127
    assert torch.equal(y, red.long()) and task.pictures.names == ("blue", "red")
    hidden = replace(task, label_dropout=1.0).source(torch.device("cpu"))
    assert (hidden(9, torch.Generator())[1] == 2).all(), "the label of none comes after the classes"


# ---- a run ---------------------------------------------------------------------------------------


def test_a_run_learns_the_classes_and_says_what_it_trains_on(tmp_path, capsys):
    facts = finished(tmp_path / "run", small(album(tmp_path / "x", 30))).facts
    assert facts["kind"] == "images" and facts["config"]["names"] == ["blue", "red"]
    said = capsys.readouterr().out
    assert said.count(f"60 pictures in {tmp_path / 'x'}, 2 classes: blue (30), red (30)") == 1
    assert said.endswith("54 of them are trained on, 6 held out to measure on\n")


def test_pictures_are_read_once_in_a_run(tmp_path, monkeypatch):
    calls, read = [], tasks.pictured.pictures
    monkeypatch.setattr(
        tasks.pictured, "pictures", lambda *a, **k: calls.append(a) or read(*a, **k)
    )
    finished(
        tmp_path / "run", small(album(tmp_path / "x", 5), train=replace(QUICK, precision="auto"))
    )
    assert len(calls) == 1


def test_a_model_is_sampled_from_without_its_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(likeness, "SMALL", QUICK)
    path = album(tmp_path / "x", 5)
    finished(tmp_path / "run", small(path))
    path.rename(tmp_path / "gone")
    task, model = tasks.load_task(tmp_path / "run")
    assert task.names == ("blue", "red") and model.net.config.classes == 2
    (images,) = task.sample(model, Drawing(steps=2), task.labels("red,blue", 3))
    assert images.shape == (3, 3, 8, 8) and images.dtype == torch.uint8
    with pytest.raises(ValueError, match="there is nothing at .*x"):
        task.evaluate(model, Asked(Drawing(steps=2), n=4))
    assert (
        "loss"
        in task.evaluate(model, Asked(Drawing(steps=2), 4, data=tmp_path / "gone"))["measures"]
    )


def test_pictures_without_classes_need_no_labels(tmp_path):
    finished(tmp_path / "run", small(npz(tmp_path / "x.npz", images=noise(9, 1)), channels=1))
    task, model = tasks.load_task(tmp_path / "run")
    assert task.names == () and model.net.config.classes == 0
    (images,) = task.sample(model, Drawing(steps=2), task.labels(None, 3))
    assert images.shape == (3, 8, 8)


def test_digits_as_pictures_train_as_digits_do(tmp_path, monkeypatch):
    few = tuple(part[:200] for part in mnist("train"))
    monkeypatch.setattr("ddpm_lite.tasks.digits.mnist", lambda split: few)
    network = replace(SMALL, size=28, channels=1, classes=10)
    digits = finished(tmp_path / "a", Digits(network=network, train=QUICK, save_every=2, T=10))
    data = npz(tmp_path / "x.npz", images=few[0], labels=few[1])
    options = {"network": SMALL, "train": QUICK, "save_every": 2, "T": 10, "held_out": 0.0}
    mine = finished(tmp_path / "b", replace(PRESETS["images"]["mnist"], data=str(data), **options))
    assert mine.tensors.keys() == digits.tensors.keys()
    assert all(torch.equal(mine.tensors[k], v) for k, v in digits.tensors.items())


def test_a_run_goes_on_only_with_the_classes_it_began_with(tmp_path):
    path = album(tmp_path / "x", 5)
    finished(tmp_path / "run", small(path))
    task = tasks.resumed(tmp_path / "run")
    assert task.begun() == task
    (path / "red").rename(path / "pink")
    with pytest.raises(ValueError, match="names must be .*, blue, pink, got blue, red: leave them"):
        next(run(tmp_path / "run", task, resume=True))


def test_a_folder_that_holds_a_run_is_refused_before_pictures_are_read(tmp_path):
    finished(tmp_path / "run", small(album(tmp_path / "x", 5)))
    with pytest.raises(CheckpointError, match="holds a run already"):
        next(run(tmp_path / "run", small("no/where")))


def test_classes_are_asked_for_by_name_and_come_in_turn():
    task = small(names=("cat", "dog", "a, b"))
    assert task.labels(None, None).tolist() == [0, 1, 2]
    assert task.labels("dog, cat", 5).tolist() == [1, 0, 1, 0, 1]
    assert task.labels("a, b", 2).tolist() == [2, 2]
    assert small().labels(None, 7) == 7
    assert Digits().labels("38", None).tolist() == [3, 8] and len(Digits().labels(None, 12)) == 12
    assert Digits().labels(None, None).tolist() == list(range(10))


# ---- networks of any size, and bad input ---------------------------------------------------------


@pytest.mark.parametrize("size", [4, 28, 30, 33])
def test_a_classifier_reads_pictures_of_its_size_and_channels(size):
    model = Classifier(3, width=2, features=5, size=size, channels=3).eval()
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 3)
    with pytest.raises(ValueError, match=rf"images \[B, 3, {size}, {size}\], got \[2, 1, 28, 28\]"):
        model(torch.zeros(2, 1, 28, 28))


BAD = [
    bad("channels", lambda: small(channels=4), r"channels must be 1 \(grey\) or 3 .*, got 4"),
    bad("size 0", lambda: small(size=0), "size must be at least 1, got 0"),
    bad("size 30", lambda: small(size=30), "size must be a multiple of 4 .*30.*: to 28 or 32"),
    bad("size 2", lambda: small(size=2), "size must be a multiple of 4 .*got 2: .*: to 4$"),
    bad("held out", lambda: small(held_out=0.6), r"held_out must lie in \[0, 0.5\], got 0.6"),
    bad("names", lambda: small(names=("a", "a")), "names must be different words, got"),
    bad("no words", lambda: small(names=(1, 2)), r"names must be different words, got \(1, 2\)"),
    bad(
        "network",
        lambda: small(network=replace(SMALL, size=8)),
        r"network.size must be left out \(0\), got 8: it is that of the pictures",
    ),
    bad("no data", lambda: small().begun(), "data must name a folder .* --data FOLDER"),
    bad(
        "class", lambda: small(names=("a", "b")).labels("a,c", 1), "no class 'c': choose from a, b"
    ),
    bad("no class", lambda: small().labels("a", 1), "of kind 'images' knows no classes: leave"),
    bad("n", lambda: small().labels(None, 0), "n must be at least 1, got 0"),
    bad("n of a class", lambda: small(names=("a", "b")).labels(None, 0), "at least 1, got 0"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
