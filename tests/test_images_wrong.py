"""Pictures that cannot be trained on: each an error with its path, and what to do."""

from pathlib import Path

import numpy as np
import pytest
from albums import image, npz, save

from ddpm_lite.data import pictures

X, Y = np.zeros((6, 8, 8), np.uint8), np.array([0, 0, 0, 1, 1, 1])
MIXED = np.array([None, None])
MIXED[:] = [X[0], X[0, :4]]


def file_of(path: Path, **arrays):
    return npz(path / "x.npz", **arrays)


def torn(path: Path, keep: int | None = None):
    """A file that is cut, or one of whose bytes is another."""
    file = file_of(path, images=X)
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content[:keep])
    return file


def text(path: Path, name: str):
    (path / name).write_text("nothing")
    return path


def beside(path: Path):
    save(path / "0.png", image())
    return save(path / "a" / "1.png", image()).parents[1]


def odd(path: Path):
    """A class of one picture; the other of its files is broken."""
    save(path / "a" / "1.png", image()), save(path / "b" / "1.png", image())
    save(path / "b" / "2.png", image()), (path / "a" / "2.png").write_bytes(b"nothing")
    return path


WHAT_IS_WRONG = {
    "nothing": (lambda p: p / "x", r"there is nothing at .*x \(seen from /.*: look at the path"),
    "empty": (lambda p: p, "there is no picture in .*, nor anything: give .* .png, .jpg"),
    "texts": (lambda p: text(p, "x.md"), r"no picture in .*, but other files \(.md\): give"),
    "broken": (
        lambda p: text(p, "x.png"),
        r"none of the 1 pictures in .* can be read: x.png \(no picture\); are they whole",
    ),
    "beside": (beside, r"holds pictures \(1: 0.png\) beside folders .* move them into one"),
    "one": (odd, "the class 'a' of .* has 1 picture that can be read, but a class needs two"),
    "picture": (lambda p: save(p / "x.png", image()), "x.png is neither a folder nor a whole .npz"),
    "cut": (lambda p: torn(p, 300), "x.npz is neither a folder nor a whole .npz file: give"),
    "damaged": (torn, r"x.npz is damaged \(Bad CRC.*: write it anew"),
    "no images": (lambda p: file_of(p, x=X, y=Y), r"x.npz: it has no array `images` \(x, y\)"),
    "mixed": (
        lambda p: file_of(p, images=MIXED),
        "x.npz: .* several sizes. Then give them as files",
    ),
    "floats": (
        lambda p: file_of(p, images=X + 0.5),
        r"`images` of .*got float64 from 0.5 to 0.5: .*255",
    ),
    "shape": (lambda p: file_of(p, images=X[0]), r"must be uint8 \[N, H, W\], .*got \[8, 8\]"),
    "two": (
        lambda p: file_of(p, images=X.reshape(6, 8, 4, 2)),
        r"got \[6, 8, 4, 2\]: C is 1, 3 or",
    ),
    "none": (lambda p: file_of(p, images=X[:0]), r"got \[0, 8, 8\]: .* N 1 or more"),
    "beyond": (
        lambda p: file_of(p, images=X, labels=Y * 9),
        "`labels` of .* must lie in 0..5, as there are 6 pictures, got 0 to 9: number the classes",
    ),
    "negative": (lambda p: file_of(p, images=X, labels=Y - 1), "must lie in 0..5, .* got -1 to 0"),
    "gap": (lambda p: file_of(p, images=X, labels=Y * 2), "the class '1' of .* has 0 pictures"),
    "length": (lambda p: file_of(p, images=X, labels=Y[:5]), r"must be \[6\], one for .*got \[5\]"),
    "column": (lambda p: file_of(p, images=X, labels=Y[:, None]), r"must be \[6\], .*got \[6, 1\]"),
    "reals": (lambda p: file_of(p, images=X, labels=Y / 1), "whole numbers or names, got float64"),
    "names": (
        lambda p: file_of(p, images=X, labels=Y, names=np.array(["a"])),
        "must lie in 0..0, as there are 1 names, got 0 to 1",
    ),
    "twice": (
        lambda p: file_of(p, images=X, labels=Y, names=np.array(["a", "a"])),
        r"`names` of .* must be different words, got \['a', 'a'\]",
    ),
}


@pytest.mark.parametrize("name", WHAT_IS_WRONG)
@pytest.mark.filterwarnings("ignore:.*are skipped")
def test_what_cannot_be_trained_on_is_an_error_with_its_path(tmp_path, name):
    make, message = WHAT_IS_WRONG[name]
    path = make(tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        pictures(path, 8, 1)
    assert str(path) in str(raised.value)
