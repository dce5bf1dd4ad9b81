"""A training run in a folder: checkpoints to go on from, a log, sample grids, the final model."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
import warnings
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from .data import labelled, mnist
from .networks import UNETS, Reading, UNet, UNetConfig
from .schedule import NoiseSchedule, linear_schedule
from .training import Log, TrainConfig, fastest_precision, train


@dataclass(frozen=True)
class RunConfig:
    """All that decides what a run on MNIST ends with. Raises ValueError where out of range."""

    network: UNetConfig = field(default_factory=UNetConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    output: str = "v"  # what the network returns and is scored on: x_0, eps or v
    T: int = 1000
    beta_1: float = 1e-4
    beta_T: float = 0.02
    label_dropout: float = 0.1  # share of the labels that are hidden, so y = None is learned too
    save_every: int = 500  # steps from one checkpoint to the next

    def __post_init__(self) -> None:
        net = self.network
        if (net.size, net.channels, net.classes) != (28, 1, 10):
            raise ValueError(
                "network must be for MNIST: size 28, channels 1, classes 10, got "
                f"{net.size}, {net.channels}, {net.classes}"
            )
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout must lie in [0, 1], got {self.label_dropout}")
        if self.save_every < 1 or self.save_every % self.train.log_every:
            raise ValueError(
                f"save_every must be a multiple of log_every = {self.train.log_every}, "
                f"got {self.save_every}"
            )

    @property
    def schedule(self) -> NoiseSchedule:
        """The linear schedule of T, beta_1 and beta_T."""
        return linear_schedule(self.T, self.beta_1, self.beta_T)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> RunConfig:
        """The configuration that a checkpoint's JSON tells of."""
        parts = dict(facts)
        network = dict(parts.pop("network"))
        network["multipliers"] = tuple(network["multipliers"])
        training = dict(parts.pop("train"))
        training["betas"] = tuple(training["betas"])
        return cls(UNetConfig(**network), TrainConfig(**training), **parts)


RECIPE = TrainConfig(betas=(0.9, 0.99), clip=1.0, stratified=True, precision="auto")
PRESETS = {
    "book": RunConfig(
        UNETS["book"],
        replace(RECIPE, steps=12_000, batch_size=128, lr=1.5e-3, warmup=100, ema_decay=0.999),
    ),
    "full": RunConfig(
        UNETS["full"],
        replace(
            RECIPE,
            steps=60_000,
            batch_size=512,
            lr=4e-4,
            warmup=500,
            ema_decay=0.9995,
            compile=True,
        ),
    ),
}


def run(
    folder: str | Path,
    config: RunConfig,
    device: torch.device | str = "cpu",
    resume: bool = False,
) -> Generator[tuple[Log, float], None, None]:
    """Train in ``folder``, yielding (`Log`, seconds of training so far) as `train` does.

    Every ``save_every`` steps a checkpoint is written (the last two are kept) and at the end
    ``model.safetensors``: the averaged weights alone, in float16. A log is yielded before it is
    written: what the caller does with it is done again if the run is killed in between. resume: go
    on from the newest checkpoint that is whole, with its config. Ctrl-C saves the state of the last
    log, and then goes on as KeyboardInterrupt. Raises CheckpointError when the folder holds another
    run, or none, or cannot be written to.
    """
    folder = Path(folder)
    state, seconds, step = None, 0.0, 0
    if resume:
        found = newest(folder)
        try:
            config, state = RunConfig.from_facts(found.facts["config"]), found.tensors
            seconds, step = found.facts["seconds"], found.facts["step"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the newest checkpoint in {folder} is of no run of this version of ddpm_lite: "
                f"{error}"
            ) from None
    elif any(folder.glob("checkpoint-*.safetensors")) or (folder / "model.safetensors").exists():
        raise CheckpointError(f"{folder} holds a run already: resume it, or choose another folder")
    if _chief():
        _tidy(folder, step)
    images, labels = mnist("train")
    draw = labelled(images.to(device), labels.to(device), config.label_dropout)
    torch.manual_seed(config.train.seed)
    model = build(config).to(device)
    if config.train.precision == "auto":
        precision = fastest_precision(model, config.schedule, draw, config.train)
        config = replace(config, train=replace(config.train, precision=precision))
    if not (torch.device(device).type == "cpu" and config.train.precision == "bf16"):
        # bf16 GroupNorm in this layout is slow on a CPU; elsewhere convolutions like it
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start = time.perf_counter() - seconds
    last = None
    try:
        for log in train(model, config.schedule, draw, config.train, weight(config), state=state):
            seconds = time.perf_counter() - start
            last = (log, seconds, log.state()) if _chief() else None
            yield log, seconds
            if last:
                _write(folder, config, *last)
    except KeyboardInterrupt:  # perhaps in the middle of a step, so the weights will not do
        if last:
            _tidy(folder, last[0].step - 1)
            _write(folder, config, *last, save=True)
        raise
    if _chief():
        _finish(folder, config.train.steps)


