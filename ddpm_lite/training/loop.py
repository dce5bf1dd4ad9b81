"""The one training loop: any model, any batch, any loss, as a generator of logs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..loss import Draw, Loss
from . import distributed
from .checkpoint import part_of
from .config import TrainConfig, kept, rate
from .precision import autocast, fastest

Players = Mapping[str, Loss]
"""Several losses, minimised in turn: the name of a part of the model, a submodule whose parameters
this loss moves, -> ``loss(model, *batch)``."""


@dataclass(frozen=True)
class Log:
    """After ``step`` updates: the mean ``loss`` since the last log; ``ema``, the model with
    averaged weights, to sample from (one object that goes on changing: copy it to keep it);
    ``state()``, the tensors from which `train` goes on as if it had never stopped: to be called
    before the next log is asked for; and ``losses``, the mean of each player's loss."""

    step: int
    loss: float
    ema: nn.Module
    state: Callable[[], dict[str, Tensor]]
    losses: dict[str, float]


def train(
    model: nn.Module,
    draw: Draw,
    loss: Loss | Players,
    config: TrainConfig = TrainConfig(),
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[Log]:
    """Train ``model`` in place, yielding a `Log` every ``log_every`` steps and at the end.

    draw(n, generator) -> a tensor or a tuple of them, [n, ...] each: all that is random in a batch;
    loss(model, *batch) -> a scalar; for a diffusion model both come from `loss.denoising`. Real
    numbers get the dtype of the weights, integers stay. Two players: see `Players`; each step draws
    one batch and updates them one after the other. Parameters that require no gradient stay as
    they are.

    state: of an earlier `Log`, to go on from there, bit for bit. All randomness starts from
    ``config.seed`` and is drawn on the model's device. Where torch.distributed is initialised, all
    processes begin with the weights of the first and each takes its share of every batch: the same
    training, only faster. Raises FloatingPointError when the loss is no longer finite, ValueError
    for a foreign state, a batch of another size or a loss that is no scalar.
    """
    training = _Training(model, draw, loss, config)
    if state is not None:
        training.restore(state)
    return training.logs()


def fastest_precision(
    model: nn.Module,
    draw: Draw,
    loss: Loss | Players,
    config: TrainConfig = TrainConfig(),
    repeats: int = 3,
) -> str:
    """ "fp32" or "bf16", whichever makes a training step of a copy of ``model`` faster here.

    The model and the global random state stay as they are.
    """
    trial = _Training(deepcopy(model), draw, loss, config)
    batch = trial.batch()

    def step() -> None:
        for player in trial.players:
            trial.scored(player, trial.model, batch).backward()

    return fastest(step, trial.device, repeats)


class _Player:
    """One loss, and the parameters that it moves."""

    def __init__(self, name: str, model: nn.Module, loss: Loss, config: TrainConfig) -> None:
        try:
            part = model.get_submodule(name)
        except AttributeError:
            parts = ", ".join(child for child, _ in model.named_children()) or "none"
            raise ValueError(
                f"a player must have the name of a part of the model ({parts}), got {name!r}"
            ) from None
        self.name, self.loss = name, loss
        self.parameters = [p for p in part.parameters() if p.requires_grad]
        if not self.parameters:
            of = f" of {name}" if name else ""
            raise ValueError(f"there is nothing to train: no parameter{of} requires a gradient")
        self.optimizer = torch.optim.AdamW(
            self.parameters, config.lr, config.betas, weight_decay=0.0, fused=True
        )
        self.losses: list[Tensor] = []  # since the last log


class _Training:
    """Everything that a step depends on and changes."""

    def __init__(
        self, model: nn.Module, draw: Draw, loss: Loss | Players, config: TrainConfig
    ) -> None:
        self.model, self.draw, self.config, self.step = model.train(), draw, config, 0
        losses: Players = loss if isinstance(loss, Mapping) else {"": loss}
        self.players = [_Player(name, model, own, config) for name, own in losses.items()]
        moved = [id(p) for player in self.players for p in player.parameters]
        if len(moved) != len(set(moved)):
            raise ValueError(f"a parameter must have one player, but {list(losses)} share some")
        self.rank, self.world = distributed.share(config.batch_size)
        distributed.same(_tensors(model))
        self.ema = deepcopy(model).eval()
        self.like = self.players[0].parameters[0]
        self.device = self.like.device
        self.generator = torch.Generator(self.device).manual_seed(config.seed)

    def logs(self) -> Iterator[Log]:
        """Step after step."""
        config, precision = self.config, self.config.precision
        if precision == "auto":
            losses = {player.name: player.loss for player in self.players}
            precision = fastest_precision(self.model, self.draw, losses, config)
        forward: nn.Module = torch.compile(self.model) if config.compile else self.model  # type: ignore[assignment]
        while self.step < config.steps:
            self.step += 1
            batch = self.batch()
            for player in self.players:
                self.update(player, forward, batch, precision)
            self.average()
            if self.step % config.log_every == 0 or self.step == config.steps:
                yield self.log()

    def batch(self) -> list[Tensor]:
        """This process's share of a fresh batch, on the device, in the dtype of the weights."""
        n = self.config.batch_size
        drawn = self.draw(n, self.generator)
        whole = drawn if isinstance(drawn, tuple) else (drawn,)
        if any(v.shape[:1] != (n,) for v in whole):
            shapes = ", ".join(str(list(v.shape)) for v in whole)
            raise ValueError(f"draw must return tensors [{n}, ...], one row a sample, got {shapes}")
        shares = (v[self.rank :: self.world].to(self.device) for v in whole)
        return [v.to(self.like.dtype) if v.is_floating_point() else v for v in shares]

    def scored(self, player: _Player, forward: nn.Module, batch: list[Tensor]) -> Tensor:
        """The player's loss of this batch."""
        try:
            value = player.loss(forward, *batch)
        except FloatingPointError as error:
            raise self.diverged(str(error)) from None
        if value.ndim or not value.requires_grad:
            raise ValueError(
                "loss must return a scalar that depends on the parameters, got "
                f"{list(value.shape)}, requires_grad={value.requires_grad}"
            )
        return value

    def update(
        self, player: _Player, forward: nn.Module, batch: list[Tensor], precision: str
    ) -> None:
        """One step of one player's optimizer."""
        with autocast(self.device, precision):
            value = self.scored(player, forward, batch)
        player.optimizer.zero_grad()
        value.backward()
        for p in player.parameters:
            if p.grad is None:  # this batch did not touch it: for Adam, a gradient of 0
                p.grad = torch.zeros_like(p)
        distributed.average(p.grad for p in player.parameters if p.grad is not None)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(player.parameters, self.config.clip)
        for group in player.optimizer.param_groups:
            group["lr"] = self.config.lr * rate(self.config, self.step - 1)
        player.optimizer.step()
        player.losses.append(value.detach())

    @torch.no_grad()
    def average(self) -> None:
        """Move the averaged weights, and buffers, towards those of now."""
        distributed.average(b for b in self.model.buffers() if b.is_floating_point())
        share = 1 - kept(self.config, self.step - 1)
        pairs = zip(_tensors(self.ema), _tensors(self.model), strict=True)
        for average, now in pairs:
            if average.is_floating_point() and share < 1:
                average += share * (now - average)
            else:
                average.copy_(now)

    def log(self) -> Log:
        """The mean losses; FloatingPointError where they, or the weights, are not finite."""
        means = torch.stack([torch.stack(p.losses).mean() for p in self.players])
        distributed.average([means])
        losses = dict(zip((p.name for p in self.players), means.tolist(), strict=True))
        for name, value in losses.items():
            if not math.isfinite(value):
                raise self.diverged(f"the loss{f' of {name}' if name else ''} is {value}")
        weights = [p.detach().isfinite().all() for p in self.model.parameters()]
        if not torch.stack(weights).all():
            raise self.diverged("a weight is not finite")
        for player in self.players:
            player.losses.clear()
        state = partial(self.state, self.step)
        return Log(self.step, sum(losses.values()), self.ema, state, losses)

    def diverged(self, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"{what} at step {self.step}: lower lr (now {self.config.lr}), cut the gradient "
            "(clip), and look for NaN in the data"
        )

    def state(self, step: int) -> dict[str, Tensor]:
        """All that the next step depends on, as tensors with names; copies, so it stays."""
        if self.step != step:
            raise RuntimeError(
                f"training has gone on to step {self.step} since the log of step {step}: "
                "call state() before you ask for the next log"
            )
        state = {"step": torch.tensor(step), "generator": self.generator.get_state()}
        for prefix, module in (("model", self.model), ("ema", self.ema)):
            state |= {f"{prefix}.{k}": v for k, v in module.state_dict().items()}
        state |= self.moments()
        return {k: v.detach().clone() for k, v in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Undo `state`. Raises ValueError where it is not of this training."""
        try:
            for prefix, module in (("model.", self.model), ("ema.", self.ema)):
                module.load_state_dict(part_of(state, prefix))
            self.step = int(state["step"])
            for name, moment in self.moments().items():
                if state[name].shape != moment.shape:
                    raise ValueError(f"{name} has the shape {list(state[name].shape)}")
                moment.copy_(state[name])
            self.generator.set_state(state["generator"].cpu())
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"the state does not fit this model: {error}; resume with the configuration, and "
                "on the kind of device, that it was saved with"
            ) from None
        if not 0 <= self.step <= self.config.steps:
            raise ValueError(
                f"the state is of step {self.step}, not in 0..{self.config.steps}: raise steps"
            )

    def moments(self) -> dict[str, Tensor]:
        """The two moments that Adam keeps of each parameter, made where there are none yet."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        found: dict[str, Tensor] = {}
        for player in self.players:
            for p in player.parameters:
                own: dict[str, Any] = player.optimizer.state[p]
                if not own:
                    own["step"] = torch.tensor(float(self.step), device=self.device)
                    own |= {m: torch.zeros_like(p) for m in ("exp_avg", "exp_avg_sq")}
                found |= {f"{m}.{names[id(p)]}": own[m] for m in ("exp_avg", "exp_avg_sq")}
        return found


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
