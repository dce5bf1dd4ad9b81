"""One's own pictures: what becomes of each, which class it has, and what is said of it."""

import numpy as np
import pytest
import torch
from albums import BLUE, COLOURS, GREEN, GREYS, RED, image, npz, save
from PIL import Image

from ddpm_lite.data import images as module
from ddpm_lite.data import mnist, pictures
from ddpm_lite.tasks import write_images


@pytest.fixture
def one(tmp_path):
    """What becomes of one picture: uint8 [H, W], or [H, W, 3] in colour."""

    def fitted(picture, size: int = 8, channels: int = 3, name: str = "x.png", **options):
        for old in (tmp_path / "one").glob("*"):
            old.unlink()
        save(tmp_path / "one" / name, picture, **options)
        found = pictures(tmp_path / "one", size, channels)
        assert found.images.shape == (1, channels, size, size) and found.labels is None
        return found.images[0].permute(1, 2, 0).squeeze(2).numpy()

    return fitted


# ---- a picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [COLOURS, GREYS], ids=["colour", "grey"])
def test_a_picture_that_fits_is_not_touched(one, tmp_path, pixels):
    channels = 3 if pixels.ndim == 3 else 1
    assert np.array_equal(one(pixels, channels=channels), pixels)
    found = pictures(npz(tmp_path / "x.npz", images=pixels[None]), 8, channels)
    assert np.array_equal(found.images[0].permute(1, 2, 0).squeeze(2), pixels)


@pytest.mark.parametrize("upright", [False, True])
def test_the_shorter_side_is_resized_and_the_middle_cut_out(one, upright):
    wide = image(GREEN, 96, 32)
    wide.paste(RED, (0, 0, 32, 32)), wide.paste(BLUE, (64, 0, 96, 32))
    picture = wide.transpose(Image.Transpose.ROTATE_90) if upright else wide
    middle = one(picture, 32)
    assert (middle == GREEN).all()
    inner = one(picture, 16)[2:-2, 2:-2]  # a row at the edge sees its neighbours
    assert (inner == GREEN).all()


def test_a_pixel_of_a_smaller_picture_is_a_mean_of_many(one):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    small = one(noise, 8, 1).astype(float)
    assert abs(small.mean() - noise.mean()) < 3
    assert small.std() < noise.std() / 4  # nearest pixels would keep it


def test_colours_become_grey_and_grey_colours(one):
    luma = [round(0.299 * 255), round(0.587 * 255), round(0.114 * 255)]  # ITU-R 601
    for colour, grey in zip((RED, GREEN, BLUE), luma, strict=True):
        assert (one(image(colour), channels=1) == grey).all()
    assert np.array_equal(one(GREYS), GREYS[..., None].repeat(3, 2))


def test_what_is_transparent_lies_on_white(one):
    assert (one(image((255, 0, 0, 0), mode="RGBA")) == 255).all()
    assert (one(image((255, 0, 0, 255), mode="RGBA")) == RED).all()
    assert np.allclose(one(image((255, 0, 0, 102), mode="RGBA")), (255, 153, 153), atol=1)
    assert (one(image((0, 0), mode="LA"), channels=1) == 255).all()
    palette = image(0, mode="P")
    palette.putpalette([*RED, *GREEN])
    assert (one(palette) == RED).all()
    assert (one(palette, transparency=0) == 255).all()


def test_exif_turns_a_picture_as_a_viewer_does(one):
    turns = {3: "ROTATE_180", 6: "ROTATE_90", 8: "ROTATE_270", 2: "FLIP_LEFT_RIGHT"}
    for orientation, turn in turns.items():  # as a camera stores it: turned the other way
        stored = Image.fromarray(COLOURS).transpose(getattr(Image.Transpose, turn))
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert np.array_equal(one(stored, exif=exif), COLOURS), orientation


def test_of_16_bits_the_upper_8_are_kept(one):
    for pixels in (GREYS.astype(np.uint16) * 257, GREYS.astype(np.int32) * 257):
        assert np.array_equal(one(pixels, channels=1, name="x.tif"), GREYS)
    assert np.array_equal(one(GREYS.astype(np.uint16) * 257, name="x.tif")[..., 2], GREYS)


def test_the_first_frame_is_taken(one):
    frames = {"save_all": True, "append_images": [image(GREEN), image(BLUE)]}
    assert (one(image(RED), name="x.gif", **frames) == RED).all()


def test_a_large_jpeg_is_read_at_a_lower_size_and_looks_the_same(one):
    rows, columns = np.mgrid[0:512, 0:512]
    wave = (127 + 120 * np.sin(rows / 4) * np.cos(columns / 6)).astype(np.uint8)
    fast, exact = one(wave, 128, 1, "x.jpg"), one(wave, 128, 1)
    assert exact.std() > 40 and np.abs(fast.astype(int) - exact).mean() < 1.5


