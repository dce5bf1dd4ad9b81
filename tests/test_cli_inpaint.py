"""ddpm-lite sample with guidance, without labels, and of a part of a picture."""

import re

import numpy as np
import pytest
import torch
from commands import FEW, TINY, one_line, sample, train
from PIL import Image

from ddpm_lite import cli
from ddpm_lite.guidance import classifier_free
from ddpm_lite.tasks import Drawing, draw, load_pretrained


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert train(folder) == 0
    return folder


@pytest.fixture
def files(tmp_path):
    """Pictures and masks: the upper half of the mask is black, the lower white."""
    pixels = torch.arange(28 * 28).reshape(28, 28).remainder(256).byte()
    mask = torch.zeros(28, 28, dtype=torch.uint8)
    mask[14:] = 255
    Image.fromarray(pixels.numpy()).save(tmp_path / "x.png")
    Image.fromarray(pixels.numpy()).convert("RGB").save(tmp_path / "colour.png")
    Image.fromarray(mask.numpy()).save(tmp_path / "mask.png")
    Image.fromarray(mask.numpy()[:20]).save(tmp_path / "short.png")
    Image.fromarray(0 * mask.numpy()).save(tmp_path / "black.png")
    np.savez(tmp_path / "three.npz", images=torch.stack([pixels, 255 - pixels, mask]).numpy())
    np.savez(tmp_path / "mask.npz", mask=mask.numpy() > 0)
    np.savez(tmp_path / "two.npz", a=mask.numpy(), b=mask.numpy())
    np.savez(tmp_path / "real.npz", images=mask.float().numpy())
    (tmp_path / "text.npz").write_text("no")
    return tmp_path


def arrays(path):
    return dict(np.load(path))


def test_guidance_reaches_the_drawing(trained, tmp_path):
    found = arrays(sample(trained, tmp_path / "x.npz", *FEW, "--digits", "38", "--guidance", "3"))
    model, labels = load_pretrained(trained), torch.tensor([3, 8])
    (drawn,) = draw(model, labels, Drawing(steps=3, guidance=3.0))
    assert np.array_equal(found["images"], drawn.numpy())
    (plain,) = draw(model, labels, Drawing(steps=3))
    assert not np.array_equal(found["images"], plain.numpy())
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([5, 9])
    guided = classifier_free(model, labels, 3.0)(x, t)
    torch.testing.assert_close(guided, 3 * model(x, t, labels) - 2 * model(x, t))


def test_none_draws_without_labels_and_so_does_guidance_0(trained, tmp_path):
    none = arrays(sample(trained, tmp_path / "a.npz", *FEW, "--digits", "none", "--n", "4"))
    assert set(none) == {"images"} and none["images"].shape == (4, 28, 28)
    zero = arrays(sample(trained, tmp_path / "b.npz", *FEW, "--guidance", "0", "--n", "4"))
    assert np.array_equal(none["images"], zero["images"])


@pytest.mark.parametrize("image", ["x.png", "colour.png"])
@pytest.mark.parametrize("mask", ["mask.png", "mask.npz"])
def test_what_is_black_in_the_mask_stays(trained, files, image, mask):
    flags = ["--inpaint", str(files / image), "--mask", str(files / mask), "--n", "4", *FEW]
    found = arrays(sample(trained, files / "out.npz", *flags))["images"]
    given = np.array(Image.open(files / "x.png"))
    assert (found[:, :14] == given[:14]).all()
    assert all((one[14:] != given[14:]).any() for one in found)
    assert (found[0] != found[1]).any()


def test_several_pictures_are_completed_one_by_one(trained, files):
    flags = ["--inpaint", str(files / "three.npz"), "--mask", str(files / "mask.png"), *FEW]
    for more, labels in (["--digits", "none"], None), (["--digits", "7"], [7, 7, 7]):
        found = arrays(sample(trained, files / "out.npz", *flags, *more))
        given = arrays(files / "three.npz")["images"]
        assert (found["images"][:, :14] == given[:, :14]).all()
        assert labels is None or found["labels"].tolist() == labels


WRONG = {
    "size": (
        "x.png short.png",
        "short.png must be 28 x 28 pixels, .*, got 28 x 20",
    ),
    "black": ("x.png black.png", "leaves nothing to draw: make white what is to be drawn"),
    "names": ("two.npz mask.png", "must hold an array 'images', got a, b"),
    "dtype": ("real.npz mask.png", "must hold images of pixels 0..255 .uint8., got float32"),
    "count": ("three.npz mask.png --n 2", "3 images to inpaint, but 2 to draw: --n is theirs"),
    "sampler": ("x.png mask.png --sampler dpm", "sampler must be ddim or ddpm here"),
    "resample": ("x.png mask.png --resample 0", "resample must be a whole number of at least 1"),
    "damaged": ("text.npz mask.png", "text.npz is no .npz file"),
    "missing": ("nowhere.png mask.png", "No such file or directory: .*nowhere.png"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(trained, files, capsys, case):
    (image, mask, *more), message = WRONG[case][0].split(), WRONG[case][1]
    flags = ["--inpaint", str(files / image), "--mask", str(files / mask), *more, *FEW]
    out = ["--out", str(files / "out.png")]
    code = cli.main(["sample", "--checkpoint", str(trained), *flags, *out])
    said = one_line(capsys.readouterr().err)
    assert code == (1 if case == "missing" else 2), said
    assert re.search(message, said), said
    assert not (files / "out.png").exists()


def test_a_model_that_saw_all_labels_cannot_be_guided(tmp_path, capsys):
    folder = tmp_path / "run"
    assert train(folder, "--label-dropout", "0", steps=2) == 0 and TINY.label_dropout
    for flags, message in (
        (["--guidance", "2"], "guidance needs a model that saw hidden labels too"),
        (["--digits", "none"], "this model never saw a hidden label"),
    ):
        arguments = ["--checkpoint", str(folder), *FEW, "--out", str(tmp_path / "x.png")]
        assert cli.main(["sample", *arguments, *flags]) == 2
        assert message in one_line(capsys.readouterr().err)
