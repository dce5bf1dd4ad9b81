"""A run in a folder: killed wherever it may be, it goes on as if nothing had been."""

import errno
import json
import os
import random
import shutil
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from children import fork, in_parent, wait
from strategies import bad, check_bad
from torch.testing import assert_close

from ddpm_lite import run as room
from ddpm_lite import training
from ddpm_lite.forward import q_sample
from ddpm_lite.loss import simple_loss
from ddpm_lite.networks import UNetConfig
from ddpm_lite.prediction import predict_x_0, to_v
from ddpm_lite.tasks import PRESETS, Digits, build, load_pretrained
from ddpm_lite.training import (
    CheckpointError,
    TrainConfig,
    load_checkpoint,
    newest,
    run,
    save_checkpoint,
)

TINY = Digits(
    UNetConfig(width=8, blocks=1, embedding=16),
    TrainConfig(steps=24, batch_size=8, clip=1.0, stratified=True, warmup=4, log_every=1),
    save_every=2,
)
SHORT = replace(TINY, train=replace(TINY.train, steps=6))


def go(folder: Path, config: Digits = TINY, resume: bool | None = None) -> None:
    """Run to the end; by default, resume if there is something to resume from."""
    begun = any(folder.glob("checkpoint-*"))
    for _ in run(folder, config, resume=begun if resume is None else resume):
        pass


