"""Train a diffusion model of handwritten digits, draw with it, measure what it draws.

    ddpm-lite train [book|full] [--out FOLDER] [--train.steps 100 ...] [--resume]
    ddpm-lite sample [--digits 0123456789] [--n 10] [--out digits.png]
    ddpm-lite evaluate [CHECKPOINT] [--n 10000] [--out results.json]
    ddpm-lite info [CHECKPOINT]

`ddpm-lite COMMAND --help` lists all its flags. A checkpoint is a name that comes with the package
("digits"), a .safetensors file, or the folder of a run. To train on eight GPUs:
`torchrun --nproc-per-node 8 -m ddpm_lite train full`.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import torch
import torch.distributed as dist
import tyro
from torch import Tensor
from tqdm import tqdm

from .checkpoint import CheckpointError, find, load_checkpoint, load_pretrained
from .digits import CHUNK, Drawing, dealt, draw, load_digits, write_digits
from .networks import Reading
from .run import PRESETS, RunConfig, newest, run
from .training import Log

TEN = "0123456789"


@dataclass(frozen=True)
class Train:
    """Train a U-Net on MNIST; checkpoints, log and sample grids go to a folder."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    out: Path  # folder of the run
    resume: bool = False  # go on with the run in the folder, as it was configured
    device: str = "auto"  # cuda, mps, cpu ...; auto: the first of these that works

    def __call__(self, line: str) -> None:
        config, step = self.config, 0
        if self.resume:
            if config not in PRESETS.values():
                raise ValueError("--resume takes the run's own configuration: leave out yours")
            with warnings.catch_warnings(action="ignore"):  # `run` will give them
                facts = newest(self.out).facts
            with suppress(KeyError, TypeError, ValueError):  # `run` will say what is wrong
                config, step = RunConfig.from_facts(facts["config"]), facts["step"]
        _writable(self.out / "log.jsonl")
        logs = run(self.out, config, _join(_device(self.device)), self.resume)
        bar = tqdm(
            total=config.train.steps, initial=step, unit="step", delay=1, disable=not _chief()
        )
        try:
            self._follow(logs, config, bar)
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):
                logs.throw(KeyboardInterrupt())  # if it came here, `run` does not know yet
            bar.close()
            _complain(self._how_to_resume())
            raise
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; what was saved stays in {self.out}") from None
        finally:
            bar.close()
        if dist.is_initialized():
            dist.destroy_process_group()
        _say(f"trained; draw with it: ddpm-lite sample --checkpoint {shlex.quote(str(self.out))}")

    def _follow(self, logs: Iterator[tuple[Log, float]], config: RunConfig, bar: tqdm) -> None:
        """Show how the training goes; at each checkpoint, draw 40 digits in 25 steps."""
        labels, how = dealt(TEN, 40), Drawing(steps=min(25, config.T))
        step, clock = bar.n, time.perf_counter()
        for log, _ in logs:
            done, seconds = log.step - step, time.perf_counter() - clock
            speed = done * config.train.batch_size / seconds
            bar.set_postfix_str(f"loss {log.loss:.4f}, {speed:,.0f} images/s", refresh=False)
            bar.update(done)
            if _chief() and (log.step % config.save_every == 0 or log.step == config.train.steps):
                images = torch.cat(list(draw(log.ema, labels, how)))  # type: ignore[arg-type]
                write_digits(self.out / f"samples-{log.step:07d}.png", images, labels)
            step, clock = log.step, time.perf_counter()

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


