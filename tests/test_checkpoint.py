"""Checkpoints: what goes in comes out, and a file that is not as it should be is named."""

import errno
import json
import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from strategies import bad, check_bad, normal
from torch import nn

import ddpm_lite
from ddpm_lite.tasks import load_pretrained
from ddpm_lite.training import CheckpointError, checkpoint, find, load_checkpoint, save_checkpoint

TENSORS = {
    "step": torch.tensor(7),
    "generator": torch.arange(256).to(torch.uint8),
    "empty": torch.zeros(0, 3),
    "layout": normal(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "part": normal(4, 6)[:, ::2],
    "grad": normal(3).requires_grad_(),
    "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
    **{str(d): torch.ones(2, dtype=d) for d in (torch.float16, torch.bfloat16, torch.bool)},
}
FACTS = {"step": 7, "loss": 0.1, "seed": None, "config": {"betas": [0.9, 0.99]}, "digit": "é\n✓"}


@pytest.fixture
def file(tmp_path) -> Path:
    save_checkpoint(tmp_path / "a.safetensors", TENSORS, FACTS)
    return tmp_path / "a.safetensors"


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit for bit: NaN, and the sign of 0, count too."""
    flat = [v.detach().contiguous().reshape(-1).view(torch.uint8) for v in (a, b)]
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(*flat)


def test_what_goes_in_comes_out(file):
    tensors, facts = load_checkpoint(file)
    assert facts == FACTS and tensors.keys() == TENSORS.keys()
    assert all(same(tensors[name], TENSORS[name]) for name in TENSORS)


def test_loaded_tensors_can_be_changed_and_the_file_stays(file):
    load_checkpoint(file).tensors["layout"].zero_()
    assert same(load_checkpoint(file).tensors["layout"], TENSORS["layout"])


def test_the_same_content_gives_the_same_bytes(file):
    again = file.with_name("b.safetensors")
    for _ in range(5):
        save_checkpoint(again, dict(reversed(TENSORS.items())), dict(reversed(FACTS.items())))
        assert again.read_bytes() == file.read_bytes()
    content = file.read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0


def test_other_readers_of_safetensors_read_it(file):
    found = load_file(file)
    assert found.keys() == TENSORS.keys() and all(same(found[k], TENSORS[k]) for k in found)


def test_a_folder_is_made_and_a_file_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "a.safetensors"
    for step in (1, 2):
        save_checkpoint(path, TENSORS, {"step": step})
    assert load_checkpoint(str(path)).facts == {"step": 2}
    assert list(path.parent.iterdir()) == [path]


def test_tensors_that_share_memory_are_stored_each_by_itself(tmp_path):
    """Tied weights, and parts of one tensor."""
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    tensors = tied.state_dict() | {"row": tied[0].weight[1]}
    save_checkpoint(tmp_path / "a", tensors, {})
    found = load_checkpoint(tmp_path / "a").tensors
    assert found.keys() == tensors.keys()
    assert all(same(found[name], tensors[name]) for name in tensors)


def test_no_pickle_is_read_or_written():
    """A pickle runs the code that it holds."""
    for path in Path(ddpm_lite.__file__).parent.rglob("*.py"):
        code = path.read_text().replace("No pickle is read or written", "")
        for word in ("pickle", "torch.load", "torch.save", "joblib", "dill", "allow_pickle"):
            assert word not in code, f"{path.name}: {word}"


# Damaged


def refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_file_cut_anywhere_is_refused(file):
    content, places = file.read_bytes(), random.Random(0)
    ends = [0, 1, 7, 8, 9, len(content) - 1]
    for end in ends + [places.randrange(len(content)) for _ in range(100)]:
        refused(file, content[:end], "is damaged .*use the checkpoint before it")


def test_a_flipped_byte_of_the_tensors_is_noticed(file):
    """Safetensors itself does not look at them."""
    content = file.read_bytes()
    header, places = 8 + int.from_bytes(content[:8], "little"), random.Random(0)
    for place in [header, len(content) - 1] + [
        places.randrange(header, len(content)) for _ in range(50)
    ]:
        changed = bytes([*content[:place], content[place] ^ 1, *content[place + 1 :]])
        refused(file, changed, "is damaged .its tensors do not have their checksum.: use the")


def test_the_checksum_is_of_the_tensors_alone(file):
    before = checkpoint.checksum(file)
    save_checkpoint(file, TENSORS, {"other": "facts"})
    assert checkpoint.checksum(file) == before and len(before) == 16
    save_checkpoint(file, TENSORS | {"step": torch.tensor(8)}, FACTS)
    assert checkpoint.checksum(file) != before


def test_more_than_the_file_is_refused(file):
    refused(file, file.read_bytes() + b"\0", "is damaged")


def test_a_flipped_byte_of_the_header_is_refused_or_harmless(file):
    """Refused, wherever its form suffers; a letter of a name or a value may come out changed, and
    then the tensors no longer fit. Nothing else is raised."""
    content, refusals = file.read_bytes(), 0
    header = 8 + int.from_bytes(content[:8], "little")
    for place in range(0, header, 5):
        changed = bytes([*content[:place], content[place] ^ 255, *content[place + 1 :]])
        file.write_bytes(changed)
        with pytest.raises(CheckpointError, match="is damaged|was not written by ddpm_lite"):
            load_checkpoint(file)
        file.write_bytes(bytes([*content[:place], content[place] ^ 1, *content[place + 1 :]]))
        try:
            load_checkpoint(file)
        except CheckpointError:
            refusals += 1
    assert refusals > 0.3 * header / 5


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "was not written by ddpm_lite: its header has no proper 'ddpm_lite' entry"),
        ({"format": "pt"}, "was not written by ddpm_lite"),
        ({"ddpm_lite": "{"}, "is damaged"),
        ({"ddpm_lite": ""}, "is damaged"),
        ({"ddpm_lite": "[]"}, "no proper 'ddpm_lite' entry"),
        ({"ddpm_lite": "[" * 100_000}, "is damaged"),
        ({"ddpm_lite": '{"a":' * 100_000 + "1" + "}" * 100_000}, "is damaged"),
        ({"ddpm_lite": '{"a":' + "[" * 600 + "]" * 600 + "}"}, "no proper 'ddpm_lite' entry"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path, metadata, message):
    path = tmp_path / "b.safetensors"
    save_file({"a": torch.ones(3)}, path, metadata)
    refused(path, path.read_bytes(), message)


def test_a_pickle_is_refused_unread(tmp_path):
    path = tmp_path / "a.safetensors"
    torch.save({"a": torch.ones(3)}, path)
    refused(path, path.read_bytes(), "is damaged or is no safetensors file")


def test_an_unknown_kind_of_number_is_refused(tmp_path):
    header = json.dumps({"a": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}).encode()
    content = len(header).to_bytes(8, "little") + header + b"\0"
    refused(tmp_path / "a.safetensors", content, "is damaged|was not written")


SHAPES = [[0, 2**63], [2**63, 0], [2**62, 4, 0], [-1], [2**64], [1.5], "1", None]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shape_that_cannot_be_is_refused(tmp_path, shape):
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    header = json.dumps({"__metadata__": {"ddpm_lite": "{}"}, "a": tensor}).encode()
    content = len(header).to_bytes(8, "little") + header
    refused(tmp_path / "a.safetensors", content, "is damaged")


# Refused by the disk


def refuse(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_when_the_disk_refuses_the_file_of_before_stays(file, monkeypatch, call):
    before = file.read_bytes()
    monkeypatch.setattr(os, call, refuse)
    message = r"cannot write .*a.safetensors \(0.0 MB\): No space left.*free some space"
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(file, {"a": torch.ones(5)}, {})
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_no_half_file(file, monkeypatch, interruption):
    def interrupt(*args):
        raise interruption

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(interruption):
        save_checkpoint(file, TENSORS, FACTS)
    assert list(file.parent.iterdir()) == [file]


def test_facts_that_json_cannot_hold_are_refused_before_anything_is_written(file):
    before = file.read_bytes()
    for facts in ({"loss": float("nan")}, {"path": file}):
        with pytest.raises((ValueError, TypeError)):
            save_checkpoint(file, TENSORS, facts)
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


BAD = [
    bad("none", lambda: load_checkpoint("no/a"), "no checkpoint at no/a: look", CheckpointError),
    bad(
        "folder", lambda: load_checkpoint("/"), "no checkpoint at /: it is no file", CheckpointError
    ),
    bad("device", lambda: load_checkpoint("/dev/zero"), "zero: it is no file", CheckpointError),
    bad("long", lambda: find("a" * 300), "no checkpoint 'aaa", CheckpointError),
    bad("long path", lambda: load_checkpoint("a" * 300), "no checkpoint at aaa", CheckpointError),
    bad("zero", lambda: find("a\0b"), "no checkpoint 'a", CheckpointError),
    bad(
        "metadata",
        lambda: save_checkpoint("x", {"__metadata__": torch.ones(1)}, {}),
        "the tensor '__metadata__' cannot be stored: rename it",
    ),
    bad(
        "meta",
        lambda: save_checkpoint("x", {"a": torch.ones(1, device="meta")}, {}),
        "the tensor 'a' cannot be stored: .* give it values",
    ),
    bad(
        "a device",
        lambda: save_checkpoint("/dev/null", {}, {}),
        "cannot write /dev/null .*it is no regular file",
        CheckpointError,
    ),
    bad(
        "a file for a folder",
        lambda: save_checkpoint(Path(__file__) / "a", {}, {}),
        "cannot write .*test_checkpoint.py/a .*choose another folder",
        CheckpointError,
    ),
    bad(
        "name",
        lambda: load_pretrained("numerals"),
        "no checkpoint 'numerals': give a .safetensors file.*classifier, digits",
        CheckpointError,
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