def logged(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def steps_in(folder: Path) -> list[int]:
    """Of its checkpoints."""
    return sorted(
        int(path.stem.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*")
    )


def check_same(folder: Path, whole: Path) -> None:
    """Bit for bit the same tensors and log, and no file more."""
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}
    assert logged(folder) == logged(whole)
    for path in whole.glob("*.safetensors"):
        a, b = load_checkpoint(folder / path.name), load_checkpoint(path)
        assert a.tensors.keys() == b.tensors.keys()
        for name, tensor in b.tensors.items():
            assert a.tensors[name].dtype == tensor.dtype
            assert torch.equal(a.tensors[name], tensor), f"{path.name}: {name}"
        timeless = [{**facts, "seconds": 0} for facts in (a.facts, b.facts)]
        assert timeless[0] == timeless[1]


# Killed


def kill_at_random(folder: Path, kills: int) -> list[str]:
    """Run again and again, killed at random moments, every third time in the middle of the next
    checkpoint (if it is still seen there); returns the folders of the ended runs."""
    moments, ended = random.Random(0), []
    start = time.perf_counter()
    assert wait(fork(go, folder / "whole")) == [0]
    seconds = time.perf_counter() - start
    while kills:
        ended.append(f"killed-{len(ended)}")
        code = -signal.SIGKILL
        while code:
            process = fork(go, folder / ended[-1])
            if kills:
                time.sleep(moments.uniform(0, 0.4 * seconds))
                late = time.perf_counter() + 0.2 * seconds
                while kills % 3 == 0 and time.perf_counter() < late:
                    if any((folder / ended[-1]).glob(".*.tmp")):
                        break
                os.kill(process, signal.SIGKILL)
            (code,) = wait(process)
            assert code in (0, -signal.SIGKILL)
            kills -= code != 0
    return ended


def test_killed_at_20_random_moments_it_ends_with_the_same_bits(tmp_path):
    for name in in_parent(kill_at_random, tmp_path, 20):
        check_same(tmp_path / name, tmp_path / "whole")
    assert [step for step, _ in logged(tmp_path / "whole")] == list(range(1, 25))


def die(*args: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def halve(descriptor: int) -> None:
    """In place of os.fsync: only half of the file has come to the disk."""
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    die()


# Where, from which step on, what it does there; the checkpoints and half files that it leaves.
WORST = {
    "half a checkpoint is written": (os, "fsync", 4, halve, [2], 1),
    "it has no name yet": (os, "replace", 4, die, [2], 1),
    "the old one is not yet removed": (room, "_prune", 6, die, [2, 4, 6], 0),
    "the model is not yet written": (room, "_finish", 6, die, [4, 6], 0),
}


def die_at(folder: Path, where: str) -> None:
    owner, name, step, deed, *_ = WORST[where]
    for log, _ in run(folder, SHORT):
        if log.step == step:
            setattr(owner, name, deed)


def kill_at_worst(folder: Path) -> None:
    """Kill a run at each of the worst moments, copy what it left, and resume it."""
    assert wait(fork(go, folder / "whole", SHORT)) == [0]
    for where in WORST:
        assert wait(fork(die_at, folder / where, where)) == [-signal.SIGKILL]
        shutil.copytree(folder / where, folder / f"{where}, as left")
        assert wait(fork(go, folder / where, SHORT)) == [0]


def test_killed_at_the_worst_moments_it_ends_with_the_same_bits(tmp_path):
    in_parent(kill_at_worst, tmp_path)
    for where, (*_, checkpoints, halves) in WORST.items():
        left = tmp_path / f"{where}, as left"
        assert steps_in(left) == checkpoints, where
        assert len(list(left.glob(".*.tmp"))) == halves, where
        check_same(tmp_path / where, tmp_path / "whole")


def test_what_the_caller_does_with_a_log_is_done_before_the_log_is_written(tmp_path):
    """So a caller's sample grid is never missing: stopped in between, the step comes again."""
    for log, _ in run(tmp_path, SHORT):
        if log.step == 4:
            break
    assert [log.step for log, _ in run(tmp_path, SHORT, resume=True)] == [3, 4, 5, 6]
    assert [step for step, _ in logged(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("step", [0, 3, 4])
def test_ctrl_c_saves_the_state_of_the_last_log(tmp_path, ended, step):
    """In the middle of the step after it, or while the caller has the log."""
    running = run(tmp_path, SHORT)
    with pytest.raises(KeyboardInterrupt):
        for log, _ in running:
            if log.step == step:
                running.throw(KeyboardInterrupt)
            elif log.step == 1 and not step:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(training, "_loss", interrupt)
                    next(running)
    assert newest(tmp_path).facts["step"] == max(step, 1) == logged(tmp_path)[-1][0]
    assert not list(tmp_path.glob(".*"))
    go(tmp_path, SHORT, resume=True)
    check_same(tmp_path, ended)


def interrupt(*args: object) -> None:
    raise KeyboardInterrupt


# What is in the folder


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ended")
    go(folder, SHORT)
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    for log, _ in run(folder, TINY):
        if log.step == 7:
            break
    return folder


@pytest.fixture
def half(stopped, tmp_path) -> Path:
    """A run that was stopped at step 6 of 24."""
    return shutil.copytree(stopped, tmp_path / "half")


def test_the_folder_of_a_run(ended):
    names = sorted(path.name for path in ended.iterdir())
    assert names == [
        "checkpoint-0000004.safetensors",
        "checkpoint-0000006.safetensors",
        "log.jsonl",
        "model.safetensors",
    ]
    lines = [json.loads(line) for line in (ended / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(a["seconds"] <= b["seconds"] for a, b in zip(lines, lines[1:], strict=False))
    _, facts = newest(ended)
    assert facts.items() >= lines[-1].items()
    assert Digits.from_facts(facts["config"]) == SHORT
    assert facts["commit"] is None or len(facts["commit"]) >= 7


def test_the_model_is_the_averaged_weights_in_half_precision(ended):
    tensors, facts = load_checkpoint(ended / "model.safetensors")
    last = newest(ended)
    assert facts == last.facts
    averaged = {k[4:]: v for k, v in last.tensors.items() if k.startswith("ema.")}
    assert tensors.keys() == averaged.keys() == build(SHORT).state_dict().keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float16
        assert torch.equal(tensor, averaged[name].half())


def test_load_pretrained_reads_the_model_and_the_checkpoint(ended):
    x, t = torch.randn(3, 1, 28, 28), torch.tensor([1, 500, 1000])
    for y in (None, torch.tensor([0, 5, 9])):
        a, b = (
            load_pretrained(ended / f"{name}.safetensors")(x, t, y)
            for name in ("model", "checkpoint-0000006")
        )
        assert a.shape == x.shape
        assert_close(a, b, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("preset", [*PRESETS.values(), TINY], ids=[*PRESETS, "tiny"])
def test_a_configuration_survives_json(preset):
    assert Digits.from_facts(json.loads(json.dumps(asdict(preset)))) == preset


def test_what_precision_auto_chose_is_kept(tmp_path, monkeypatch):
    """Measured once: on resuming, another choice would give other bits."""
    monkeypatch.setattr(room, "fastest_precision", lambda *_: "bf16")
    config = replace(SHORT, train=replace(SHORT.train, precision="auto"))
    go(tmp_path, config)
    assert newest(tmp_path).facts["config"]["train"]["precision"] == "bf16"
    go(tmp_path, config, resume=True)


# Resumed


def test_resuming_goes_on_with_the_configuration_and_the_clock(half):
    _, before = newest(half)
    other = replace(TINY, label_dropout=0.5, train=replace(TINY.train, lr=1.0))
    for log, seconds in run(half, other, resume=True):
        assert log.step > before["step"] and seconds > before["seconds"]
        if log.step == 9:
            break
    _, after = newest(half)
    assert after["step"] == 8 and after["config"] == before["config"]
    assert Digits.from_facts(after["config"]) == TINY


def test_a_run_that_ended_can_be_resumed_and_does_nothing(ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "again")
    (folder / "model.safetensors").unlink()
    assert list(run(folder, SHORT, resume=True)) == []
    check_same(folder, ended)


def test_a_start_takes_away_what_a_killed_run_left(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 7}\n')
    (tmp_path / ".checkpoint-0000002.safetensors.123.tmp").write_bytes(b"half")
    (tmp_path / "mine.tmp").write_bytes(b"not ours")
    next(run(tmp_path, SHORT))
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "mine.tmp"}
    assert logged(tmp_path) == []


def test_a_torn_line_of_the_log_goes_and_earlier_lines_stay(half):
    log = half / "log.jsonl"
    before = log.read_bytes()
    log.write_bytes(before + b'{"step": 7, "loss": 1.0}\n\xff\x00\n3\n{"step": 4, "lo')
    next(run(half, TINY, resume=True))
    assert log.read_bytes() == before


# Damaged


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


DAMAGE = {
    "truncated": cut,
    "empty": lambda content: b"",
    "no header": lambda content: content[:4],
    "flipped": lambda content: content[:20] + bytes([content[20] ^ 255]) + content[21:],
    "a web page": lambda content: b"<html>404</html>" * 99,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_checkpoint_before_a_damaged_one_is_used_and_said(half, damage):
    path = half / "checkpoint-0000006.safetensors"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.warns(UserWarning, match="0000006.* damaged .*going on from checkpoint-0000004"):
        log, _ = next(run(half, TINY, resume=True))
    assert log.step == 5 and [step for step, _ in logged(half)] == [1, 2, 3, 4]


def test_after_a_fallback_two_good_checkpoints_are_kept(half):
    path = half / "checkpoint-0000006.safetensors"
    shutil.copy(path, half / "checkpoint-0000020.safetensors")
    (half / "checkpoint-0000020.safetensors").write_bytes(cut(path.read_bytes()))
    with pytest.warns(UserWarning, match="0000020"):
        for log, _ in run(half, TINY, resume=True):
            if log.step == 11:
                break
    assert steps_in(half) == [8, 10, 20]


def test_with_no_checkpoint_left_every_problem_is_told(half):
    for path in half.glob("checkpoint-*"):
        path.write_bytes(b"")
    message = "(?s)nothing to resume from .*0000006.* damaged.*0000004.* damaged"
    with pytest.raises(CheckpointError, match=message):
        next(run(half, TINY, resume=True))
    with pytest.raises(CheckpointError, match="holds a run already"):
        next(run(half, TINY))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "no run of this version of ddpm_lite: 'config'"),
        ({"config": 3}, "no run of this version"),
        ({"config": {**asdict(TINY), "colour": 1}}, "no run of this version.*colour"),
        ({"config": {**asdict(TINY), "label_dropout": 2}}, "label_dropout must lie"),
        ([], "no run of this version"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, facts, message):
    save_checkpoint(tmp_path / "checkpoint-0000002.safetensors", {"a": torch.ones(1)}, facts)
    with pytest.raises(CheckpointError, match=message):
        next(run(tmp_path, TINY, resume=True))


def test_a_checkpoint_without_the_weights_is_refused(tmp_path):
    facts = {"config": asdict(TINY), "step": 2, "seconds": 1.0}
    save_checkpoint(tmp_path / "checkpoint-0000002.safetensors", {"a": torch.ones(1)}, facts)
    with pytest.raises(ValueError, match="does not fit this model"):
        next(run(tmp_path, TINY, resume=True))


# No space, no number


HALF = f".checkpoint-0000004.safetensors.{os.getpid()}.tmp"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("name", [HALF, "log.jsonl"], ids=["checkpoint", "log"])
def test_on_a_full_disk_the_run_stops_and_keeps_what_it_has(tmp_path, ended, name):
    with pytest.raises(CheckpointError, match="No space left on device.*free some space") as caught:
        for log, _ in run(tmp_path, SHORT):
            if log.step == 4:
                if name == "log.jsonl":
                    (tmp_path / name).rename(tmp_path / "kept")
                (tmp_path / name).symlink_to("/dev/full")
    assert caught.value.__cause__.errno == errno.ENOSPC
    if name == "log.jsonl":
        (tmp_path / "kept").replace(tmp_path / name)
    assert steps_in(tmp_path) == [2]
    assert not list(tmp_path.glob(".*"))
    go(tmp_path, SHORT, resume=True)
    check_same(tmp_path, ended)


def test_nan_stops_the_run_and_the_last_good_checkpoint_stays(tmp_path, ended, monkeypatch):
    labelled = room.labelled

    def spoilt(*arguments):
        """From step 5 on, pixels far too large."""
        draw, calls = labelled(*arguments), iter(range(99))

        def spoil(n, generator):
            x_0, y = draw(n, generator)
            return x_0 * (1 if next(calls) < 4 else 1e38), y

        return spoil

    with monkeypatch.context() as patch:
        patch.setattr(room, "labelled", spoilt)
        with pytest.raises(FloatingPointError, match="not finite at step 5: lower lr .*clip.*NaN"):
            go(tmp_path, SHORT)
    tensors, facts = newest(tmp_path)
    assert facts["step"] == 4
    assert all(tensor.double().isfinite().all() for tensor in tensors.values())
    go(tmp_path, SHORT, resume=True)
    check_same(tmp_path, ended)


# Its parts


@pytest.mark.parametrize("output", ["x_0", "eps", "v"])
def test_the_weight_makes_the_loss_that_of_the_output(output):
    """For v, halfway there: its square does."""
    config = replace(TINY, output=output)
    model, schedule = build(config).double(), config.schedule
    torch.manual_seed(0)
    torch.nn.init.normal_(model.net.head.weight, std=0.1)
    x_0, eps = torch.randn(2, 16, 1, 28, 28, dtype=torch.float64)
    t = torch.linspace(1, 1000, 16).long()
    x_t = q_sample(schedule, x_0, t, eps)
    target = {"x_0": x_0, "eps": eps, "v": to_v(schedule, x_0, t, eps)}[output]
    plain = ((model.net(x_t, t) - target) ** 2).mean()
    table = weight(config) ** (2 if output == "v" else 1)
    assert_close(simple_loss(model, schedule, x_0, t, eps, table), plain)


@pytest.mark.parametrize("output", ["x_0", "eps", "v"])
def test_what_the_untrained_network_says(output):
    """Its output is 0: no digit, no noise, or nothing along v."""
    model, schedule = build(replace(TINY, output=output)).double(), TINY.schedule
    x_t, t = torch.randn(3, 1, 28, 28, dtype=torch.float64), torch.tensor([1, 300, 1000])
    eps_hat = model(x_t, t)
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    zero = {"x_0": x_0_hat, "eps": eps_hat, "v": to_v(schedule, x_0_hat, t, eps_hat)}[output]
    assert_close(zero, torch.zeros_like(zero), rtol=0, atol=1e-9)


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


FOLDER = Path("nowhere")
BAD = [
    bad("dropout", lambda: Digits(label_dropout=1.5), r"label_dropout must lie in .*got 1.5"),
    bad("save", lambda: Digits(save_every=150), "multiple of log_every = 100, got 150"),
    bad("save 0", lambda: Digits(save_every=0), "multiple of log_every = 100, got 0"),
    bad("size", lambda: Digits(UNetConfig(size=32)), "for MNIST: size 28.*got 32, 1, 10"),
    bad("classes", lambda: Digits(UNetConfig(classes=5)), "for MNIST.*got 28, 1, 5"),
    bad("output", lambda: build(replace(TINY, output="score")), "output must be one of .*'score'"),
    bad(
        "nothing",
        lambda: next(run(FOLDER, TINY, resume=True)),
        "nothing to resume from in nowhere",
        CheckpointError,
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)


def test_a_folder_that_holds_a_run_is_not_overwritten(ended):
    with pytest.raises(CheckpointError, match="holds a run already: resume it, or choose another"):
        next(run(ended, SHORT))
