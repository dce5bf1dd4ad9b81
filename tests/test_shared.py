"""Two processes that train one model: they do what one does, and stay together."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from children import fork, in_parent, wait
from kinds import KINDS, MIXTURE, built, network, with_train
from strategies import check_bad
from test_precision import Clock
from torch.testing import assert_close

from ddpm_lite.schedule import linear_schedule
from ddpm_lite.training import (
    TrainConfig,
    denoising,
    fastest_precision,
    load_checkpoint,
    precision,
    save_checkpoint,
    train,
)

SHARED = TrainConfig(steps=8, batch_size=8, lr=1e-2, warmup=2, clip=0.5, log_every=2)
LINE = denoising(MIXTURE.sample, linear_schedule(100, 0.001, 0.1))


def train_kind(kind: str, path: Path | None = None, rank: int = 0) -> tuple[list[dict], dict]:
    """In float64; losses, and the last state. ``path``: to keep them."""
    task = with_train(KINDS[kind], steps=6, lr=1e-2, clip=0.5, log_every=2)
    model = built(task, seed=rank, dtype=torch.float64)  # each its own start: the first one's holds
    losses, sizes = [], set()
    first = next(module for module in model.modules() if not list(module.children()))
    first.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    for log in train(model, *task.batches(torch.device("cpu")), task.train):
        losses.append(log.losses)
    if path:
        save_checkpoint(path, log.state(), {"losses": losses, "sizes": list(sizes)})
    return losses, log.state()


def join(folder: Path, rank: int, name: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / name}", rank=rank, world_size=2)


def share(folder: Path, rank: int, kind: str) -> None:
    join(folder, rank, kind)
    train_kind(kind, folder / f"{rank}.safetensors", rank)


def both(call, folder: Path, *args: object) -> list[int]:
    return wait(*[fork(call, folder, rank, *args) for rank in (0, 1)])


def differ(folder: Path, rank: int) -> None:
    """bf16 seems faster to one process and slower to the other."""
    join(folder, rank, "precision")
    clock = Clock([0.5, 2.0][rank])
    precision.time = clock
    timed = denoising(MIXTURE.sample, linear_schedule(100), loss=clock.loss)
    assert fastest_precision(network(), *timed, SHARED) == "bf16"


def divide(folder: Path, rank: int) -> None:
    join(folder, rank, "seven")
    message = "batch_size must be a multiple of the number of processes, 2, got 7"
    config = TrainConfig(steps=1, batch_size=7)
    for call in (train, fastest_precision):
        check_bad(lambda call=call: call(network(), *LINE, config), message, ValueError)


@pytest.mark.parametrize("kind", ["line", "digits", "vae", "adversaries"])
def test_two_processes_train_as_one(tmp_path, kind):
    losses, state = train_kind(kind)
    assert in_parent(both, share, tmp_path, kind) == [0, 0]
    for rank in (0, 1):
        tensors, facts = load_checkpoint(tmp_path / f"{rank}.safetensors")
        assert facts["sizes"] == [4]
        assert_close(facts["losses"], losses, rtol=1e-9, atol=0)
        assert tensors.keys() == state.keys()
        for name, tensor in tensors.items():
            assert_close(tensor, state[name], rtol=1e-6, atol=1e-9)


def test_a_classifiers_processes_stay_together_though_each_normalises_its_own_share(tmp_path):
    """Batch normalisation sees a share, not the batch: the training is another one, but one.

    So the loss is another from the first step on. The mean that the first layer keeps is then still
    that of the batch.
    """
    one = with_train(KINDS["classifier"], steps=1, warmup=0)
    model = built(one, dtype=torch.float64)
    (log,) = train(model, *one.batches(torch.device("cpu")), one.train)
    assert in_parent(both, share_classifier, tmp_path) == [0, 0]
    ours, theirs = (load_checkpoint(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert ours.facts == theirs.facts
    for name, tensor in ours.tensors.items():
        assert torch.equal(tensor, theirs.tensors[name]), name
    mean = torch.tensor(ours.facts["mean"], dtype=torch.float64)
    assert_close(mean, model.body[1].running_mean, rtol=1e-9, atol=0)
    assert 1e-6 < abs(ours.facts["losses"][0] / log.loss - 1) < 0.1


def share_classifier(folder: Path, rank: int) -> None:
    join(folder, rank, "classifier")
    task = with_train(KINDS["classifier"], steps=4, warmup=0)
    model, losses, means = built(task, dtype=torch.float64), [], []
    for log in train(model, *task.batches(torch.device("cpu")), task.train):
        losses.append(log.loss)
        means.append(model.body[1].running_mean.tolist())
    facts = {"losses": losses, "mean": means[0]}
    save_checkpoint(folder / f"{rank}.safetensors", log.state(), facts)


@pytest.mark.parametrize("call", [differ, divide])
def test_two_processes(tmp_path, call):
    """They choose one precision; and a batch that cannot be shared is refused."""
    assert in_parent(both, call, tmp_path) == [0, 0]