# ---- a folder ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Two classes, in pictures of one colour each; and much that is no picture."""
    root = tmp_path / "some"
    for name in ("3.png", "10.PNG", "deep/er/1.jpg"):
        save(root / "b red" / name, image(RED))
    for name in ("1.bmp", "2.webp"):
        save(root / "a blue" / name, image(BLUE), **({"lossless": True} if "webp" in name else {}))
    for name in (".DS_Store", "a blue/.DS_Store", "a blue/._1.png", ".git/x.png", "b red/x.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"nothing")
    (root / "empty").mkdir()
    return root


def test_folders_are_classes_in_the_order_of_their_names(folder, recwarn):
    found = pictures(folder, 8, 3)
    assert found.names == ("a blue", "b red") and found.labels.tolist() == [0, 0, 1, 1, 1]
    assert found.images.dtype == torch.uint8 and found.labels.dtype == torch.int64
    means = found.images.double().mean((2, 3))
    for label, colour in enumerate((BLUE, RED)):
        assert (means[found.labels == label] - torch.tensor(colour)).abs().max() < 3
    assert not recwarn.list, "what is hidden is none of ours, in silence"


def test_all_that_is_done_is_said_once(folder):
    said = pictures(folder, 8, 3).said
    assert said[0] == f"5 pictures in {folder}, 2 classes: a blue (2), b red (3)"
    assert said[1:] == (
        "left out, as no pictures: 1 (.txt)",
        "folders without a picture are left out: empty",
        "folders within a class are part of it, no classes: b red/deep/er",
        "all are 8 x 8 pixels, as the network takes them",
    )
    save(folder / "a blue" / "3.png", image((0, 0), 5, 9, "LA"))
    sizes, done = pictures(folder, 16, 3).said[-2:]
    assert sizes == (
        "they are 5 x 9 to 8 x 8 pixels: resized so that the shorter side is 16, and the middle "
        "cut out"
    )
    assert done == (
        "some are smaller, and enlarged (6); grey, and made coloured (1); transparent, and put on "
        "white (1)"
    )


def test_pictures_that_cannot_be_read_are_skipped_and_named(folder):
    whole = (folder / "b red" / "3.png").read_bytes()
    (folder / "a blue" / "0.png").write_bytes(b"nothing")
    (folder / "b red" / "4.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b red" / "link.png").symlink_to("nowhere.png")
    for n in range(4):
        (folder / "b red" / f"z{n}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.warns(UserWarning) as said:
        found = pictures(folder, 8, 3)
    assert found.labels.tolist() == [0, 0, 1, 1, 1] and len(found.images) == 5
    (message,) = [str(warning.message) for warning in said]
    assert message.startswith(f"7 of the 12 pictures in {folder} are skipped: a blue/0.png (no pic")
    assert "b red/link.png (no regular file)" in message and message.endswith(", and 2 more")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_bar_shows_the_progress_of_many(folder, tmp_path, capsys, monkeypatch, kind):
    path = folder if kind == "folder" else npz(tmp_path / "x.npz", images=COLOURS[None])
    pictures(path, 16, 3)
    assert not capsys.readouterr().err
    monkeypatch.setattr(module, "MANY", 0)
    pictures(path, 16, 3, bar=False)
    assert not capsys.readouterr().err
    pictures(path, 16, 3)
    assert "picture/s]" in capsys.readouterr().err


# ---- a file --------------------------------------------------------------------------------------


def test_a_file_may_hold_its_colours_first_or_last(tmp_path):
    last = np.stack([COLOURS, COLOURS[::-1]])
    first = last.transpose(0, 3, 1, 2)
    found = [
        pictures(npz(tmp_path / "x.npz", images=x), 8, 3).images
        for x in (last, first, np.concatenate([last, np.full_like(last[..., :1], 255)], 3))
    ]
    assert all(torch.equal(x, torch.from_numpy(first)) for x in found)
    grey = pictures(npz(tmp_path / "x.npz", images=last[..., :1]), 8, 1).images
    assert torch.equal(grey, torch.from_numpy(first[:, :1]))


def test_labels_are_numbers_with_names_or_names(tmp_path):
    x, cat_dog = np.zeros((4, 8, 8), np.uint8), np.array(["cat", "dog"])
    numbers = np.array([1, 0, 0, 1], np.uint8)
    for more, names in [
        ({"labels": numbers}, ("0", "1")),
        ({"labels": numbers, "names": cat_dog}, ("cat", "dog")),
        ({"labels": cat_dog[numbers]}, ("cat", "dog")),
    ]:
        found = pictures(npz(tmp_path / "x.npz", images=x, **more), 8, 1)
        assert found.names == names and found.labels.tolist() == [1, 0, 0, 1]
        assert found.labels.dtype == torch.int64
    assert pictures(npz(tmp_path / "x.npz", images=x), 8, 1)[1:3] == (None, ())


def test_what_was_drawn_can_be_trained_on(tmp_path):
    images, labels = mnist("test")
    for some in (images[:100], images[:100, None].repeat(1, 3, 1, 1)):
        write_images(tmp_path / "x.npz", some, labels[:100])
        found = pictures(tmp_path / "x.npz", 28, 3 if some.ndim == 4 else 1)
        assert torch.equal(found.images.squeeze(1), some)
        assert torch.equal(found.labels, labels[:100])


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_more_than_2_GB_are_refused_before_they_are_read(folder, tmp_path, monkeypatch, kind):
    path = folder if kind == "folder" else npz(tmp_path / "x.npz", images=COLOURS[None])
    with pytest.raises(
        ValueError, match=r"of 3 x 32768 x 32768 are \d+.0 GB of pixels, and at most 2"
    ):
        pictures(path, 32768, 3)
    monkeypatch.setattr(module, "MOST", 300)
    with pytest.raises(
        ValueError, match="its arrays are" if kind == "file" else "5 pictures of 1 x"
    ):
        pictures(path, 8, 1)
