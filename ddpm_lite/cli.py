"""Train a model, draw with it, measure what it draws.

    ddpm-lite train [KIND [PRESET]] [--out FOLDER] [--train.steps 100 ...] [--resume]
    ddpm-lite train images --data FOLDER_OR_NPZ [--size 32] [--channels 3]
    ddpm-lite sample [--checkpoint digits] [--classes 0123456789] [--n 10] [--out samples.png]
    ddpm-lite sample --digits 7 --guidance 2
    ddpm-lite sample --inpaint FILE --mask FILE [--digits none]
    ddpm-lite evaluate [CHECKPOINT] [--n 10000] [--out results.json]
    ddpm-lite info [CHECKPOINT]

@KINDS@`ddpm-lite COMMAND --help` lists all its flags, `ddpm-lite train KIND --help` those of a
kind. A checkpoint is a name that comes with the package ("digits"), a .safetensors file, or the
folder of a run. To train on eight GPUs:
`torchrun --nproc-per-node 8 -m ddpm_lite train digits full`.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import torch
import torch.distributed as dist
import tyro
from tqdm import tqdm

from .data.digits import DataError
from .files import SavedElsewhere, check_writable, keep, write_whole
from .tasks import KINDS, PRESETS, Asked, Diffusion, Drawing, gathered, load_task, resumed
from .tasks.evaluation import machine
from .tasks.inpainting import Part, read_part
from .terminal import complain, device_of, laid_out, say
from .training import CheckpointError, Log, Task, find, load_checkpoint, newest, run
from .training.distributed import chief, join, leave

T = TypeVar("T", bound=Task)
Checkpoint = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[CHECKPOINT]")]


@dataclass(frozen=True)
class Train(Generic[T]):
    """Train a model; checkpoints, log and previews go to a folder."""

    task: Annotated[T, tyro.conf.arg(name="")]
    out: Path  # folder of the run
    resume: bool = False  # go on with the run in the folder, as it was configured
    start: str | None = None  # begin with the weights of this checkpoint, of the same network
    device: str = "auto"  # cpu, cuda, cuda:1; auto: cuda if it is there

    def __call__(self, line: str) -> None:
        task: Task = self.task
        if self.resume and self.start:
            raise ValueError("--resume goes on with its own weights: leave out --start")
        step, device = 0, join(device_of(self.device))
        if self.resume:
            if task not in [p for presets in PRESETS.values() for p in presets.values()]:
                raise ValueError("--resume takes the run's own configuration: leave out yours")
            with warnings.catch_warnings(action="ignore"):  # `run` will give them
                task, step = resumed(self.out), newest(self.out).facts["step"]
        check_writable(self.out / "log.jsonl")
        start = load_task(self.start, device)[1] if self.start else None
        logs = run(self.out, task, device, self.resume, start)
        bar = tqdm(total=task.train.steps, initial=step, unit="step", delay=1, disable=not chief())
        try:
            _follow(logs, task, bar)
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):
                logs.throw(KeyboardInterrupt())  # if it came here, `run` does not know yet
            bar.close()
            complain(self._how_to_resume())
            raise
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; what was saved stays in {self.out}") from None
        finally:
            bar.close()
        leave()
        what = "info" if type(task).sample is Task.sample else "sample --checkpoint"
        say(f"trained; see: ddpm-lite {what} {shlex.quote(str(self.out))}")

    def _how_to_resume(self) -> str:
        try:
            step = newest(self.out).facts["step"]
        except CheckpointError:
            return "stopped before the first log: there is nothing to go on from"
        again = ["ddpm-lite"]
        if dist.is_torchelastic_launched():
            processes = os.environ["LOCAL_WORLD_SIZE"]
            again = ["torchrun", "--nproc-per-node", processes, "-m", "ddpm_lite"]
        again += ["train", "--resume", "--out", str(self.out)]
        again += [] if self.device == "auto" else ["--device", self.device]
        return f"stopped; step {step} is saved, go on from there with: {shlex.join(again)}"


def _follow(logs: Iterator[tuple[Log, float]], task: Task, bar: tqdm) -> None:
    """Show how the training goes."""
    step, clock = bar.n, time.perf_counter()
    for log, _ in logs:
        done, seconds = log.step - step, time.perf_counter() - clock
        speed = done * task.train.batch_size / seconds
        losses = [f"{name} {value:.4f}" for name, value in log.losses.items()]
        shown = ", ".join(losses) if len(losses) > 1 else f"loss {log.loss:.4f}"
        bar.set_postfix_str(f"{shown}, {speed:,.0f} samples/s", refresh=False)
        bar.update(done)
        step, clock = log.step, time.perf_counter()


@dataclass(frozen=True)
class Sample:
    """Draw samples: a picture (.png) or, with a .npz name, arrays."""

    how: Drawing = Drawing()
    classes: Annotated[str | None, tyro.conf.arg(aliases=["--digits"])] = None
    """which, in turn: 38 of digits, cat,dog of one's own pictures; none: no label (None: all)"""
    n: int | None = None  # how many (None: one of each class; 16 where there are none)
    out: Path = Path("samples.png")
    checkpoint: str = "digits"
    inpaint: Path | None = None  # draw a part of this picture, or of each in a .npz
    mask: Path | None = None  # which part: white in this picture, not 0 in this .npz
    resample: int = 5  # of the inpainting: how often a step is taken; more fits better
    device: str = "auto"  # cpu, cuda, cuda:1; auto: cuda if it is there

    def __call__(self, line: str) -> None:
        if self.out.suffix.lower() not in (".png", ".npz"):
            raise ValueError(f"--out must end in .png or .npz, got {self.out}")
        check_writable(self.out)
        task, model = load_task(self.checkpoint, device_of(self.device))
        if (self.n or 0) > (most := task.most(self.out)):
            raise ValueError(
                f"n must be at most {most:,} for one {self.out.suffix}, got {self.n:,}: draw "
                "several files, each with its own seed"
            )
        part = self._part(task)
        n = len(part.images) if part and self.n is None else self.n
        asked = task.labels(self.classes, n)
        labels, n = (None, asked) if isinstance(asked, int) else (asked, len(asked))
        model = laid_out(model, self.how.precision)
        more = (part.of(n),) if part else ()
        drawn = task.sample(model, self.how, asked, *more)
        samples = gathered(drawn, n, "sample")
        classes = 1 if labels is None else len(labels.unique())
        columns = classes * math.ceil(math.sqrt(n) / classes)  # about square, all rows alike
        where = keep(self.out, lambda path: task.write(path, samples, labels, columns))
        say(f"{where}: {n} samples, seed {self.how.seed}")

    def _part(self, task: Task) -> Part | None:
        """What is to be drawn of which pictures; None: all."""
        if (self.inpaint is None) != (self.mask is None):
            raise ValueError("--inpaint and --mask go together: a picture, and where to draw in it")
        if self.inpaint is None or self.mask is None:
            return None
        if not isinstance(task, Diffusion):
            raise ValueError(f"--inpaint needs a diffusion model of images, got one of {task.kind}")
        shape = task.unet.channels, task.unet.size
        return read_part(self.inpaint, self.mask, *shape, self.resample)