def build(config: RunConfig) -> Reading:
    """An untrained model of this configuration."""
    return Reading(UNet(config.network), config.schedule, config.output)


def weight(config: RunConfig) -> Tensor:
    """A table [T + 1] on the squared error of eps_hat.

    For "x_0" and "eps" it makes the loss that quantity's own squared error; for "v" it is
    1 / sqrt(alpha_bar), halfway between the errors of eps (1) and of v (1 / alpha_bar): the first
    neglects large t, where digits get their shape, the second small t, where they get sharp.
    """
    schedule = config.schedule
    tables = {
        "x_0": 1 / schedule.snr,
        "eps": torch.ones_like(schedule.beta),
        "v": schedule.alpha_bar**-0.5,
    }
    return tables[config.output]


def newest(folder: str | Path) -> Checkpoint:
    """The newest checkpoint in ``folder`` that can be read; a damaged one is passed over, with a
    warning. Raises CheckpointError where there is none."""
    problems = []
    for path in sorted(Path(folder).glob("checkpoint-*.safetensors"), reverse=True):
        try:
            found = load_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            for problem in problems:
                warnings.warn(f"{problem}: going on from {path.name}", stacklevel=2)
            return found
    raise CheckpointError("\n".join([f"nothing to resume from in {folder}", *problems]))


def _write(
    folder: Path,
    config: RunConfig,
    log: Log,
    seconds: float,
    state: dict[str, Tensor],
    save: bool = False,
) -> None:
    """One line of the log and, when it is time or ``save`` is asked for, the checkpoint."""
    line = {"step": log.step, "loss": log.loss, "seconds": round(seconds, 1)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"cannot write the log in {folder}: {error.strerror}; free some space and resume"
        ) from error
    if save or log.step % config.save_every == 0 or log.step == config.train.steps:
        facts = {"config": asdict(config), "commit": _commit(), **line}
        save_checkpoint(_path(folder, log.step), state, facts)
        _prune(folder, log.step)


def _finish(folder: Path, steps: int) -> None:
    """The model, out of the last checkpoint: so a run that was killed right after it can do it."""
    tensors, facts = load_checkpoint(_path(folder, steps))
    half = {k.removeprefix("ema."): v.half() for k, v in tensors.items() if k.startswith("ema.")}
    save_checkpoint(folder / "model.safetensors", half, facts)


def _path(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:07d}.safetensors"


def _prune(folder: Path, step: int) -> None:
    """Keep the last two checkpoints up to ``step``: later ones, if any, are damaged."""
    paths = sorted(folder.glob("checkpoint-*.safetensors"))
    for old in [path for path in paths if path <= _path(folder, step)][:-2]:
        old.unlink()


def _tidy(folder: Path, step: int) -> None:
    """Before going on from ``step``: away with half files of a killed run, and later logs."""
    _prune(folder, step)
    for half in folder.glob(".*.tmp"):
        half.unlink()
    log = folder / "log.jsonl"
    if log.exists():
        kept = [line for line in log.read_bytes().splitlines(True) if _logged(line) <= step]
        fresh = folder / ".log.jsonl.tmp"
        fresh.write_bytes(b"".join(kept))
        os.replace(fresh, log)


def _logged(line: bytes) -> float:
    """The step of a line of the log; infinity where the line is torn."""
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else math.inf
    except (KeyError, TypeError, ValueError):
        return math.inf


def _commit() -> str | None:
    """The commit of the code, where git knows it."""
    here = Path(__file__).parent
    try:
        asked = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _chief() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0
