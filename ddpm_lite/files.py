"""Files written whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PREFIX = ".ddpm-lite-"  # of a file that is being written
SUFFIX = ".tmp"


def write_whole(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all; makes its folder.

    The bytes go to a temporary file beside it, reach the disk, and take the name in one rename: a
    kill or a full disk leaves the file of before. A link stays, and what it points to is replaced.
    Raises OSError where the disk refuses, or where ``path`` is read-only or no regular file.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = _mode(path)
    handle, temporary = tempfile.mkstemp(SUFFIX, PREFIX, path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    finally:  # it is there no more, unless the writing failed or was interrupted
        with suppress(OSError):
            os.unlink(temporary)


def check_writable(path: str | Path) -> None:
    """Raise ValueError where `write_whole` could not write; makes the folder. Before the work."""
    try:
        real = Path(os.path.realpath(path))
        real.parent.mkdir(parents=True, exist_ok=True)
        _mode(real)
        with tempfile.TemporaryFile(prefix=PREFIX, dir=real.parent) as file:
            file.write(bytes(4096))  # a full disk may still have room for an empty file
            file.flush()
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}; name another file") from None


class SavedElsewhere(UserWarning):
    """A result could not be written where it was asked for: the message says where it is."""


def keep(path: Path, write: Callable[[Path], object]) -> Path:
    """``write(path)``; where the disk refuses, write beside it, or else in the temporary folder.

    Returns where the result is, with a `SavedElsewhere` where that is not ``path``. Raises OSError
    where nothing could be written.
    """
    try:
        write(path)
        return path
    except OSError as error:
        said = f"cannot write {path}: {error.strerror or error}"
        for folder in (path.parent, Path(tempfile.gettempdir())):
            with suppress(OSError):
                other = _saved(folder, path.suffix, write)
                warnings.warn(f"{said}; the result is in {other}", SavedElsewhere, stacklevel=2)
                return other
        raise OSError(f"{said}, nor anything in {folder}: the result is lost") from None


def _saved(folder: Path, suffix: str, write: Callable[[Path], object]) -> Path:
    """Write to a new file in ``folder``."""
    handle, name = tempfile.mkstemp(suffix, "ddpm-lite-saved-", folder)
    os.close(handle)
    try:
        write(Path(name))
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def _mode(path: Path) -> int:
    """The permissions that a file has, or a new one gets; OSError where it is not a file."""
    try:
        now = path.stat().st_mode
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
    if stat.S_ISDIR(now):
        raise IsADirectoryError(None, "it is a folder")
    if not stat.S_ISREG(now):
        raise OSError(None, "it is no regular file")
    if not now & 0o222 or not os.access(path, os.W_OK):
        raise PermissionError(None, "it is read-only")
    return stat.S_IMODE(now)