@dataclass(frozen=True)
class Evaluate:
    """Measure a model, what it draws beside what is real: a JSON file."""

    checkpoint: Checkpoint = "digits"
    asked: Asked = Asked()
    out: Path = Path("results.json")
    device: str = "auto"  # cpu, cuda, cuda:1; auto: cuda if it is there

    def __call__(self, line: str) -> None:
        start, images = time.perf_counter(), self.asked.images
        if images and images.suffix.lower() != ".npz":
            raise ValueError(f"--images must end in .npz, got {images}")
        if images and os.path.realpath(images) == os.path.realpath(self.out):
            raise ValueError(f"--out and --images must be two files, got {self.out} for both")
        for path in filter(None, (self.out, images)):
            check_writable(path)
        device = device_of(self.device)
        task, model = load_task(self.checkpoint, device)
        facts = load_checkpoint(find(self.checkpoint)).facts
        found = task.evaluate(laid_out(model, self.asked.how.precision), self.asked)
        result = {
            "command": line,
            "checkpoint": {key: facts.get(key) for key in ("kind", "step", "loss", "commit")},
            **found,
            "seconds": round(time.perf_counter() - start),
            "machine": machine(device),
        }
        _show(found)
        text = json.dumps(result, indent=1) + "\n"
        say(f"all of it: {keep(self.out, lambda path: write_whole(path, text.encode()))}")


