"""One's own pictures, out of a folder or a file, with the classes they belong to."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from .fitting import Fit

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MOST = 2**31  # bytes of pixels
MANY = 1000  # pictures: beyond, a bar shows the progress
SAVE = "np.savez(path, images=..., labels=...)"


class Pictures(NamedTuple):
    """images: uint8 [N, C, size, size]; labels: int64 [N], or None where there are no classes;
    names: of the classes; said: what they are and what was done to them, in sentences."""

    images: Tensor
    labels: Tensor | None
    names: tuple[str, ...]
    said: tuple[str, ...]


def pictures(path: str | Path, size: int, channels: int, bar: bool = True) -> Pictures:
    """All pictures of a folder or of a .npz file, each read once; bar: show how far it is.

    Of a folder: the folders in it are the classes, in the order of their names, each with all that
    is in it at any depth; or there are none. Of a file: the array ``images``, uint8 [N, H, W],
    [N, H, W, C] or [N, C, H, W], and, where there are classes, ``labels`` [N] (whole numbers from
    0, or names) and perhaps the ``names`` of the numbers. Each picture is resized so that its
    shorter side is ``size``, the middle is cut out, and it is made grey (channels 1) or coloured
    (3). What cannot be read is skipped, and named in a warning. Raises ValueError, with the path
    and what to do, where nothing can be trained on.
    """
    path, fit = Path(path), Fit(size, channels)
    if not path.exists():
        raise ValueError(
            f"data must be a folder of pictures or a .npz file, but there is nothing at "
            f"{shown(path)} (seen from {shown(Path.cwd())}): look at the path"
        )
    images, labels, names, said = (_of_folder if path.is_dir() else _of_file)(path, fit, bar)
    what = f"{len(images)} picture{'s' * (len(images) > 1)} in {shown(path)}, "
    if labels is None:
        what += "without classes"
    else:
        counts = labels.bincount(minlength=len(names)).tolist()
        _check_classes(path, names, counts)
        each = (f"{name} ({count})" for name, count in zip(names, counts, strict=True))
        what += f"{len(names)} class{'es' * (len(names) > 1)}: {listed(each, 10)}"
    return Pictures(images, labels, names, (what, *said, *fit.said()))


def listed(words: Iterable[str], most: int = 5) -> str:
    """The first of some words, and how many there are more."""
    words = list(words)
    more = [f"and {len(words) - most} more"] if len(words) > most else []
    return ", ".join(words[:most] + more)


def shown(path: Path | str) -> str:
    """A path as text that can be printed: the names of files need not be."""
    return os.fsencode(path).decode(errors="replace")


def _check_classes(path: Path, names: tuple[str, ...], counts: list[int]) -> None:
    for name, count in zip(names, counts, strict=True):
        if count < 2:
            raise ValueError(
                f"the class {name!r} of {shown(path)} has {count} picture{'s' * (count != 1)} that "
                "can be read, but a class needs two: add some, or leave the class out"
            )


def _room(path: Path, n: int, fit: Fit) -> Tensor:
    """For the pixels of n pictures."""
    shape = n, fit.channels, fit.size, fit.size
    _check_bytes(
        path, f"{n} pictures of {fit.channels} x {fit.size} x {fit.size}", math.prod(shape)
    )
    return torch.empty(shape, dtype=torch.uint8)


def _check_bytes(path: Path, what: str, count: int) -> None:
    if count > MOST:
        raise ValueError(
            f"{shown(path)}: {what} are {count / 2**30:.1f} GB of pixels, and at most "
            f"{MOST / 2**30:g} GB can be held: take fewer pictures, or smaller ones"
        )


# ---- a folder ------------------------------------------------------------------------------------

_Found = tuple[Tensor, Tensor | None, tuple[str, ...], list[str]]


def _of_folder(path: Path, fit: Fit, bar: bool) -> _Found:
    classes, said = _classes(path)
    files = [(label, file) for label, some in enumerate(classes.values()) for file in some]
    images, labels = _room(path, len(files), fit), list[int]()
    broken: list[str] = []
    for label, file in tqdm(files, unit="picture", disable=not bar or len(files) <= MANY):
        try:
            images[len(labels)] = _read(file, fit)
            labels.append(label)
        except Exception as error:  # Pillow raises of all kinds for what is broken
            why = "no picture" if isinstance(error, UnidentifiedImageError) else str(error)[:60]
            broken.append(f"{shown(file.relative_to(path))} ({why})")
    what = f"of the {len(files)} pictures in {shown(path)}"
    if not labels:
        raise ValueError(f"none {what} can be read: {listed(broken)}; are they whole?")
    if broken:
        warnings.warn(f"{len(broken)} {what} are skipped: {listed(broken)}", stacklevel=3)
    names = tuple(shown(name) for name in classes if name)
    return images[: len(labels)], torch.tensor(labels) if names else None, names, said


def _classes(path: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files that should be pictures, by class ("" where there are none); what to say."""
    inside = sorted(p for p in path.iterdir() if p.name[0] != ".")
    files = {p.name: list(_files(p)) for p in inside if p.is_dir()}
    files[""] = [p for p in inside if not p.is_dir()]
    found = {name: [p for p in some if _promising(p)] for name, some in files.items()}
    classes = {name: some for name, some in found.items() if some}
    others = [p for some in files.values() for p in some if not _promising(p)]
    kinds = listed(sorted({shown(p.suffix) or "without a suffix" for p in others}))
    _check_folder(path, classes, f"but other files ({kinds})" if others else "nor anything")
    said = [f"left out, as no pictures: {len(others)} ({kinds})"] if others else []
    if empty := [shown(name) for name in files if name and name not in classes]:
        said.append(f"folders without a picture are left out: {listed(empty)}")
    folders = {p.parent.relative_to(path) for some in classes.values() for p in some}
    if deep := sorted(shown(folder) for folder in folders if len(folder.parts) > 1):
        said.append(f"folders within a class are part of it, no classes: {listed(deep)}")
    return classes, said


