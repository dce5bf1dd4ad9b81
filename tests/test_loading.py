"""Networks out of checkpoints: what was saved comes back, and what cannot be is refused."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from kinds import KINDS, built
from strategies import normal
from torch import nn
from torch.testing import assert_close

from ddpm_lite.tasks import from_facts, load_pretrained, load_task
from ddpm_lite.training import CheckpointError, checkpoint, find, save_checkpoint


@pytest.fixture(params=["digits", "line", "classifier", "vae", "autoencoder"])
def trained(request, tmp_path) -> tuple[Path, nn.Module, dict]:
    """A model of each kind in a file, and the facts of it."""
    task = KINDS[request.param]
    model = built(task).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.1)
    facts = {"kind": task.kind, "config": asdict(task)}
    save_checkpoint(tmp_path / "model.safetensors", model.state_dict(), facts)
    return tmp_path / "model.safetensors", model, facts


def inputs(model: nn.Module) -> tuple:
    images = normal(2, 1, 28, 28, dtype=torch.float32)
    return {
        "Denoiser": (images, torch.tensor([1, 10]), torch.tensor([0, 9])),
        "MLP": (normal(2, dtype=torch.float32), torch.tensor([1, 10])),
    }.get(type(model).__name__, (images,))


def test_load_pretrained_gives_the_model_back(trained):
    path, model, _ = trained
    state = torch.get_rng_state()
    loaded = load_pretrained(path)
    assert type(loaded) is type(model) and not loaded.training
    assert torch.equal(torch.get_rng_state(), state)
    assert_close(loaded(*inputs(model)), model(*inputs(model)), rtol=0, atol=0)
    assert all(p.is_leaf and p.requires_grad for p in loaded.parameters())


def test_of_a_training_checkpoint_the_averaged_weights_are_taken(trained):
    path, model, facts = trained
    state = {f"ema.{name}": value for name, value in model.state_dict().items()}
    state |= {name.replace("ema.", "model."): 0 * value for name, value in state.items()}
    state |= {"step": torch.tensor(3), "generator": torch.zeros(9, dtype=torch.uint8)}
    save_checkpoint(path, state, facts)
    loaded = load_pretrained(path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_weights_in_the_default_dtype(trained, monkeypatch):
    path, model, _ = trained
    assert {p.dtype for p in load_pretrained(path).parameters()} == {torch.float32}
    torch.set_default_dtype(torch.float64)
    try:
        assert {p.dtype for p in load_pretrained(path).parameters()} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def digits(tmp_path) -> tuple[Path, dict, dict]:
    """A file of digits: its path, tensors, and config."""
    task = KINDS["digits"]
    tensors, config = built(task).state_dict(), json.loads(json.dumps(asdict(task)))
    return tmp_path / "digits.safetensors", tensors, config


def changed(config: dict, name: str, value: object) -> dict:
    """A config in which the value at "a.b" is another; "" is the config itself."""
    if not name:
        return value
    first, _, rest = name.partition(".")
    return {**config, first: changed(config.get(first), rest, value)}


CONFIGS = {
    "": [None, [], 3, {}, "digits"],
    "network": [[], None, 3, "book"],
    "network.width": [16, 8_000_000_000, 2**70, -8, 8.0, "8", None, True],
    "network.blocks": [10**9, 2],
    "network.multipliers": [[1, 2, 4], [1, 1.5], ["a"], [], 2, None, [1] * 10**5],
    "network.classes": [11, "10"],
    "network.heads": [3],
    "train": [[], None],
    "train.lr": ["a", 0, None],
    "train.clip": ["a", []],
    "train.betas": [["a", "b"], [0.9], [], 3, [0.9, 0.9, 0.9]],
    "train.steps": ["12", 1.5],
    "train.precision": ["fp64", 8],
    "train.stratified": [True],
    "T": [10**12, 0, "a", None],
    "beta_1": ["a", None, 7, -1],
    "output": ["score", [], None],
    "label_dropout": [2, "a"],
    "save_every": [-1, 0],
    "colour": [1],
}
CASES = [(name, value) for name, values in CONFIGS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda v: repr(v)[:30])
def test_a_config_made_by_hand_is_refused(digits, name, value):
    """Whatever is wrong with it, before its sizes cost memory or time."""
    path, tensors, config = digits
    save_checkpoint(path, tensors, {"kind": "digits", "config": changed(config, name, value)})
    message = "does not hold a network of this version of ddpm_lite"
    with pytest.raises(CheckpointError, match=message):
        load_task(path)


KIND_FACTS = [{}, {"kind": "digits"}, {"kind": "gan", "config": {}}, {"kind": []}, {"kind": None}]


@pytest.mark.parametrize("facts", KIND_FACTS, ids=str)
def test_an_unknown_kind_is_refused(digits, facts):
    path, tensors, _ = digits
    save_checkpoint(path, tensors, facts)
    with pytest.raises(CheckpointError, match="does not hold a network of this version"):
        load_pretrained(path)
    with pytest.raises(CheckpointError, match="a checkpoint of kind"):  # as on resuming
        from_facts(facts)


def test_a_config_that_says_less_means_the_defaults(digits):
    """So a field may be added."""
    path, tensors, config = digits
    del config["stratified"], config["train"]["warmup"]
    save_checkpoint(path, tensors, {"kind": "digits", "config": config})
    task, _ = load_task(path)
    assert task.stratified and task.train.warmup == 0


TENSOR_CHANGES = {
    "one less": lambda t: {k: v for k, v in t.items() if k != "net.head.bias"},
    "one more": lambda t: t | {"net.foot.bias": torch.ones(3)},
    "another shape": lambda t: t | {"net.head.bias": torch.ones(3, 1)},
    "none": lambda t: {},
}


@pytest.mark.parametrize("change", TENSOR_CHANGES.values(), ids=TENSOR_CHANGES)
def test_tensors_that_are_not_of_the_config_are_refused(digits, change):
    path, tensors, config = digits
    save_checkpoint(path, change(tensors), {"kind": "digits", "config": config})
    with pytest.raises(CheckpointError, match=r"does not hold a network of .* should be .*, is"):
        load_task(path)


# ---- what is meant -------------------------------------------------------------------------------


def test_a_name_of_the_package_is_meant_though_there_is_a_folder_of_that_name(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "vae"):
        (tmp_path / name).mkdir()
    assert find("digits") == checkpoint.WEIGHTS / "digits.safetensors"
    with pytest.raises(CheckpointError, match="no checkpoint './digits'"):
        find("./digits")


def test_of_a_folder_only_a_runs_own_files_are_meant(tmp_path):
    names = ["best", "0000050-best", "9999998", "10000000", "0000900.safetensors.bak"]
    for name in names:
        (tmp_path / f"checkpoint-{name}.safetensors").write_bytes(b"")
    assert find(tmp_path).name == "checkpoint-10000000.safetensors"
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert find(tmp_path).name == "model.safetensors"