def _show(found: dict[str, Any]) -> None:
    for note in found.get("notes", ()):
        say(note)
    for name, value in found["measures"].items():
        others = "".join(f"   {k} {v:.4g}" for k, v in value.items() if k != "value")
        say(f"{name:<16}{value['value']:>10.4g}{others}")
    if bound := found.get("bits_per_dim"):
        say(f"bits/dim        {bound['total']:>10.4g}   +- {bound['standard_error']:.2g}")


@dataclass(frozen=True)
class Info:
    """Say what a checkpoint holds: kind, size, parameters, and the facts of its training."""

    checkpoint: Checkpoint = "digits"

    def __call__(self, line: str) -> None:
        path = find(self.checkpoint)
        count = sum(parameter.numel() for parameter in load_task(path)[1].parameters())
        say(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {count:,} parameters")
        say(json.dumps(load_checkpoint(path).facts, indent=2))


COMMANDS = {"train": Train, "sample": Sample, "evaluate": Evaluate, "info": Info}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0; 1 when the disk, the memory or the training
    failed; 2 when something else must be asked for; 130 after Ctrl-C."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(_help())
        return 0 if args else 2
    told: list[Warning | str] = []

    def tell(message: Warning | str, *_: object, **__: object) -> None:
        told.append(message)
        complain(message)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = tell
            _parse(*args)(shlex.join(["ddpm-lite", *args]))
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:  # tyro has printed its help, or what is wrong with a flag
        return int(stop.code or 0)
    except (DataError, FloatingPointError, MemoryError, OSError, torch.OutOfMemoryError) as error:
        complain(error)
        return 1
    except (CheckpointError, ValueError) as error:
        complain(error)
        return 1 if isinstance(error.__cause__, OSError) else 2
    return int(any(isinstance(message, SavedElsewhere) for message in told))


def _help() -> str:
    """How to use it, with the kinds and presets there are."""
    kinds = [f"    {kind:<18}{', '.join(presets)}" for kind, presets in PRESETS.items()]
    text = "KIND and PRESET (the first is the default):\n\n" + "\n".join(kinds) + "\n\n"
    return (__doc__ or "").replace("@KINDS@", text)


def _parse(name: str, *args: str) -> Any:
    """The command, its fields set from its flags."""
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}: choose from {', '.join(COMMANDS)}")
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    if name != "train":
        return tyro.cli(COMMANDS[name], args=args, prog=f"ddpm-lite {name}", config=config)
    words = [arg for arg in args[:2] if arg[:1] != "-"] if args and args[0][:1] != "-" else []
    kind, preset = _named(*words)
    folder = Path("runs") / (kind if len(words) < 2 else f"{kind}-{preset}")
    default: Train = Train(PRESETS[kind][preset], folder)
    about = (
        f"Train {kind} ({preset}); checkpoints, log and previews go to a folder. "
        f"Presets of {kind}: {', '.join(PRESETS[kind])}. Kinds: {', '.join(PRESETS)}."
    )
    made: Any = Train.__class_getitem__(KINDS[kind])  # type: ignore[attr-defined]
    prog, args = " ".join(["ddpm-lite train", *words]), args[len(words) :]
    return tyro.cli(
        made, args=args, default=default, prog=prog, description=about, config=config[1:]
    )


def _named(kind: str = "digits", preset: str | None = None) -> tuple[str, str]:
    """The kind and the preset that are meant."""
    if kind not in KINDS:
        old = [known for known, presets in PRESETS.items() if kind in presets][:1]
        hint = f"did you mean: ddpm-lite train {old[0]} {kind}? " if old else ""
        raise ValueError(f"unknown kind {kind!r}: {hint}choose from {', '.join(PRESETS)}")
    preset = preset or next(iter(PRESETS[kind]))
    if preset not in PRESETS[kind]:
        raise ValueError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS[kind])}")
    return kind, preset