@dataclass(frozen=True)
class Sample:
    """Draw digits: a PNG grid or, with a .npz name, arrays `images` and `labels`."""

    how: Annotated[Drawing, tyro.conf.arg(name="")] = Drawing()
    digits: str = TEN  # which: they are dealt in turn
    n: int | None = None  # how many (None: one of each)
    out: Path = Path("digits.png")
    checkpoint: str = "digits"
    device: str = "auto"

    def __call__(self, line: str) -> None:
        if self.out.suffix not in (".png", ".npz"):
            raise ValueError(f"--out must end in .png or .npz, got {self.out}")
        labels = dealt(self.digits, len(self.digits) if self.n is None else self.n)
        _writable(self.out)
        images = _draw(load_digits(self.checkpoint, _device(self.device)), labels, self.how)
        rounds = -(-(len(labels) ** 0.5) // len(self.digits))  # of dealing, a row: about square
        write_digits(self.out, images, labels, int(rounds) * len(self.digits))
        _say(f"{self.out}: {len(labels)} digits, seed {self.how.seed}")


@dataclass(frozen=True)
class Evaluate:
    """Draw digits, and measure them beside real ones: a JSON file."""

    checkpoint: tyro.conf.Positional[str] = "digits"
    how: Annotated[Drawing, tyro.conf.arg(name="")] = Drawing()
    n: int = 10_000  # how many digits
    bound_images: int = 1000  # test digits for the bound on their likelihood; 0: leave it out
    bound_times: int = 100  # network calls for each of them, at most T - 1
    out: Path = Path("results.json")
    images: Path | None = None  # keep the digits too, in this .npz
    device: str = "auto"

    def __call__(self, line: str) -> None:
        from . import evaluation  # here, because SciPy takes a second to import

        start = time.perf_counter()
        evaluation.check_size(self.n)
        if self.images and self.images.suffix != ".npz":
            raise ValueError(f"--images must end in .npz, got {self.images}")
        for path in filter(None, (self.out, self.images)):
            _writable(path)
        device, bound = _device(self.device), None
        labels = evaluation.asked(self.n, self.how.seed)
        classifier = load_pretrained("classifier", device)
        model = load_digits(self.checkpoint, device)
        if self.bound_images:
            bound = evaluation.bound(model, self.bound_images, self.bound_times, self.how.seed)
        begun = time.perf_counter()
        images = _draw(model, labels, self.how)
        drawing = time.perf_counter() - begun
        if self.images:
            write_digits(self.images, images, labels)
        measures = evaluation.measure(classifier, images, labels, self.how.seed)
        facts = load_checkpoint(find(self.checkpoint)).facts
        result = {
            "command": line,
            "checkpoint": {key: facts.get(key) for key in ("step", "loss", "commit")},
            "drawing": {"n": self.n, **asdict(self.how)},
            "measures": measures,
            "bits_per_dim": bound,
            "seconds": {"drawing": round(drawing), "all": round(time.perf_counter() - start)},
            "machine": evaluation.machine(device),
        }
        self.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        for name, found in measures.items():
            _say(f"{name:<16}{found['value']:>10.4g}   real digits {found['real']:.4g}")
        if bound:
            _say(f"bits/dim        {bound['total']:>10.4g}   +- {bound['standard_error']:.2g}")
        _say(f"all of it: {self.out}")


@dataclass(frozen=True)
class Info:
    """Say what a checkpoint holds: size, parameters, and the facts of its training."""

    checkpoint: tyro.conf.Positional[str] = "digits"

    def __call__(self, line: str) -> None:
        path = find(self.checkpoint)
        count = sum(parameter.numel() for parameter in load_pretrained(path).parameters())
        _say(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {count:,} parameters")
        _say(json.dumps(load_checkpoint(path).facts, indent=2))


COMMANDS = {"train": Train, "sample": Sample, "evaluate": Evaluate, "info": Info}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0; 1 when the disk or the training failed; 2 when
    something else must be asked for; 130 after Ctrl-C."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if args else 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _complain(message)
            _parse(*args)(shlex.join(["ddpm-lite", *args]))
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:  # tyro has printed its help, or what is wrong with a flag
        return int(stop.code or 0)
    except (FloatingPointError, OSError) as error:
        _complain(error)
        return 1
    except (CheckpointError, ValueError) as error:
        _complain(error)
        return 1 if isinstance(error.__cause__, OSError) else 2
    return 0


def _parse(name: str, *args: str) -> Any:
    """The command, its fields set from its flags."""
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}: choose from {', '.join(COMMANDS)}")
    if name != "train":
        return tyro.cli(COMMANDS[name], args=args, prog=f"ddpm-lite {name}")
    preset, rest = (args[0], args[1:]) if args and args[0][:1] != "-" else ("book", args)
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    default = Train(PRESETS[preset], Path("runs") / preset)
    return tyro.cli(Train, args=rest, default=default, prog=f"ddpm-lite train {preset}")


def _device(name: str) -> torch.device:
    """A device works if it holds float64, as the schedules' tables are."""
    for kind in ("cuda", "mps", "cpu") if name == "auto" else (name,):
        with suppress(AssertionError, RuntimeError, TypeError):
            return torch.zeros(1, dtype=torch.float64, device=kind).device
    raise ValueError(f"device {name!r} does not work here: try --device auto, or cpu")


def _join(device: torch.device) -> torch.device:
    """Under torchrun, meet the other processes; returns this one's own device."""
    if not dist.is_torchelastic_launched():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def _writable(path: Path) -> None:
    """Make the folder of a file to come; raises ValueError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}; name another file") from None
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; name a file")


def _draw(model: Reading, labels: Tensor, how: Drawing) -> Tensor:
    """Digits of these labels, uint8 [N, 28, 28]; a bar shows the progress of many."""
    parts = []
    with tqdm(total=len(labels), unit="digit", disable=len(labels) <= CHUNK) as bar:
        for part in draw(model, labels, how):
            parts.append(part)
            bar.update(len(part))
    return torch.cat(parts)


def _chief() -> bool:
    """Under torchrun, one process writes and speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def _say(text: str, file: TextIO | None = None) -> None:
    if _chief():
        print(text, file=file)


def _complain(text: object) -> None:
    _say(f"ddpm-lite: {' '.join(str(text).split())}", sys.stderr)
