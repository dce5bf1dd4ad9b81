"""Algorithm 1 of Ho et al. 2020: training as a generator of logs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from .objective import simple_loss
from .schedule import NoiseSchedule

Draw = Callable[[int, torch.Generator], Tensor | tuple[Tensor, Tensor]]
"""``draw(n, generator)``: n fresh samples x_0 [n, *D], or (x_0, y) with labels y [n]."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Raises ValueError where a number is out of range."""

    steps: int = 1500
    batch_size: int = 512  # of all processes together
    lr: float = 2e-3  # peak, reached after warmup; then falls to 0 along a half cosine
    warmup: int = 0  # steps over which lr rises in a straight line
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam
    clip: float | None = None  # the gradient's norm is cut to this
    ema_decay: float = 0.99  # of the averaged weights, in [0, 1); reached after a warm-up
    stratified: bool = False  # one t in each of batch_size equal parts of 1..T
    precision: str = "fp32"  # or "bf16" (autocast), or "auto": the faster of the two
    compile: bool = False  # torch.compile: pays on a GPU
    log_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("log_every", 1), ("warmup", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {self.betas}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip} (None: no clipping)")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.precision not in ("fp32", "bf16", "auto"):
            raise ValueError(f"precision must be fp32, bf16 or auto, got {self.precision!r}")


@dataclass(frozen=True)
class Log:
    """After ``step`` updates: the mean ``loss`` since the last log; ``ema``, the model with
    averaged weights, to sample from (one object that goes on changing: copy it to keep it); and
    ``state()``, the tensors from which `train` goes on as if it had never stopped: to be called
    before the next log is asked for."""

    step: int
    loss: float
    ema: nn.Module
    state: Callable[[], dict[str, Tensor]]


def train(
    model: nn.Module,
    schedule: NoiseSchedule,
    draw: Draw,
    config: TrainConfig = TrainConfig(),
    weight: Tensor | None = None,
    loss: Callable[..., Tensor] = simple_loss,
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[Log]:
    """Train ``model`` in place (Algorithm 1), yielding a `Log` every ``log_every`` steps.

    draw: see `Draw`; labels are passed on as ``model(x_t, t, y=y)``. weight: a table [T + 1] on
    the loss, or None. state: of an earlier `Log`, to go on from there, bit for bit. All randomness
    starts from ``config.seed`` and is drawn on the model's device. Where torch.distributed is
    initialised, each process takes its share of each batch: the same training, only faster.
    Raises FloatingPointError when the loss is no longer finite, ValueError for a foreign state.
    """
    like = next(model.parameters())
    rank, world = _share(config.batch_size)
    generator = torch.Generator(like.device).manual_seed(config.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.lr, config.betas, weight_decay=0.0, fused=True
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, config))
    ema = AveragedModel(model, avg_fn=_ema(config.ema_decay), use_buffers=True)
    done = 0
    if state is not None:
        done = _restore(state, config, model, ema, optimizer, rate, generator)
    precision = config.precision
    if precision == "auto":
        precision = fastest_precision(model, schedule, draw, config, loss)
    forward: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
    if dist.is_initialized():
        forward = DistributedDataParallel(forward)

    losses: list[Tensor] = []
    for step in range(done + 1, config.steps + 1):
        batch = _batch(draw, schedule.T, config, generator, like)
        part = [v[rank::world] for v in batch]
        try:
            value = _loss(loss, forward, schedule, part, weight, precision)
        except FloatingPointError as error:
            raise _diverged(str(error), step, config) from None
        optimizer.zero_grad()
        value.backward()
        if config.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        rate.step()
        ema.update_parameters(model)
        losses.append(value.detach())
        if step % config.log_every == 0 or step == config.steps:
            mean = _mean(losses)
            if not (math.isfinite(mean) and all(p.isfinite().all() for p in model.parameters())):
                what = "a weight is not finite" if math.isfinite(mean) else f"the loss is {mean}"
                raise _diverged(what, step, config)
            losses.clear()
            yield Log(
                step,
                mean,
                ema.module,
                partial(_state, step, model, ema, optimizer, generator),
            )


def fastest_precision(
    model: nn.Module,
    schedule: NoiseSchedule,
    draw: Draw,
    config: TrainConfig,
    loss: Callable[..., Tensor] = simple_loss,
    repeats: int = 3,
) -> str:
    """ "fp32" or "bf16", whichever makes a training step of a copy of ``model`` faster here.

    bf16 needs hardware (a GPU's tensor cores, a CPU's AMX); without it, it is slower. The model
    and the global random state stay as they are. Under torch.distributed, process 0 decides.
    """
    trial = deepcopy(model)
    like = next(trial.parameters())
    generator = torch.Generator(like.device).manual_seed(config.seed)
    rank, world = _share(config.batch_size)
    batch = [v[rank::world] for v in _batch(draw, schedule.T, config, generator, like)]
    seconds = {}
    with torch.random.fork_rng([like.device] if like.is_cuda else []):  # dropout draws from it
        for precision in ("fp32", "bf16"):
            times = []
            for _ in range(1 + repeats):  # the first warms up
                start = time.perf_counter()
                _loss(loss, trial, schedule, batch, None, precision).backward()
                if like.is_cuda:
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
            seconds[precision] = min(times[1:])
    faster = torch.tensor(seconds["bf16"] < seconds["fp32"], device=like.device, dtype=torch.uint8)
    if dist.is_initialized():
        dist.broadcast(faster, src=0)
    return "bf16" if faster else "fp32"


