"""MNIST: what its authors say of it, and what happens when a file is not as it should be."""

import gzip
import math
import shutil
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from strategies import bad, check_bad
from torch.testing import assert_close

data = import_module("ddpm_lite.data.digits")

COUNTS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@pytest.mark.parametrize("split", COUNTS)
def test_mnist_is_mnist(split):
    """Shapes, counts of the labels, and (train) the mean and standard deviation that all quote."""
    images, labels = data.mnist(split)
    n = sum(COUNTS[split])
    assert images.shape == (n, 28, 28) and images.dtype == torch.uint8
    assert labels.shape == (n,) and labels.dtype == torch.int64
    assert labels.bincount().tolist() == COUNTS[split]
    assert images.min() == 0 and images.max() == 255
    if split == "train":
        assert labels[:5].tolist() == [5, 0, 4, 1, 9]
        histogram = images.flatten().bincount(minlength=256).double() / images.numel()
        levels = torch.arange(256).double() / 255
        mean = (histogram * levels).sum()
        std = (histogram * (levels - mean) ** 2).sum().sqrt()
        assert f"{mean:.4f} {std:.4f}" == "0.1307 0.3081"


def test_images_and_labels_belong_together():
    """A one is thin and a zero is wide: the middle columns tell them apart."""
    images, labels = data.mnist("test")
    ink = images.double().sum((1, 2))
    assert ink[labels == 0].mean() > 2 * ink[labels == 1].mean()
    middle = images[:, 11:17, 13:15].double().mean((1, 2))
    assert middle[labels == 1].mean() > 150 > 50 > middle[labels == 0].mean()


def test_returned_tensors_are_copies():
    images, labels = data.mnist("test")
    images.zero_(), labels.zero_()
    again, labels_again = data.mnist("test")
    assert again.max() == 255 and labels_again.max() == 9


def test_to_unit_maps_pixels_to_minus_one_to_one():
    pixels = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    unit = data.to_unit(pixels)
    assert unit.dtype == torch.get_default_dtype()
    assert_close(unit, torch.tensor([[-1.0, -0.6, 1.0]]))
    assert torch.equal(data.to_bytes(unit), pixels)


def test_to_bytes_takes_the_nearest_of_256_levels():
    x = torch.tensor([-1.5, -1.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.3, 0.999, 1.0, 2.0])
    assert data.to_bytes(x).tolist() == [0, 0, 0, 1, 166, 255, 255, 255]
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(data.to_bytes(data.to_unit(every)), every)


# Each image shows its own number, and so does its label.
NUMBERED = torch.arange(50, dtype=torch.uint8)[:, None, None].expand(50, 28, 28).contiguous()
NUMBERS = torch.arange(50)


def drawn(n: int, seed: int = 0, **options) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The numbers of n drawn images, their labels y, and x_0."""
    draw = data.labelled(NUMBERED, NUMBERS, **{"null": 50} | options)
    x_0, y = draw(n, torch.Generator().manual_seed(seed))
    assert (x_0 == x_0[:, :, :1, :1]).all()
    return ((x_0[:, 0, 0, 0] + 1) * 127.5).round().long(), y, x_0


def test_drawn_images_have_their_labels():
    numbers, y, x_0 = drawn(500)
    assert torch.equal(numbers, y) and y.dtype == torch.int64
    assert x_0.shape == (500, 1, 28, 28) and x_0.dtype == torch.get_default_dtype()
    assert_close(x_0[:, 0], data.to_unit(NUMBERED[y]), rtol=0, atol=0)


def test_images_are_drawn_uniformly_with_replacement():
    counts = torch.zeros(50)
    draw = data.labelled(NUMBERED, NUMBERS, null=50)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        counts += draw(500, generator)[1].bincount(minlength=50)
    chi_square = ((counts - 100) ** 2 / 100).sum()
    assert abs(chi_square - 49) < 4 * math.sqrt(2 * 49)
    assert (drawn(50)[0].bincount() > 1).any()


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_the_labels_is_hidden_whatever_they_are(dropout):
    numbers, y, _ = drawn(4000, dropout=dropout, null=99)
    hidden = y == 99
    assert torch.equal(y[~hidden], numbers[~hidden])
    for share in (hidden, hidden[numbers < 10]):
        error = math.sqrt(dropout * (1 - dropout) / len(share))
        assert abs(share.double().mean() - dropout) <= 4 * error
    assert torch.equal(numbers, drawn(4000, dropout=0.0)[0]), "dropout changed the images"


def test_the_null_label_is_the_class_after_the_digits():
    few = data.labelled(NUMBERED[:10], NUMBERS[:10], dropout=1.0)
    assert (few(9, torch.Generator())[1] == 10).all()


def test_without_labels_images_come_alone_and_colours_stay():
    colours = NUMBERED[:, None].expand(50, 3, 28, 28)
    (x_0,) = data.labelled(colours, None)(4, torch.Generator().manual_seed(0))
    assert x_0.shape == (4, 3, 28, 28) and (x_0[:, 0] == x_0[:, 2]).all()


def test_a_generator_decides_the_draw_and_nothing_else():
    state = torch.get_rng_state()
    for a, b in zip(drawn(20, 3, dropout=0.5), drawn(20, 3, dropout=0.5), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(drawn(20, 3)[0], drawn(20, 4)[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_only_the_drawn_images_leave_their_bytes(monkeypatch):
    """60,000 images take 47 MB as bytes, and four times that as floats."""
    seen, to_unit = [], data.to_unit
    monkeypatch.setattr(data, "to_unit", lambda images: seen.append(images) or to_unit(images))
    drawn(7)
    assert [(images.dtype, len(images)) for images in seen] == [(torch.uint8, 7)]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the test split, where files can be damaged; read instead of the package."""
    folder = tmp_path / "assets" / "mnist"
    folder.mkdir(parents=True)
    for file in (Path(str(files("ddpm_lite"))) / "assets" / "mnist").glob("t10k-*"):
        shutil.copy(file, folder)
    monkeypatch.setattr(data, "files", lambda name: tmp_path)
    data._mnist.cache_clear()
    yield folder
    data._mnist.cache_clear()


