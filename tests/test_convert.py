"""Checkpoints of version 0.1: converted, they are what they were, bit for bit."""

import json
import runpy
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from folders import logged
from kinds import KINDS, built, same_tensors, with_train
from safetensors.torch import save_file

from ddpm_lite import cli
from ddpm_lite.tasks import load_pretrained, load_task
from ddpm_lite.training import checkpoint, load_checkpoint, run

TOOL = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "convert.py"))
main = TOOL["main"]

DIGITS = with_train(KINDS["digits"], steps=4, batch_size=2, warmup=0)


def old_digits() -> dict:
    """The config of a run of 0.1: no kind, ``stratified`` among the numbers of the training."""
    config = asdict(DIGITS)
    config["train"]["stratified"] = config.pop("stratified")
    return config


OLD = {
    "digits": {k: v for k, v in old_digits().items() if k not in ("train", "save_every")},
    "classifier": {"classes": 10, "width": 2, "features": 8},
    "vae": {"vae": {"latent": 2, "width": 2, "hidden": 8}},
    "autoencoder": {"autoencoder": {"latent": 2, "width": 2, "hidden": 8}},
}


def write_old(path: Path, tensors: dict, facts: dict) -> None:
    """As version 0.1 did: no checksum."""
    tensors = {name: v.contiguous() for name, v in tensors.items()}
    save_file(tensors, path, {"ddpm_lite": json.dumps(facts, sort_keys=True)})


@pytest.mark.parametrize("kind", OLD)
def test_a_model_keeps_its_tensors_and_its_facts(tmp_path, capsys, kind):
    path = tmp_path / "old.safetensors"
    model = built(KINDS[kind])
    tensors = {
        name: v.half() if v.is_floating_point() else v for name, v in model.state_dict().items()
    }
    next(iter(tensors.values())).view(-1)[0] = 6e-8  # the least there is
    facts = {"config": OLD[kind], "seed": 3, "losses": [0.5, 0.25]}
    write_old(path, tensors, facts)
    with pytest.raises(checkpoint.CheckpointError, match="tools/convert.py"):
        load_task(path)
    assert main([str(path)]) == 0 and capsys.readouterr().out == f"{path}: {kind}\n"
    found = load_checkpoint(path)
    assert same_tensors(found.tensors, tensors)
    assert found.facts["kind"] == kind
    assert found.facts.items() >= {"seed": 3, "losses": [0.5, 0.25]}.items()
    task, loaded = load_task(path)
    assert task.kind == kind and type(loaded) is type(model)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, tensors[name].to(value.dtype))


def test_its_checksum_is_noticed_and_a_second_time_changes_nothing(tmp_path):
    path = tmp_path / "old.safetensors"
    write_old(path, built(KINDS["vae"]).state_dict(), {"config": OLD["vae"]})
    assert main([str(path)]) == 0
    content = path.read_bytes()
    assert main([str(path)]) == 0 and path.read_bytes() == content
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main([str(path)]) == 1


def test_a_run_goes_on_from_its_converted_checkpoint(tmp_path, capsys):
    """With the configuration it had, to the bits of a run that was never converted."""
    for name in ("whole", "old"):
        running = run(tmp_path / name, DIGITS)
        for log, _ in running:
            if name == "old" and log.step == 3:
                break
        running.close()
    path = tmp_path / "old" / "checkpoint-0000002.safetensors"
    tensors, facts = load_checkpoint(path)
    assert facts.pop("kind") == "digits"
    write_old(path, tensors, facts | {"config": old_digits()})
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "old")]) == 2
    assert "tools/convert.py" in capsys.readouterr().err
    assert main([str(path)]) == 0
    assert same_tensors(load_checkpoint(path).tensors, tensors)
    assert load_checkpoint(path).facts["config"] == json.loads(json.dumps(asdict(DIGITS)))
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "old")]) == 0
    for name in ("checkpoint-0000004.safetensors", "model.safetensors"):
        ends = [load_checkpoint(tmp_path / which / name) for which in ("whole", "old")]
        assert same_tensors(ends[0].tensors, ends[1].tensors)
    assert logged(tmp_path / "whole") == logged(tmp_path / "old")


@pytest.mark.parametrize("name", ["digits", "classifier", "vae", "vae-plane", "autoencoder"])
def test_the_weights_of_the_package_are_converted(tmp_path, name):
    path = shutil.copy(checkpoint.WEIGHTS / f"{name}.safetensors", tmp_path)
    before = load_checkpoint(path)
    assert main([path]) == 0 and load_checkpoint(path).facts == before.facts
    assert same_tensors(load_checkpoint(path).tensors, before.tensors)
    load_pretrained(path)


WRONG = {
    "another": {"config": {"colour": 3}},
    "no config": {"seed": 3},
    "a list": {"config": [1, 2]},
    "a word": {"config": "digits"},
    "other sizes": {"config": {"vae": {"latent": 3, "width": 2, "hidden": 8}}},
    "unknown": {"kind": "gan", "config": {}},
}


@pytest.mark.parametrize("facts", WRONG.values(), ids=WRONG)
def test_what_is_no_old_checkpoint_stays_as_it_is(tmp_path, capsys, facts):
    bad, good = tmp_path / "bad.safetensors", tmp_path / "good.safetensors"
    model = built(KINDS["vae"])
    write_old(bad, model.state_dict(), facts)
    write_old(good, model.state_dict(), {"config": OLD["vae"]})
    before = bad.read_bytes()
    assert main([str(bad), str(good), str(tmp_path / "none")]) == 1
    out, err = capsys.readouterr()
    assert f"{bad} is no checkpoint of version 0.1: " in err and "no checkpoint at " in err
    assert bad.read_bytes() == before and out == f"{good}: vae\n"


def test_it_says_how_it_is_used(capsys):
    for arguments in ([], ["--help"]):
        assert main(arguments) == 2
        assert "python tools/convert.py FILE.safetensors" in capsys.readouterr().out
