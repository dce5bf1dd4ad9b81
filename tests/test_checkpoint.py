"""Checkpoints: what goes in comes out, and a file that is not as it should be is named."""

import errno
import json
import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from strategies import bad, check_bad, normal
from torch.testing import assert_close

import ddpm_lite
from ddpm_lite.networks import Classifier, Denoiser, UNet, UNetConfig
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks import load_pretrained
from ddpm_lite.training import CheckpointError, load_checkpoint, save_checkpoint

SHAPE = {"width": 8, "blocks": 1, "embedding": 16, "multipliers": (1, 2)}
CONFIG = {"network": SHAPE, "T": 10, "beta_1": 0.01, "beta_T": 0.2, "output": "v"}
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
    save_checkpoint(again, dict(reversed(TENSORS.items())), dict(reversed(FACTS.items())))
    assert again.read_bytes() == file.read_bytes()


def test_a_folder_is_made_and_a_file_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "a.safetensors"
    for step in (1, 2):
        save_checkpoint(path, TENSORS, {"step": step})
    assert load_checkpoint(str(path)).facts == {"step": 2}
    assert list(path.parent.iterdir()) == [path]


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
        (None, "was not written by ddpm_lite: its header has no 'ddpm_lite' entry"),
        ({"format": "pt"}, "was not written by ddpm_lite"),
        ({"ddpm_lite": "{"}, "is damaged"),
        ({"ddpm_lite": ""}, "is damaged"),
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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_on_a_disk_that_is_really_full(file):
    before = file.read_bytes()
    file.with_name(f".{file.name}.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        save_checkpoint(file, {"a": normal(10**5)}, {})
    assert caught.value.__cause__.errno == errno.ENOSPC
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


# Networks


@pytest.fixture
def trained(tmp_path) -> tuple[Path, Denoiser]:
    torch.manual_seed(0)
    shape = UNetConfig(**SHAPE)
    model = Denoiser(UNet(shape), linear_schedule(10, 0.01, 0.2), "v")
    torch.nn.init.normal_(model.net.head.weight)
    save_checkpoint(tmp_path / "model.safetensors", model.state_dict(), {"config": CONFIG})
    return tmp_path / "model.safetensors", model


def test_load_pretrained_gives_the_model_back(trained):
    path, model = trained
    x, t = normal(2, 1, 28, 28, dtype=torch.float32), torch.tensor([1, 10])
    loaded = load_pretrained(path)
    assert not loaded.training
    for y in (None, torch.tensor([0, 9])):
        assert_close(loaded(x, t, y), model(x, t, y), rtol=0, atol=0)


def test_of_a_training_checkpoint_the_averaged_weights_are_taken(trained):
    path, model = trained
    state = {f"ema.{name}": value for name, value in model.state_dict().items()}
    state |= {name.replace("ema.", "model."): 0 * value for name, value in state.items()}
    save_checkpoint(path, state, {"config": CONFIG})
    loaded = load_pretrained(path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_a_classifier_is_known_by_its_configuration(tmp_path):
    shape = {"width": 2, "features": 5, "classes": 10}
    model = Classifier(**shape).eval()
    save_checkpoint(tmp_path / "c", model.state_dict(), {"config": shape})
    x = normal(2, 1, 28, 28, dtype=torch.float32)
    assert_close(load_pretrained(tmp_path / "c")(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        [],
        {"config": None},
        {"config": {"network": SHAPE}},
        {"config": {**CONFIG, "output": "score"}},
        {"config": {**CONFIG, "T": 0}},
        {"config": {**CONFIG, "network": {**SHAPE, "width": 16}}},
        {"config": {**CONFIG, "network": {**SHAPE, "depth": 3}}},
    ],
)
def test_a_network_of_another_kind_is_refused(trained, facts):
    path, model = trained
    save_checkpoint(path, model.state_dict(), facts)
    message = "does not hold a network of this version of ddpm_lite"
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(path)


BAD = [
    bad("none", lambda: load_checkpoint("no/a"), "no checkpoint at no/a: look", CheckpointError),
    bad("folder", lambda: load_checkpoint("/"), "cannot read /: Is a directory", CheckpointError),
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