def test_the_copy_is_read(package):
    assert data.mnist("test")[1].bincount().tolist() == COUNTS["test"]
    with pytest.raises(data.DataError, match="missing: .*train-images"):
        data.mnist("train")


def changed(content: bytes) -> bytes:
    """One label, or one pixel, of the unzipped file is another one."""
    plain = bytearray(gzip.decompress(content))
    plain[-1] ^= 1
    return gzip.compress(bytes(plain), compresslevel=1)


DAMAGE = {
    "truncated": (lambda content: content[: len(content) // 2], "is damaged"),
    "empty": (lambda content: b"", "is damaged|wrong content"),
    "not gzip": (lambda content: b"<html>404</html>", "is damaged"),
    "bits flipped": (
        lambda c: c[:999] + bytes(255 - b for b in c[999:1999]) + c[1999:],
        "is damaged",
    ),
    "another file": (lambda content: gzip.compress(b"hello"), "wrong content .SHA-256"),
    "one value": (changed, "wrong content .SHA-256"),
}


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_with_what_to_do(package, name, damage):
    file = package / name
    change, message = DAMAGE[damage]
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(
        data.DataError, match=f"({message}).*{name}; reinstall ddpm_lite, or restore"
    ):
        data.mnist("test")


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_a_missing_file_is_named_with_what_to_do(package, name):
    (package / name).unlink()
    with pytest.raises(data.DataError, match=f"missing: .*{name}; reinstall ddpm_lite, or restore"):
        data.mnist("test")


BAD = [
    bad(
        "bytes of bytes",
        lambda: data.to_bytes(torch.zeros(2, dtype=torch.uint8)),
        "float",
        TypeError,
    ),
    bad("bytes of nothing", lambda: data.to_bytes(torch.tensor([math.nan])), "finite"),
    bad("split", lambda: data.mnist("valid"), "split must be 'train' or 'test', got 'valid'"),
    bad("split None", lambda: data.mnist(None), "split must be 'train' or 'test', got None"),
    bad("labels", lambda: data.labelled(NUMBERED, NUMBERS[:9], null=50), r"\[50\], got .*\[9\]"),
    bad(
        "floats", lambda: data.labelled(NUMBERED, NUMBERS.float(), null=50), "labels must be int64"
    ),
    bad(
        "classes beyond null",  # hidden labels would have trained class 10
        lambda: data.labelled(NUMBERED[:26], NUMBERS[:26]),
        r"labels must lie in 0..9, got values from 0 to 25",
    ),
    bad("below", lambda: data.labelled(NUMBERED, NUMBERS - 1, null=50), "lie in 0..49, got .*-1"),
    bad("no image", lambda: data.labelled(NUMBERED[:0], NUMBERS[:0]), r"N >= 1, got .*\[0, 28"),
    bad(
        "one image", lambda: data.labelled(NUMBERED[0], NUMBERS[:1]), r"\[N, H, W\] or .*\[28, 28\]"
    ),
    bad("dropout", lambda: drawn(3, dropout=1.1), r"dropout must lie in \[0, 1\], got 1.1"),
    bad("dropout NaN", lambda: drawn(3, dropout=math.nan), "dropout must lie in .*got nan"),
    bad(
        "float images",
        lambda: data.labelled(NUMBERED.float(), NUMBERS, null=50),
        "images must be uint8 .*float32",
    ),
    bad(
        "floats", lambda: data.to_unit(torch.zeros(2)), "images must be uint8 .*float32", TypeError
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
