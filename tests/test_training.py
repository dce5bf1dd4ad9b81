"""The training loop: it learns, it can be repeated, and it averages as it says."""

import copy
import math

import pytest
import torch
from kinds import MIXTURE, network
from strategies import bad, check_bad
from torch import nn
from torch.testing import assert_close

from ddpm_lite.forward import q_sample
from ddpm_lite.loss import simple_loss
from ddpm_lite.networks import Denoiser
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.training import TrainConfig, denoising, train

SCHEDULE = linear_schedule(100, 0.001, 0.1)
LINE = denoising(MIXTURE.sample, SCHEDULE)


def run(config: TrainConfig, model: nn.Module | None = None, draw=LINE[0], loss=LINE[1], **options):
    """Train, and keep of each log the step, the loss and a copy of both sets of weights."""
    model = model or network()
    for log in train(model, draw, loss, config, **options):
        yield log.step, log.loss, *map(copy.deepcopy, (weights(model), weights(log.ema)))


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


class Constant(nn.Module):
    """eps_hat = a everywhere."""

    def __init__(self, a: float = 0.0) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([a], dtype=torch.float64))

    def forward(self, x_t, t):
        return self.a.expand_as(x_t)


def slope(model, *_):
    """A loss whose gradient is 1."""
    return model.a.sum()


def test_it_learns_the_exact_denoiser():
    """The loss falls to what no model can explain, E |eps - eps*|^2, and eps_hat comes to eps*."""
    config = TrainConfig(steps=250, batch_size=256, lr=1e-2, log_every=50)
    logs = list(train(network(), *LINE, config))
    generator = torch.Generator().manual_seed(1)
    t = torch.randint(1, 101, (20_000,), generator=generator)
    eps = torch.randn(20_000, generator=generator, dtype=torch.float64)
    x_0 = MIXTURE.sample(20_000, generator)
    floor = simple_loss(MIXTURE.denoiser(SCHEDULE), SCHEDULE, x_0, t, eps).item()
    assert logs[0].loss > 1.3 * floor
    assert 0.95 * floor < logs[-1].loss < 1.15 * floor
    x_t = q_sample(SCHEDULE, x_0, t, eps).float()
    exact = MIXTURE.eps(SCHEDULE, x_t, t)
    error = ((logs[-1].ema(x_t, t) - exact) ** 2).mean()
    assert error < 0.1 * ((network()(x_t, t) - exact) ** 2).mean()


def test_a_seed_gives_the_same_run_bit_for_bit():
    config = TrainConfig(steps=20, batch_size=16, log_every=5)
    first, second = list(run(config)), list(run(config))
    for a, b in zip(first, second, strict=True):
        assert a[:2] == b[:2]
        assert all(torch.equal(p, q) for i in (2, 3) for p, q in zip(a[i], b[i], strict=True))
    other = list(run(TrainConfig(steps=20, batch_size=16, log_every=5, seed=1)))
    assert other[-1][1] != first[-1][1]


