"""Files are written whole or not at all; what cannot be written is said before the work."""

import errno
import os
import stat
from pathlib import Path

import pytest
from disks import fill, small_disk

from ddpm_lite.files import SavedElsewhere, check_writable, keep, write_whole


def only(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_file_is_made_with_its_folder_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "a"
    for content in (b"one", b"", b"three"):
        check_writable(path)
        write_whole(path, content)
        assert only(path.parent) == {"a": content}


def test_permissions_stay_and_a_new_file_gets_those_of_the_mask(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", b"x")
        (tmp_path / "old").write_bytes(b"")
        (tmp_path / "old").chmod(0o604)
        write_whole(tmp_path / "old", b"x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "old")]
    assert modes == [0o640, 0o604]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    for target in ("there/old", "there/new"):
        link = tmp_path / f"to {Path(target).name}"
        link.symlink_to(target)
        (tmp_path / "there" / "old").write_bytes(b"old")
        check_writable(link)
        write_whole(link, b"x")
        assert link.is_symlink() and (tmp_path / target).read_bytes() == b"x"


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), MemoryError()]
)
def test_what_comes_in_between_leaves_the_file_of_before(tmp_path, monkeypatch, call, error):
    def refuse(*args):
        raise error

    (tmp_path / "a").write_bytes(b"before")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(type(error)):
        write_whole(tmp_path / "a", b"after")
    assert only(tmp_path) == {"a": b"before"}


# ---- what cannot be written ----------------------------------------------------------------------


def loop(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return folder / "a"


def read_only(folder: Path) -> Path:
    (folder / "a").write_bytes(b"precious")
    (folder / "a").chmod(0o444)
    return folder / "a"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a")
    return folder / "a"


def in_a_file(folder: Path) -> Path:
    (folder / "a").write_bytes(b"precious")
    return folder / "a" / "b"


REFUSED = {
    "read-only": (read_only, "it is read-only"),
    "300 characters": (lambda folder: folder / ("a" * 300), "File name too long"),
    "link loop": (loop, "Too many levels of symbolic links"),
    "folder": (lambda folder: folder, "it is a folder"),
    "device": (lambda _: Path("/dev/full"), "it is no regular file"),
    "pipe": (pipe, "it is no regular file"),
    "in a file": (in_a_file, "Not a directory|File exists"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_written_is_refused_before_and_left_alone(tmp_path, make, message):
    path = make(tmp_path)
    before = only(tmp_path)
    with pytest.raises(ValueError, match=rf"cannot write .*({message}); name another file"):
        check_writable(path)
    with pytest.raises(OSError, match=message):
        write_whole(path, b"x")
    assert only(tmp_path) == before and not list(tmp_path.glob(".*"))


def test_a_check_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_refused_before_and_keeps_the_file(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        (disk / "a").write_bytes(b"before")
        fill(disk)
        with pytest.raises(ValueError, match="cannot write .*/a: No space left on device; name"):
            check_writable(disk / "a")
        with pytest.raises(OSError, match="No space left"):
            write_whole(disk / "a", bytes(10**5))
        assert (disk / "a").read_bytes() == b"before" and not list(disk.glob(".*"))


# ---- a result is not lost ------------------------------------------------------------------------


def test_what_can_be_written_is(tmp_path):
    path = tmp_path / "a.json"
    assert keep(path, lambda where: write_whole(where, b"x")) == path
    assert only(tmp_path) == {"a.json": b"x"}


def test_a_result_is_saved_beside_or_else_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with small_disk(tmp_path / "disk") as disk:
        path = read_only(disk)
        with pytest.warns(SavedElsewhere, match="cannot write .*/a: it is read-only; the result"):
            beside = keep(path, lambda where: write_whole(where, b"x"))
        assert beside.parent == disk and beside.read_bytes() == b"x"
        big = bytes(10**5)
        message = "cannot write .*/b.npz: No space left on device; the result is in "
        with pytest.warns(SavedElsewhere, match=message):
            elsewhere = keep(disk / "b.npz", lambda where: write_whole(where, big))
        assert elsewhere.parent == tmp_path and elsewhere.suffix == ".npz"
        assert elsewhere.read_bytes() == big
        assert only(disk) == {"a": b"precious", beside.name: b"x"}


def test_a_result_that_can_be_saved_nowhere_is_said_to_be_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(where):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="cannot write .*/a: No space left .*: the result is lost"):
        keep(tmp_path / "sub" / "a", full)
    assert only(tmp_path) == {}
