"""One loop for every kind: each learns, resumes bit for bit, and stops when it diverges."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from kinds import KINDS, MIXTURE, Adversaries, Pair, built, network, same_tensors, with_train
from strategies import bad, check_bad
from torch import nn

from ddpm_lite.schedule import linear_schedule
from ddpm_lite.training import TrainConfig, denoising, train

LINE = denoising(MIXTURE.sample, linear_schedule(100, 0.001, 0.1))
KIND = pytest.mark.parametrize("kind", KINDS)
ALONE = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "adversaries"])
SOME = pytest.mark.parametrize("kind", ["line", "digits", "adversaries"])


def begin(task, seed: int = 0, state=None):
    """Its model, and the logs of its training."""
    model = built(task, seed)
    return model, train(model, *task.batches(torch.device("cpu")), task.train, state)


@ALONE
def test_the_loss_falls(kind):
    steps = {"digits": 24}.get(kind, 60)
    task = with_train(KINDS[kind], steps=steps, batch_size=32, lr=1e-2, log_every=steps // 3)
    first, _, last = begin(task)[1]
    assert last.loss < 0.9 * first.loss and last.losses == {"": last.loss}


def test_two_players_play():
    """The generator's points come from around 0 to the data, N(2, 0.5^2)."""
    how = {"steps": 300, "batch_size": 64, "lr": 2e-2, "betas": (0.0, 0.9), "clip": None}
    model, logs = begin(with_train(KINDS["adversaries"], log_every=300, **how))
    z = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
    assert model.generator(z).mean() < 0.5
    (log,) = logs
    assert log.losses.keys() == {"critic", "generator"} and log.loss == sum(log.losses.values())
    points = log.ema.generator(z)
    assert abs(points.mean() - 2) < 0.2 and 0.3 < points.std() < 0.7


def test_each_player_moves_its_own_part_by_its_own_loss():
    """One after the other: the second sees what the first has just learned."""
    draw, losses = Adversaries().batches(torch.device("cpu"))
    config, seen = TrainConfig(steps=1, batch_size=4, lr=0.1), {}

    def watched(name):
        def loss(model, *batch):
            seen[name] = copy.deepcopy(model.state_dict())
            return losses[name](model, *batch)

        return loss

    model = Pair()
    start = copy.deepcopy(model.state_dict())
    next(train(model, draw, {name: watched(name) for name in losses}, config))
    end = model.state_dict()
    assert same_tensors(seen["critic"], start)
    for name in start:
        assert torch.equal(seen["generator"][name], (end if "critic" in name else start)[name])
        assert not torch.equal(end[name], start[name])


@KIND
def test_resumed_anywhere_it_goes_on_bit_for_bit(kind):
    task = with_train(KINDS[kind], log_every=2)
    states, logs = {}, []
    for log in begin(task)[1]:
        logs.append((log.step, log.losses))
        states[log.step] = log.state()
    for step in (2, 4, 6):
        resumed = [(log.step, log.losses, log.state()) for log in begin(task, 1, states[step])[1]]
        assert [pair[:2] for pair in resumed] == [pair for pair in logs if pair[0] > step]
        for later, _, reached in resumed:
            assert same_tensors(reached, states[later])


@KIND
def test_a_loss_that_is_not_finite_stops_it(kind):
    task = KINDS[kind]
    draw, loss = task.batches(torch.device("cpu"))
    calls = iter(range(99))

    def spoilt(n, generator):
        """From step 3 on, numbers far too large."""
        drawn, scale = draw(n, generator), math.inf if next(calls) >= 2 else 1
        return tuple(v * scale if v.is_floating_point() and v.ndim else v for v in drawn)

    logs = train(built(task), spoilt, loss, task.train)
    assert [next(logs).step, next(logs).step] == [1, 2]
    with pytest.raises((FloatingPointError, ValueError), match="at step 3: lower lr|be finite"):
        next(logs)


def test_a_vae_that_overflows_stops_training():
    task = with_train(KINDS["vae"], lr=1e30, warmup=0)
    with pytest.raises(FloatingPointError, match=r"at step 2: lower lr \(now 1e\+30\)"):
        list(begin(task)[1])


