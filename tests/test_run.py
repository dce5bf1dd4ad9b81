"""A run in a folder: what it leaves there, how it goes on, and whose files it leaves alone."""

import json
import shutil
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from children import fork, in_parent, wait
from folders import SHORT, check_same, go, logged, nothing_half, steps_in, stop_at
from kinds import KINDS, built, same_tensors, with_train
from strategies import bad, check_bad
from torch.testing import assert_close

from ddpm_lite.tasks import PRESETS, Line, from_facts, load_pretrained, load_task, resumed
from ddpm_lite.training import (
    CheckpointError,
    load_checkpoint,
    newest,
    run,
    save_checkpoint,
)

room = import_module("ddpm_lite.training.runs")
LONG = with_train(SHORT, steps=24, warmup=4)


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ended")
    go(folder, SHORT)
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    stop_at(folder, 7, LONG).close()
    return folder


@pytest.fixture
def half(stopped, tmp_path) -> Path:
    """A run that was stopped at step 6 of 24."""
    return shutil.copytree(stopped, tmp_path / "half")


# ---- what is in the folder -----------------------------------------------------------------------


def test_the_folder_of_a_run(ended):
    assert sorted(path.name for path in ended.iterdir()) == [
        "checkpoint-0000004.safetensors",
        "checkpoint-0000006.safetensors",
        "log.jsonl",
        "model.safetensors",
        *(f"samples-000000{step}.png" for step in (2, 4, 6)),
    ]
    lines = [json.loads(line) for line in (ended / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(a["seconds"] <= b["seconds"] for a, b in zip(lines, lines[1:], strict=False))
    _, facts = newest(ended)
    assert facts.items() >= lines[-1].items() and facts["kind"] == "line"
    assert from_facts(facts) == resumed(ended) == SHORT
    assert facts["commit"] is None or len(facts["commit"]) >= 7


@pytest.mark.parametrize("kind", ["digits", "classifier", "vae", "autoencoder"])
def test_a_run_of_any_kind_can_be_loaded(tmp_path, kind):
    """Its model, and its checkpoint: the averaged weights, whatever the start."""
    task = replace(KINDS[kind], T=5) if kind == "digits" else KINDS[kind]
    task = with_train(task, steps=2, batch_size=2)
    go(tmp_path, task)
    state = load_checkpoint(tmp_path / "checkpoint-0000002.safetensors").tensors
    for name in ("model", "checkpoint-0000002"):
        found, model = load_task(tmp_path / f"{name}.safetensors")
        assert found == task and type(model) is type(task.build()) and not model.training
        for key, value in model.state_dict().items():
            expected = state[f"ema.{key}"]
            expected = expected.half().to(value.dtype) if name == "model" else expected
            assert torch.equal(value, expected), key


def test_the_model_is_the_averaged_weights_in_half_precision(ended):
    tensors, facts = load_checkpoint(ended / "model.safetensors")
    last = newest(ended)
    assert facts == last.facts
    averaged = {k[4:]: v for k, v in last.tensors.items() if k.startswith("ema.")}
    assert tensors.keys() == averaged.keys() == SHORT.build().state_dict().keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float16
        assert torch.equal(tensor, averaged[name].half())


def test_what_does_not_fit_into_half_precision_stays_single():
    large, small = torch.tensor([1.0, 1e5]), torch.tensor([1.0, 6e4])
    found = room.averaged({"ema.a": large, "ema.b": small, "ema.n": torch.tensor(7), "step": large})
    assert found.keys() == {"a", "b", "n"}
    assert torch.equal(found["a"], large) and found["a"].dtype == torch.float32
    assert found["b"].dtype == torch.float16 and found["n"].dtype == torch.int64


TASKS = {f"{kind} {name}": task for kind, named in PRESETS.items() for name, task in named.items()}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_configuration_survives_json(task):
    facts = {"kind": task.kind, "config": json.loads(json.dumps(asdict(task)))}
    assert from_facts(facts) == task and type(from_facts(facts)) is type(task)


def test_what_precision_auto_chose_is_kept(tmp_path, monkeypatch):
    """Measured once: on resuming, another choice would give other bits."""
    monkeypatch.setattr(room, "fastest_precision", lambda *_: "bf16")
    task = with_train(SHORT, precision="auto")
    stop_at(tmp_path, 3, task).close()
    assert newest(tmp_path).facts["config"]["train"]["precision"] == "bf16"
    monkeypatch.setattr(room, "fastest_precision", lambda *_: "fp32")
    go(tmp_path, task, resume=True)
    assert newest(tmp_path).facts["config"]["train"]["precision"] == "bf16"


def test_a_preview_that_cannot_be_made_does_not_stop_the_run(tmp_path, ended, monkeypatch):
    def refuse(self, model, path):
        raise error

    for error in (OSError(28, "No space left on device"), RuntimeError("CUDA out of memory")):
        folder = tmp_path / type(error).__name__
        with monkeypatch.context() as patch, pytest.warns(UserWarning) as told:
            patch.setattr(Line, "preview", refuse)
            go(folder)
        said = [str(w.message) for w in told]
        assert said == [f"no preview of step {step}: {error}" for step in (2, 4, 6)]
        for path in ended.glob("samples*"):
            shutil.copy(path, folder)
        check_same(folder, ended)


# ---- resumed -------------------------------------------------------------------------------------


def test_resuming_goes_on_with_the_clock(half):
    before = newest(half).facts
    for log, seconds in run(half, resumed(half), resume=True):
        assert log.step > before["step"] and seconds > before["seconds"]
        if log.step == 9:
            break
    after = newest(half).facts
    assert after["step"] == 8 and after["config"] == before["config"]


def test_where_there_is_no_run_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume from in .*nowhere"):
        next(run(tmp_path / "nowhere", SHORT, resume=True))


def test_a_run_of_another_configuration_is_not_resumed(half):
    """Or one half of it would be trained otherwise, without a word."""
    for task, message in {
        with_train(LONG, lr=1.0): r"another configuration \(train.lr is 0.002, not 1.0\)",
        replace(LONG, width=16): r"another configuration \(width is 8, not 16\)",
        KINDS["vae"]: "holds a run of kind 'line', not vae",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            next(run(half, task, resume=True))
    assert steps_in(half) == [4, 6]


def test_a_run_that_ended_can_be_resumed_and_does_nothing(ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "again")
    (folder / "model.safetensors").unlink()
    assert list(run(folder, SHORT, resume=True)) == []
    check_same(folder, ended)


def test_a_torn_line_of_the_log_goes_and_earlier_lines_stay(half):
    log = half / "log.jsonl"
    before = log.read_bytes()
    log.write_bytes(
        before + b'{"step": 7, "loss": 1.0, "seconds": 2}\n\xff\x00\n3\n{"step": 4, "lo'
    )
    next(run(half, LONG, resume=True))
    assert log.read_bytes() == before


def test_checkpoints_go_by_their_number(half):
    """Beyond 9,999,999 a name has a digit more, and comes before others in the alphabet."""
    big = [f"checkpoint-{step}.safetensors" for step in (9_999_998, 10_000_000)]
    for name in big:
        tensors, facts = newest(half)
        step = int(name[11:-12])
        save_checkpoint(
            half / name, tensors | {"step": torch.tensor(step)}, {**facts, "step": step}
        )
        assert newest(half).facts["step"] == step


# ---- begun with the weights of another -----------------------------------------------------------


def test_a_run_can_begin_with_the_weights_of_another(ended, tmp_path):
    start = load_pretrained(ended)
    seen = {}
    frozen = with_train(SHORT, steps=2, lr=1e-30, ema_decay=0.0)
    for log, _ in run(tmp_path, frozen, start=start):
        seen = {k: v.clone() for k, v in log.ema.state_dict().items()}
    assert same_tensors(seen, start.state_dict())
    other = built(replace(SHORT, width=16))
    with pytest.raises(
        ValueError, match=r"start does not fit .*layers.0.bias should be \[8\], is \[16\]"
    ):
        next(run(tmp_path / "b", SHORT, start=other))
    with pytest.raises(ValueError, match="start must be a VAE, got a MLP"):
        next(run(tmp_path / "c", KINDS["vae"], start=start))
    eps = built(replace(KINDS["digits"], output="eps"))
    message = "start must be a Denoiser that returns v, got a Denoiser that returns eps"
    with pytest.raises(ValueError, match=message):
        next(run(tmp_path / "d", KINDS["digits"], start=eps))
    with pytest.raises(ValueError, match="leave start out"):
        next(run(ended, SHORT, resume=True, start=start))
    assert not list(tmp_path.glob("[bcd]/*"))


# ---- two processes, NaN --------------------------------------------------------------------------


def share(folder: Path, rank: int, resume: bool) -> None:
    """One of two processes that run together."""
    store = f"file://{folder}-{resume}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    go(folder, SHORT, resume)


def run_shared(folder: Path) -> None:
    """Two processes run together; then resume together."""
    for resume in (False, True):
        assert wait(*[fork(share, folder, rank, resume) for rank in (0, 1)]) == [0, 0]


def test_two_processes_are_one_run(tmp_path, ended):
    in_parent(run_shared, tmp_path / "shared")
    ours, theirs = logged(ended), logged(tmp_path / "shared")
    assert_close(torch.tensor(theirs), torch.tensor(ours), rtol=1e-4, atol=1e-5)
    names = [{path.name for path in folder.iterdir()} for folder in (ended, tmp_path / "shared")]
    assert names[0] == names[1]


def test_nan_stops_the_run_and_the_last_good_checkpoint_stays(tmp_path, ended, monkeypatch):
    batches = Line.batches

    def spoilt(self, device):
        """From step 5 on, numbers far too large."""
        (draw, loss), calls = batches(self, device), iter(range(99))

        def spoil(n, generator):
            x_0, *rest = draw(n, generator)
            return x_0 * (1 if next(calls) < 4 else 1e38), *rest

        return spoil, loss

    with monkeypatch.context() as patch:
        patch.setattr(Line, "batches", spoilt)
        with pytest.raises(FloatingPointError, match="at step 5: lower lr .*clip.*NaN"):
            go(tmp_path)
    tensors, facts = newest(tmp_path)
    assert facts["step"] == 4 and nothing_half(tmp_path)
    assert all(tensor.double().isfinite().all() for tensor in tensors.values())
    go(tmp_path, SHORT, resume=True)
    check_same(tmp_path, ended)


BAD = [
    bad("save", lambda: Line(save_every=150), "multiple of log_every = 100, got 150"),
    bad("save 0", lambda: Line(save_every=0), "multiple of log_every = 100, got 0"),
    bad("width", lambda: Line(width=8_000_000_000), "width must lie in 1..4096, got 8000000000"),
    bad("depth", lambda: Line(depth=0), "depth must lie in 1..100, got 0"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
