"""What drawn pictures are measured by: the loss, copies, and what a classifier sees."""

from dataclasses import replace

import pytest
import torch
from albums import album, finished, having, noise, npz, small
from torch.testing import assert_close

from ddpm_lite import tasks
from ddpm_lite.data import mnist
from ddpm_lite.networks import Classifier
from ddpm_lite.tasks import Asked, Classify, Drawing, likeness
from ddpm_lite.training import CheckpointError, TrainConfig


def test_the_loss_in_each_part_is_that_of_its_times():
    """A new network returns x_0_hat = 0: then (eps - eps_hat)^2 is snr x_0^2."""
    dark = torch.where(torch.arange(20) < 12, 0, 102)[:, None, None, None].byte()
    task = having(dark.expand(20, 3, 8, 8), held=range(12, 20), output="x_0")
    found = likeness.losses(task, task.build().eval())
    snr = task.schedule.snr[1:].tolist()
    assert [*found] == ["loss", *(f"loss_{t}_{t}" for t in range(1, 11))]
    for t, ratio in enumerate(snr, 1):
        assert_close(found[f"loss_{t}_{t}"]["trained_on"], ratio, rtol=1e-3, atol=0)
        assert_close(found[f"loss_{t}_{t}"]["value"], 0.04 * ratio, rtol=1e-3, atol=0)
    assert_close(found["loss"]["trained_on"], sum(snr) / 10, rtol=1e-3, atol=0)
    long = replace(task, T=1000)
    vars(long).update(pictures=task.pictures, held=torch.zeros(20, dtype=torch.bool))
    found, snr = likeness.losses(long, long.build().eval()), long.schedule.snr
    assert [*found][1:3] == ["loss_1_100", "loss_101_200"] and [*found["loss"]] == ["value"]
    assert snr[200] < found["loss_101_200"]["value"] / (12 + 8 * 0.04) * 20 < snr[101]


def test_copies_are_at_distance_0_and_others_where_they_are(monkeypatch):
    images = noise(40)
    task = having(images, held=range(30, 40))
    found = likeness.copies(task, images[:5])
    assert found["nearest_median"]["value"] == found["nearest_least"]["value"] == 0
    flat = images.flatten(1).double() / 255
    distances = torch.cdist(flat[30:], flat[:30]).min(1).values
    assert_close(found["nearest_median"]["real"], float(distances.median()))
    assert_close(found["nearest_least"]["real"], float(distances.min()))
    monkeypatch.setattr(likeness, "SLICE", 7 * 3 * 64)  # some at a time: the same
    assert likeness.copies(task, images[:5]) == found
    others = torch.cdist(flat, flat).kthvalue(2).values
    real = likeness.copies(having(images), images[:5])["nearest_least"]["real"]
    assert_close(real, float(others.min()))


def test_half_of_the_pictures_is_as_far_from_the_other_as_the_floor():
    images, labels = noise(40), torch.arange(40) % 2
    task, rows = having(images, labels), torch.arange(40).flip(0)
    torch.manual_seed(0)
    judge = Classifier(2, width=2, features=5, size=8, channels=3).eval()
    found = likeness._seen(task, judge, task.names, images[rows[:20]], rows)
    assert found["frechet"]["value"] == found["frechet"]["real"] > 0
    assert found["kid"]["value"] == found["kid"]["real"]
    assert found["accuracy"]["value"] == pytest.approx(
        float((judge(images[rows[:20]] / 127.5 - 1).argmax(1) == labels[rows[:20]]).double().mean())
    )
    far = likeness._seen(task, judge, ("b", "c"), images[rows[20:]], rows)
    assert far["frechet"]["value"] < 1e-3 * far["frechet"]["real"] and "accuracy" not in far


def test_a_classifier_is_trained_where_there_are_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(likeness, "SMALL", TrainConfig(steps=20, batch_size=16, lr=4e-3))
    task = small(album(tmp_path, 30)).begun()
    model, state = task.build().eval(), torch.get_rng_state()
    found = task.evaluate(model, Asked(Drawing(steps=2), n=1000))
    assert torch.equal(torch.get_rng_state(), state)
    assert found["drawing"]["n"] == 30, "as many as half of the pictures"
    assert found["data"] == {"pictures": 60, "held_out": 6}
    measures = found["measures"]
    assert measures["accuracy"]["real"] == 1 and measures["accuracy"]["value"] < 1
    assert 0 < measures["frechet"]["real"] < measures["frechet"]["value"] / 5
    assert found["notes"] == ["the classifier was trained now, in 20 steps, on the same pictures"]


def test_without_classes_and_classifier_there_is_no_frechet_distance_but_a_note():
    found = likeness.likeness(
        task := having(noise(8)), task.build().eval(), Asked(Drawing(steps=2), n=4)
    )
    assert not {"frechet", "accuracy"} & found["measures"].keys()
    assert found["notes"][0].startswith("no Frechet distance: there are no classes")
    assert found["notes"][1].startswith("no picture was held out")


def test_a_classifier_of_ones_own_pictures_is_trained_and_given(tmp_path):
    train = TrainConfig(steps=40, batch_size=16, lr=1e-2, ema_decay=0.8, log_every=20)
    data = album(tmp_path / "x", 30)
    options = {"size": 8, "channels": 3, "width": 4, "features": 8, "save_every": 20}
    finished(tmp_path / "run", Classify(data=str(data), train=train, **options))
    data.rename(tmp_path / "y")
    data, (reads, model) = tmp_path / "y", tasks.load_task(tmp_path / "run")
    assert reads.evaluate(model, Asked(data=data))["measures"]["test_accuracy"]["value"] == 1
    task = small(data).begun()
    asked = Asked(Drawing(steps=2), n=8, classifier=str(tmp_path / "run"))
    found = task.evaluate(task.build().eval(), asked)
    assert found["measures"]["accuracy"]["real"] == 1 and not found["notes"]


def test_the_images_of_mnist_are_judged_by_its_classifier(tmp_path):
    images, labels = (part[:200] for part in mnist("test"))
    data = npz(tmp_path / "x.npz", images=images, labels=labels)
    task = small(data, size=28, channels=1).begun()
    asked = Asked(Drawing(steps=2), n=20, classifier="classifier")
    measures = task.evaluate(task.build().eval(), asked)["measures"]
    assert measures["accuracy"]["real"] >= 0.9 and measures["frechet"]["value"] > 0


def test_a_classifier_that_cannot_judge_is_refused(tmp_path):
    task = having(noise(8))
    for name, message, error in [
        ("classifier", "size 28 with 1 channels, but these .*8 with 3: train one with", ValueError),
        (
            "digits",
            "must be a checkpoint of kind 'classifier', digits is of 'digits'",
            CheckpointError,
        ),
    ]:
        asked = Asked(Drawing(steps=2), 4, classifier=name)
        with pytest.raises(error, match=message):
            task.evaluate(task.build().eval(), asked)


def test_a_classifier_without_pictures_reads_mnist():
    assert Classify().begun() == Classify()
    with pytest.raises(ValueError, match="28 and 1, those of MNIST, got 32 and 1: or give"):
        Classify(size=32).begun()


def test_of_few_pictures_nothing_is_measured():
    with pytest.raises(ValueError, match="8 pictures or more, .*got 7 in x, and n = 10000"):
        likeness.likeness(having(noise(7)), None, Asked())
    with pytest.raises(ValueError, match="4 or more to be drawn, got 9 in x, and n = 3"):
        likeness.likeness(having(noise(9)), None, Asked(n=3))