@SOME
def test_a_frozen_layer_stays_and_the_rest_learns(kind):
    task = KINDS[kind]
    model, named = built(task), []
    for name, p in model.named_parameters():
        p.requires_grad_("weight" in name)
        named += [] if p.requires_grad else [name]
    before = copy.deepcopy(model.state_dict())
    (*_, log) = train(model, *task.batches(torch.device("cpu")), task.train)
    for name, value in model.state_dict().items():
        for now in (value, log.ema.state_dict()[name]):
            assert torch.equal(now, before[name]) == (name in named)
    assert named and not [k for k in log.state() if k.startswith("exp") and k[8:] in named]
    again = built(task, 1)
    for name, p in again.named_parameters():
        p.requires_grad_(name not in named)
    assert not list(train(again, *task.batches(torch.device("cpu")), task.train, log.state()))
    assert same_tensors(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("options", [{}, {"warmup": 5, "clip": 0.1}], ids=str)
def test_a_state_stays_as_it_is_while_training_goes_on(options):
    config = TrainConfig(steps=2, batch_size=4, log_every=1, **options)
    logs = train(network(), *LINE, config)
    state = next(logs).state()
    kept = copy.deepcopy(state)
    next(logs)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_a_log_of_the_past_gives_no_state():
    """It would be half of then and half of now."""
    first, second = train(network(), *LINE, TrainConfig(steps=2, batch_size=4, log_every=1))
    with pytest.raises(RuntimeError, match="gone on to step 2 since the log of step 1"):
        first.state()
    assert second.state()["step"] == 2


# ---- foreign states ------------------------------------------------------------------------------


CONFIG = TrainConfig(steps=2, batch_size=4)


def foreign(**changes) -> None:
    """Resume from a state in which something is not as it should be (None: not there)."""
    state = next(train(network(), *LINE, CONFIG)).state()
    state = {name: tensor for name, tensor in (state | changes).items() if tensor is not None}
    train(network(), *LINE, CONFIG, state)


FOREIGN = {
    "nothing": ({"step": None}, "step"),
    "no number": ({"step": torch.zeros(2)}, "step|scalar|one element"),
    "no random state": ({"generator": None}, "generator"),
    "another random state": ({"generator": torch.zeros(7, dtype=torch.uint8)}, "RNG state"),
    "no bytes": ({"generator": torch.zeros(7)}, "ByteTensor"),
    "another shape": ({"model.layers.0.weight": torch.zeros(2, 2)}, "size mismatch"),
    "a layer more": ({"ema.layers.9.weight": torch.zeros(2)}, "Unexpected key"),
    "a moment less": ({"exp_avg.layers.0.weight": None}, "exp_avg.layers.0.weight"),
    "one number": ({"exp_avg.layers.0.weight": torch.zeros(1)}, r"exp_avg.* the shape \[1\]"),
}


@pytest.mark.parametrize(("changes", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_state_of_another_model_is_refused(changes, message):
    with pytest.raises(ValueError, match=rf"(?s)does not fit this model: .*{message}.*resume with"):
        foreign(**changes)


def state_of(step: int) -> dict:
    config = replace(CONFIG, steps=step)
    return next(train(network(), *LINE, config)).state()


PLAYERS = Adversaries().batches(torch.device("cpu"))
BAD = [
    bad(
        "beyond",
        lambda: train(network(), *LINE, replace(CONFIG, steps=5), state_of(10)),
        r"the state is of step 10, not in 0..5: raise steps",
    ),
    bad("below", lambda: foreign(step=torch.tensor(-1)), "the state is of step -1, not in 0..2"),
    bad(
        "no part",
        lambda: train(Pair(), PLAYERS[0], {"judge": PLAYERS[1]["critic"]}, CONFIG),
        r"the name of a part of the model \(generator, critic\), got 'judge'",
    ),
    bad(
        "shared",
        lambda: train(Pair(), PLAYERS[0], {"": PLAYERS[1]["critic"], **PLAYERS[1]}, CONFIG),
        "a parameter must have one player, but .* share some",
    ),
    bad(
        "all frozen",
        lambda: train(Pair().requires_grad_(False), *PLAYERS, CONFIG),
        "nothing to train: no parameter of critic requires a gradient",
    ),
    bad(
        "a player",
        lambda: next(
            train(
                Pair(),
                PLAYERS[0],
                PLAYERS[1] | {"generator": lambda model, *_: model.generator[0].bias.sum() / 0},
                replace(CONFIG, steps=1),
            )
        ),
        "the loss of generator is -?(nan|inf) at step 1",
        FloatingPointError,
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)


def test_a_state_of_the_last_step_has_nothing_left_to_do():
    assert list(train(network(), *LINE, CONFIG, state_of(2))) == []


def test_integers_of_a_batch_stay_integers():
    """Labels go into an embedding, tokens out of a softmax."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))

    def draw(n, generator):
        tokens = torch.randint(5, (n,), generator=generator)
        return tokens, (tokens + 1) % 5

    def loss(model, tokens, after):
        return nn.functional.cross_entropy(model(tokens), after)

    config = TrainConfig(steps=200, batch_size=32, lr=0.05, log_every=200)
    (log,) = train(model, draw, loss, config)
    assert torch.equal(log.ema(torch.arange(5)).argmax(1), (torch.arange(5) + 1) % 5)