def _check_folder(path: Path, classes: dict[str, list[Path]], others: str) -> None:
    if not classes:
        raise ValueError(
            f"there is no picture in {shown(path)}, {others}: give a folder with files that end"
            f" in {', '.join(SUFFIXES)}"
        )
    if "" in classes and len(classes) > 1:
        loose = classes[""]
        raise ValueError(
            f"{shown(path)} holds pictures ({len(loose)}: {listed(shown(p.name) for p in loose)}) "
            "beside folders of pictures: each folder is a class, so move them into one, or away"
        )


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder, at any depth, in order; but for hidden ones."""
    for path in sorted(p for p in folder.iterdir() if p.name[0] != "."):
        if not path.is_dir():
            yield path
        elif not path.is_symlink():
            yield from _files(path)


def _promising(file: Path) -> bool:
    """Whether it should be a picture, by its name."""
    return file.suffix.lower() in SUFFIXES


def _read(file: Path, fit: Fit) -> Tensor:
    if not file.is_file():
        raise OSError("no regular file")
    with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
        return fit(image)


# ---- a file --------------------------------------------------------------------------------------


def _of_file(path: Path, fit: Fit, bar: bool) -> _Found:
    arrays = _arrays(path)
    rows = _rows(path, arrays["images"])
    labels, names = _labels(path, arrays, len(rows))
    if (ready := fit.ready(rows)) is not None:
        return ready, labels, names, []
    images = _room(path, len(rows), fit)
    for n, row in enumerate(tqdm(rows, unit="picture", disable=not bar or len(rows) <= MANY)):
        images[n] = fit(Image.fromarray(row))
    return images, labels, names, []


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """images; labels and names where they are there."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{shown(path)} is neither a folder nor a whole .npz file: give a folder of pictures, "
            f"or what {SAVE} writes"
        )
    try:
        with zipfile.ZipFile(path) as file:
            sizes = {i.filename.removesuffix(".npy"): i.file_size for i in file.infolist()}
        wanted = [name for name in ("images", "labels", "names") if name in sizes]
        if "images" not in wanted:
            has = listed(sizes) or "none"
            raise ValueError(f"it has no array `images` ({has}): write it with {SAVE}")
        _check_bytes(path, "its arrays", sum(sizes[name] for name in wanted))
        with np.load(path) as arrays:
            return {name: arrays[name] for name in wanted}
    except ValueError as error:
        hint = "are they of several sizes? Then give them as files in a folder"
        why = f"its pictures make no array ({hint})" if "Object arrays" in str(error) else error
        raise ValueError(f"{shown(path)}: {why}") from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(
            f"{shown(path)} is damaged ({error}): write it anew, with {SAVE}"
        ) from None


def _rows(path: Path, images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W] or [N, H, W, 3 or 4], as Pillow takes each."""
    got = f"of {shown(path)} must be uint8 [N, H, W], [N, H, W, C] or [N, C, H, W], got"
    if images.dtype != np.uint8:
        span = f" from {images.min()} to {images.max()}" if images.size else ""
        raise ValueError(
            f"`images` {got} {images.dtype}{span}: of 0..1, store (images * 255).round().astype("
            "np.uint8)"
        )
    if images.ndim == 4 and images.shape[3] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        images = images.transpose(0, 2, 3, 1)
    colours = images.shape[3] if images.ndim == 4 else 1
    if images.ndim not in (3, 4) or colours not in (1, 3, 4) or not images.size:
        raise ValueError(f"`images` {got} {list(images.shape)}: C is 1, 3 or 4, and N 1 or more")
    return images[..., 0] if images.ndim == 4 and colours == 1 else images


def _labels(
    path: Path, arrays: dict[str, np.ndarray], n: int
) -> tuple[Tensor | None, tuple[str, ...]]:
    """labels int64 [n] and the names of the classes; None and () where there are none."""
    if "labels" not in arrays:
        return None, ()
    labels, names, what = arrays["labels"], arrays.get("names"), f"`labels` of {shown(path)}"
    if labels.shape != (n,):
        raise ValueError(f"{what} must be [{n}], one for each picture, got {list(labels.shape)}")
    if labels.dtype.kind == "U":
        names, labels = np.unique(labels, return_inverse=True)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{what} must be whole numbers or names, got {labels.dtype}")
    if names is not None and (names.ndim != 1 or len(set(names.tolist())) < len(names)):
        raise ValueError(f"`names` of {shown(path)} must be different words, got {names.tolist()}")
    low, high = int(labels.min()), int(labels.max())
    most = n if names is None else len(names)
    if low < 0 or high >= most:
        why = "pictures" if names is None else "names"
        raise ValueError(
            f"{what} must lie in 0..{most - 1}, as there are {most} {why}, got {low} to {high}: "
            "number the classes from 0, without gaps"
        )
    words = range(high + 1) if names is None else names.tolist()
    return torch.from_numpy(labels.astype(np.int64)), tuple(map(str, words))