def _batch(
    draw: Draw, T: int, config: TrainConfig, generator: torch.Generator, like: Tensor
) -> list[Tensor]:
    """x_0, t, eps and, if there are labels, y of one step: the same on every process."""
    n, device = config.batch_size, generator.device
    drawn = draw(n, generator)
    x_0, *labels = drawn if isinstance(drawn, tuple) else (drawn,)
    if config.stratified:
        u = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
        t = 1 + ((torch.arange(n, device=device) + u) / n * T).long().clamp(max=T - 1)
    else:
        t = torch.randint(1, T + 1, (len(x_0),), generator=generator, device=device)
    eps = torch.randn(x_0.shape, generator=generator, device=device, dtype=torch.float64)
    return [x_0.to(like), t, eps.to(like), *(y.to(like.device) for y in labels)]


def _loss(
    loss: Callable[..., Tensor],
    model: nn.Module,
    schedule: NoiseSchedule,
    batch: list[Tensor],
    weight: Tensor | None,
    precision: str,
) -> Tensor:
    x_0, t, eps, *labels = batch
    asked = partial(model, y=labels[0]) if labels else model
    with torch.autocast(x_0.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return loss(asked, schedule, x_0, t, eps, weight)


def _diverged(what: str, step: int, config: TrainConfig) -> FloatingPointError:
    return FloatingPointError(
        f"{what} at step {step}: lower lr (now {config.lr}), cut the gradient (clip), and look for "
        "NaN in the data"
    )


def _rate(config: TrainConfig, step: int) -> float:
    """The learning rate's factor after ``step`` updates: up in a line, down along a cosine."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def _ema(decay: float) -> Callable[..., Tensor]:
    """An average that forgets the random start: its decay is at most (1 + n) / (10 + n)."""

    def update(average: Tensor, new: Tensor, n: Tensor) -> Tensor:
        kept = ((1 + n.double()) / (10 + n)).clamp(max=decay)  # a tensor: a GPU need not wait
        return average + (1 - kept) * (new - average)

    return update


def _share(batch_size: int) -> tuple[int, int]:
    """This process's rank and their number; (0, 1) outside torch.distributed."""
    if not dist.is_initialized():
        return 0, 1
    rank, world = dist.get_rank(), dist.get_world_size()
    if batch_size % world:
        raise ValueError(
            f"batch_size must be a multiple of the number of processes, {world}, got {batch_size}"
        )
    return rank, world


def _mean(losses: list[Tensor]) -> float:
    """Over the steps since the last log and over all processes."""
    mean = torch.stack(losses).mean()
    if dist.is_initialized():
        dist.all_reduce(mean)
        mean /= dist.get_world_size()
    return mean.item()


def _state(
    step: int,
    model: nn.Module,
    ema: AveragedModel,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """All that the next step depends on, as tensors with names; copies, so it stays as it is."""
    if int(ema.n_averaged) != step:
        raise RuntimeError(
            f"training has gone on to step {int(ema.n_averaged)} since the log of step {step}: "
            "call state() before you ask for the next log"
        )
    state = {"step": torch.tensor(step), "generator": generator.get_state()}
    for prefix, module in (("model", model), ("ema", ema.module)):
        state |= {f"{prefix}.{k}": v for k, v in module.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            state[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    return {k: v.detach().clone() for k, v in state.items()}


def _restore(
    state: Mapping[str, Tensor],
    config: TrainConfig,
    model: nn.Module,
    ema: AveragedModel,
    optimizer: torch.optim.Optimizer,
    rate: torch.optim.lr_scheduler.LambdaLR,
    generator: torch.Generator,
) -> int:
    """Undo `_state`; returns the step."""
    try:
        for prefix, module in (("model", model), ("ema", ema.module)):
            part = {
                k.removeprefix(prefix + "."): v
                for k, v in state.items()
                if k.startswith(prefix + ".")
            }
            module.load_state_dict(part)
        step = int(state["step"])
        for name, parameter in model.named_parameters():
            moments = {m: state[f"{m}.{name}"] for m in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {
                "step": torch.tensor(step, dtype=torch.float32, device=parameter.device),
                **{m: torch.empty_like(parameter).copy_(v) for m, v in moments.items()},
            }
        generator.set_state(state["generator"].cpu())
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"the state does not fit this model: {error}; resume with the configuration, and on "
            "the kind of device, that it was saved with"
        ) from None
    ema.n_averaged.fill_(step)
    rate.last_epoch = step
    for group in optimizer.param_groups:
        group["lr"] = config.lr * _rate(config, step)
    return step