def test_the_global_generator_is_left_alone():
    model, state = network(), torch.get_rng_state()
    list(train(model, *LINE, TrainConfig(steps=3, batch_size=4)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [(10, 4, [4, 8, 10]), (8, 4, [4, 8]), (3, 100, [3]), (3, 1, [1, 2, 3]), (1, 1, [1])],
)
def test_logs_come_every_so_often_and_at_the_end(steps, every, expected):
    config = TrainConfig(steps=steps, batch_size=4, log_every=every)
    assert [step for step, *_ in run(config)] == expected


def test_a_log_holds_the_mean_loss_since_the_log_before():
    fine = [loss for _, loss, *_ in run(TrainConfig(steps=7, batch_size=8, log_every=1))]
    coarse = [loss for _, loss, *_ in run(TrainConfig(steps=7, batch_size=8, log_every=3))]
    expected = [sum(fine[:3]) / 3, sum(fine[3:6]) / 3, fine[6]]
    assert_close(coarse, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_ema_is_the_recursion_with_its_warm_up(decay):
    """After n averages the old one keeps min(decay, (1 + n) / (10 + n)) of itself."""
    config = TrainConfig(steps=30, batch_size=8, lr=0.05, ema_decay=decay, log_every=1)
    average = None
    for n, (_, _, now, ema) in enumerate(run(config, network().double())):
        kept = min(decay, (1 + n) / (10 + n)) if n else 0.0
        if average is None:
            average = now
        average = [kept * a + (1 - kept) * w for a, w in zip(average, now, strict=True)]
        assert_close(ema, average, rtol=1e-12, atol=1e-12)


def moves(config: TrainConfig, loss=slope) -> list[float]:
    """What each step takes from the one weight."""
    walk = run(config, Constant(), loss=loss)
    positions = [0.0] + [now[0].item() for _, _, now, _ in walk]
    return [a - b for a, b in zip(positions, positions[1:], strict=False)]


def test_the_learning_rate_falls_along_a_half_cosine():
    """Under a constant gradient Adam moves by the learning rate itself."""
    steps, lr = 12, 0.1
    found = moves(TrainConfig(steps=steps, batch_size=2, lr=lr, log_every=1))
    rates = [lr * (1 + math.cos(math.pi * k / steps)) / 2 for k in range(steps)]
    assert_close(found, rates, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("steps", "warmup"), [(12, 5), (12, 1), (12, 12), (5, 9)])
def test_the_learning_rate_first_rises_in_a_line(steps, warmup):
    lr = 0.1
    found = moves(TrainConfig(steps=steps, batch_size=2, lr=lr, warmup=warmup, log_every=1))
    for k in range(steps):
        done = max(0, k - warmup) / max(1, steps - warmup)
        rate = lr * min((k + 1) / warmup, (1 + math.cos(math.pi * done)) / 2)
        assert_close(found[k], rate, rtol=1e-6, atol=0)


def test_betas_are_those_of_adam():
    """Without memory, betas (0, 0), each step is the learning rate, for any size of gradient."""
    sizes = iter([1.0, 100.0, -0.01, 3.0])
    config = TrainConfig(steps=4, batch_size=2, lr=0.1, betas=(0.0, 0.0), log_every=1)
    found = moves(config, lambda model, *_: model.a.sum() * next(sizes))
    rates = [0.05 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert_close(found, [rates[0], rates[1], -rates[2], rates[3]], rtol=1e-4, atol=0)


@pytest.mark.parametrize("clip", [None, 0.5, 1e9])
def test_clip_cuts_the_length_of_the_gradient_and_keeps_its_direction(clip):
    model, slopes, seen = nn.ParameterList([torch.zeros(2), torch.zeros(1)]), (3.0, 4.0, 12.0), []

    def draw(n, generator):
        if model[0].grad is not None:  # of the step before
            seen.append(torch.cat([p.grad for p in model]))
        return torch.zeros(n)

    def loss(model, *_):
        return (torch.cat(list(model)) * torch.tensor(slopes)).sum()

    list(train(model, draw, loss, TrainConfig(steps=3, batch_size=2, clip=clip)))
    factor = min(1.0, (clip or 1e9) / 13)
    for gradient in seen:
        assert_close(gradient, factor * torch.tensor(slopes), rtol=1e-5, atol=0)
    assert len(seen) == 2


def test_real_numbers_get_the_dtype_of_the_weights_and_others_stay():
    def draw(n, generator):
        integers = torch.arange(n)
        return torch.rand(n), integers, integers > 0, integers.to(torch.uint8)

    def loss(model, *batch):
        assert [v.dtype for v in batch] == [torch.float64, torch.int64, torch.bool, torch.uint8]
        assert torch.equal(batch[1], torch.arange(2**3)) and len(batch[0]) == 2**3
        return model.a.sum()

    list(train(Constant(), draw, loss, TrainConfig(steps=2, batch_size=8)))


@pytest.mark.parametrize("asked", [(), (2,), (2, 4)], ids=str)
def test_a_parameter_that_a_batch_does_not_touch_has_the_gradient_0(asked):
    """Adam's clock runs for it too: or asking for a state, or resuming, would change the rest."""
    config = TrainConfig(steps=6, batch_size=1, lr=0.1, log_every=2)

    def turns(order, state=None, ask=()):
        """Train the two weights of a model, each step the one that it is the turn of."""
        model, order = nn.ParameterList([torch.zeros(1), torch.zeros(1)]), iter(order)
        seen = {}

        def loss(model, *_):
            return (model[next(order)] - 1).square().sum()

        for log in train(model, lambda n, generator: torch.zeros(n), loss, config, state):
            seen |= {log.step: log.state()} if log.step in ask else {}
        return [p.item() for p in model], seen

    whole, seen = turns([0, 0, 1, 1, 0, 1], ask=asked)
    assert whole == turns([0, 0, 1, 1, 0, 1])[0] and all(whole)
    for step, state in seen.items():
        assert turns([0, 0, 1, 1, 0, 1][step:], state)[0] == whole
    if asked:
        assert seen[2]["exp_avg.1"] == 0 == seen[2]["model.1"]


# ---- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training(value):
    losses = iter([1.0, 1.0, 1.0, value, 1.0, 1.0])
    config = TrainConfig(steps=6, batch_size=2, lr=0.125, log_every=2)
    logs = train(Constant(), LINE[0], lambda model, *_: model.a.sum() * 0 + next(losses), config)
    assert next(logs).step == 2
    with pytest.raises(FloatingPointError, match=rf"{value} at step 4: lower lr \(now 0.125\)"):
        next(logs)


def test_weights_that_are_not_finite_stop_training():
    """Though the loss still is: this step's gradient spoilt them, and no checkpoint may follow."""

    def loss(model, *_):
        return (model.a - 1).abs().sqrt().sum()  # its slope at 1 is 0 / 0

    logs = train(Constant(1.0), LINE[0], loss, TrainConfig(steps=2, batch_size=2, log_every=1))
    with pytest.raises(FloatingPointError, match="a weight is not finite at step 1: lower lr"):
        next(logs)


@pytest.mark.parametrize("output", ["x_0", "eps", "v"])
def test_a_network_that_overflows_stops_training(output):
    model, config = (
        Denoiser(network(), SCHEDULE, output),
        TrainConfig(steps=3, batch_size=4, lr=1e30),
    )
    message = r"the network's output is not finite at step 2: lower lr \(now 1e\+30\)"
    with pytest.raises(FloatingPointError, match=message):
        next(train(model, *LINE, config))


def just(x):
    return lambda n, generator: x


ONE = TrainConfig(steps=1, batch_size=4)
BAD = [
    bad("steps", lambda: TrainConfig(steps=0), "steps must be a whole number .*1, got 0"),
    bad("steps 1.5", lambda: TrainConfig(steps=1.5), "steps must be a whole number .*got 1.5"),
    bad("batch", lambda: TrainConfig(batch_size=-1), "batch_size must be .*at least 1, got -1"),
    bad("log", lambda: TrainConfig(log_every=0), "log_every must be .*at least 1, got 0"),
    bad("lr", lambda: TrainConfig(lr=0.0), "lr must be positive, got 0"),
    bad("lr NaN", lambda: TrainConfig(lr=math.nan), "lr must be positive, got nan"),
    bad("warmup", lambda: TrainConfig(warmup=-1), "warmup must be .*at least 0, got -1"),
    bad("betas", lambda: TrainConfig(betas=(0.9, 1.0)), r"betas .*\[0, 1\), got \(0.9, 1.0\)"),
    bad("one beta", lambda: TrainConfig(betas=(0.9,)), r"betas must be two numbers"),
    bad("clip", lambda: TrainConfig(clip=0.0), r"clip must be positive, got 0.0 .None: no"),
    bad("clip NaN", lambda: TrainConfig(clip=math.nan), "clip must be positive, got nan"),
    bad("precision", lambda: TrainConfig(precision="fp16"), "fp32, bf16 or auto, got 'fp16'"),
    bad("decay 1", lambda: TrainConfig(ema_decay=1.0), r"ema_decay must lie in \[0, 1\), got 1"),
    bad("decay < 0", lambda: TrainConfig(ema_decay=-0.1), r"ema_decay .*got -0.1"),
    bad("seed", lambda: TrainConfig(seed=0.5), "seed must be a whole number of 64 bits, got 0.5"),
    bad(
        "NaN",
        lambda: next(run(ONE, draw=denoising(just(torch.full((4,), math.nan)), SCHEDULE)[0])),
        "x_0 must be finite, got NaN",
    ),
    bad(
        "pixels",
        lambda: next(run(ONE, draw=denoising(just(torch.ones(4).byte()), SCHEDULE)[0])),
        "x_0 must be a floating-point tensor, got a torch.uint8 tensor",
        TypeError,
    ),
    bad("rows", lambda: next(run(ONE, draw=just(torch.ones(3)))), r"draw .*\[4, ...\].*got \[3\]"),
    bad(
        "no rows", lambda: next(run(ONE, draw=just(torch.ones(())))), r"one row a sample, got \[\]"
    ),
    bad(
        "no scalar",
        lambda: next(run(ONE, Constant(), loss=lambda model, x, *_: model.a * x)),
        r"loss must return a scalar that depends on the parameters, got \[4\]",
    ),
    bad(
        "no gradient",
        lambda: next(run(ONE, Constant(), loss=lambda model, *_: model.a.detach().sum())),
        r"loss must return a scalar that depends .* got \[\], requires_grad=False",
    ),
    bad(
        "nothing",
        lambda: next(run(ONE, Constant().requires_grad_(False))),
        "there is nothing to train: no parameter requires a gradient",
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
