"""Images drawn by a trained network: as pixels, as pictures, as files."""

import numpy as np
import pytest
import torch
from PIL import Image
from strategies import bad, check_bad, normal
from torch import nn

from ddpm_lite.networks import MLP, Denoiser, UNet, UNetConfig
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks import Drawing, draw, drawing, gathered, in_turn, write_images
from ddpm_lite.tasks.drawing import grid, image_shape, most_images

SCHEDULE = linear_schedule(12, 0.01, 0.2)


def network(**options) -> Denoiser:
    """A network that draws something: its head is not 0."""
    torch.manual_seed(0)
    net = UNet(UNetConfig(**{"width": 8, "blocks": 1, "embedding": 16, "size": 8} | options))
    nn.init.normal_(net.head.weight, std=0.3)
    return Denoiser(net, SCHEDULE, "v").eval()


def images(model: Denoiser, labels=None, **how) -> torch.Tensor:
    labels = in_turn("01", 4) if labels is None else labels
    return torch.cat(list(draw(model, labels, Drawing(**{"steps": 3} | how))))


def test_a_seed_decides_the_digits_and_nothing_else_moves():
    model, state = network(), torch.get_rng_state()
    assert torch.equal(images(model), images(model, seed=0))
    others = [{"sampler": name} for name in ("ddpm", "dpm")] + [{"shift": 0.1}]
    for other in ({"seed": 1}, {"eta": 0.0}, {"steps": 4}, *others):
        assert not torch.equal(images(model), images(model, **other)), other
    assert torch.equal(torch.get_rng_state(), state)


def test_a_chunk_is_the_same_whatever_follows_it(monkeypatch):
    monkeypatch.setattr(drawing, "CHUNK", 4)
    model, how = network(), Drawing(steps=3)
    few, many = ([*draw(model, in_turn("0123456789", n), how)] for n in (4, 10))
    assert [len(part) for part in many] == [4, 4, 2]
    assert torch.equal(few[0], many[0]) and not torch.equal(many[0], many[1])


def test_each_label_is_asked_for():
    model, labels = network(), torch.tensor([3, 1, 4])
    asked = []
    model.net.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[2]))
    images(model, labels)
    assert len(asked) == 3 and all(torch.equal(y, labels) for y in asked)
    asked.clear()
    assert len(images(model, 3)) == 3 and asked == [None] * 3


def test_colour_images_keep_their_channels():
    model = network(channels=3, classes=0)
    assert images(model, 5).shape == (5, 3, 8, 8) and image_shape(model) == (3, 8, 8)
    assert images(network(), 5).shape == (5, 8, 8) and image_shape(network()) == (1, 8, 8)


def test_pixels_are_the_nearest_of_256_levels(monkeypatch):
    ends = torch.tensor([-1.5, -1.0, 0.0, 1 / 127.5, 1.0, 2.0])
    x_0 = torch.zeros(1, 1, 8, 8)
    x_0.view(-1)[: len(ends)] = ends
    monkeypatch.setattr(drawing, "sample", lambda *_, **__: iter([(0, x_0, x_0)]))
    (found,) = draw(network(), torch.tensor([3]))
    assert found.flatten()[: len(ends)].tolist() == [0, 0, 128, 128, 255, 255]


def test_classes_come_in_turn():
    assert in_turn("380", 7).tolist() == [3, 8, 0, 3, 8, 0, 3]
    assert in_turn([12, 5], 3).tolist() == [12, 5, 12]
    assert in_turn("7", 1).dtype == torch.int64


def test_parts_become_one():
    parts = [torch.arange(3), torch.arange(2)]
    assert gathered(iter(parts), 5, "sample").tolist() == [0, 1, 2, 0, 1]


# ---- pictures ------------------------------------------------------------------------------------


def test_a_picture_holds_each_image_at_its_place():
    few = torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 28, 28) + 1
    page = np.asarray(grid(few, columns=2, gap=1, zoom=2))
    assert page.shape == (114, 114)
    assert page[0, 0] == page[55, 55] == 1 and page[0, 58] == page[55, 113] == 2
    assert page[58, 0] == page[113, 55] == 3 and page[58, 58] == page[56, 0] == page[0, 57] == 0


def test_a_picture_of_colours():
    few = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    few[0, 0], few[1, 2] = 200, 100
    page = np.asarray(grid(few, columns=2, gap=1, zoom=1))
    assert page.shape == (4, 9, 3)
    assert page[0, 0].tolist() == [200, 0, 0] and page[3, 8].tolist() == [0, 0, 100]
    assert page[0, 4].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["a.npz", "a.NPZ", "A.Npz"])
def test_arrays_are_written_whatever_the_case_of_the_name(tmp_path, name):
    few, labels = normal(3, 4, 4).abs().mul(50).byte(), torch.tensor([1, 2, 3])
    write_images(tmp_path / name, few, labels)
    found = np.load(tmp_path / name)
    assert np.array_equal(found["images"], few) and np.array_equal(found["labels"], labels)
    write_images(tmp_path / name, few, None)
    assert set(np.load(tmp_path / name)) == {"images"}


def test_the_most_that_fits_is_what_a_viewer_and_the_memory_take(tmp_path):
    for size, channels in ((28, 1), (32, 3), (128, 3)):
        n = most_images(tmp_path / "a.png", channels, size)
        write_images(tmp_path / "a.png", torch.zeros(2, channels, size, size).byte(), None, 1)
        with Image.open(tmp_path / "a.png") as picture:
            a_row = picture.width * (picture.height + 6) / 2
        assert 0.85 * 80e6 < n * a_row < 1.01 * 80e6
        assert most_images(tmp_path / "a.NPZ", channels, size) == 2**30 // (channels * size**2)


BAD = [
    bad("DDIM", lambda: Drawing(sampler="DDIM"), "sampler must be ddim, ddpm or dpm, got 'DDIM'"),
    bad("euler", lambda: Drawing(sampler="euler"), "sampler must be ddim, ddpm or dpm"),
    bad("precision", lambda: Drawing(precision="fp16"), "precision must be .*, got 'fp16'"),
    bad("eta", lambda: Drawing(eta=2), r"eta must lie in \[0, 1\], got 2"),
    bad("eta NaN", lambda: Drawing(eta=float("nan")), r"eta must lie in \[0, 1\], got nan"),
    bad("shift", lambda: Drawing(shift=0), "shift must be positive, got 0"),
    bad("shift NaN", lambda: Drawing(shift=float("nan")), "shift must be positive, got nan"),
    bad("no step", lambda: Drawing(steps=0), "steps must be a whole number of at least 1, got 0"),
    bad("half", lambda: Drawing(steps=2.5), "steps must be a whole number .* got 2.5"),
    bad("steps > T", lambda: images(network(), steps=99), "steps must be .*T = 12"),
    bad("n", lambda: in_turn("01", 0), "n must be at least 1, got 0"),
    bad("class", lambda: in_turn("12a", 3), "classes must be some of 0123456789, .* got '12a'"),
    bad("none", lambda: in_turn("", 3), "classes must be some of 0123456789, .* got ''"),
    bad("no image", lambda: grid(torch.zeros(0, 4, 4), 3), "needs an image and a column, got 0"),
    bad("no column", lambda: grid(torch.zeros(2, 4, 4), 0), "an image and a column, got 2 and 0"),
    bad("MLP", lambda: next(draw(MLP(), 3)), "model must be a Denoiser.*got a MLP", TypeError),
    bad(
        "MLP inside",
        lambda: next(draw(Denoiser(MLP(), SCHEDULE), 3)),
        "model must hold a UNet, got a MLP",
        TypeError,
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
