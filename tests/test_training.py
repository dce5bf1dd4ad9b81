"""The training loop: it learns, it can be repeated, and it averages as it says."""

import copy
import math

import pytest
import torch
from strategies import bad, check_bad
from torch import nn
from torch.testing import assert_close

from ddpm_lite.forward import q_sample
from ddpm_lite.networks import MLP
from ddpm_lite.objective import simple_loss
from ddpm_lite.oracle import two_modes
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.training import TrainConfig, train

SCHEDULE, MIXTURE = linear_schedule(100, 0.001, 0.1), two_modes()


def network(seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(width=32, depth=2, T=100)


def run(config: TrainConfig, model: nn.Module | None = None, draw=MIXTURE.sample, **options):
    """Train, and keep of each log the step, the loss and a copy of both sets of weights."""
    model = model or network()
    for log in train(model, SCHEDULE, draw, config, **options):
        yield log.step, log.loss, *map(copy.deepcopy, (weights(model), weights(log.ema)))


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def test_it_learns_the_exact_denoiser():
    """The loss falls to what no model can explain, E |eps - eps*|^2, and eps_hat comes to eps*."""
    config = TrainConfig(steps=250, batch_size=256, lr=1e-2, log_every=50)
    logs = list(train(network(), SCHEDULE, MIXTURE.sample, config))
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
    list(train(model, SCHEDULE, MIXTURE.sample, TrainConfig(steps=3, batch_size=4)))
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


class Constant(nn.Module):
    """eps_hat = a everywhere."""

    def __init__(self, a: float = 0.0) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([a], dtype=torch.float64))

    def forward(self, x_t, t):
        return self.a.expand_as(x_t)


def test_the_learning_rate_falls_along_a_half_cosine():
    """Under a constant gradient Adam moves by the learning rate itself."""
    model, steps, lr = Constant(), 12, 0.1
    config = TrainConfig(steps=steps, batch_size=2, lr=lr, log_every=1)
    slope = run(config, model, loss=lambda model, *_: model.a.sum())
    positions = [0.0] + [now[0].item() for _, _, now, _ in slope]
    for k in range(steps):
        rate = lr * (1 + math.cos(math.pi * k / steps)) / 2
        assert_close(positions[k] - positions[k + 1], rate, rtol=1e-6, atol=0)


def test_what_the_loss_is_given():
    """x_0 from draw in the model's dtype, t uniform over 1..T, eps standard normal, the weight."""
    seen, weight = [], torch.ones(101)

    def loss(model, schedule, x_0, t, eps, weight):
        seen.append((x_0, t, eps, weight))
        assert schedule is SCHEDULE
        return model.a.sum()

    def draw(n, generator):
        return torch.rand(n, 2, generator=generator)  # float32, while the model is float64

    config = TrainConfig(steps=20, batch_size=500)
    list(run(config, Constant(), draw, weight=weight, loss=loss))
    x_0, t, eps, _ = (
        torch.cat(values) for values in zip(*((*s[:3], s[3][:1]) for s in seen), strict=True)
    )
    assert seen[0][3] is weight and x_0.dtype == eps.dtype == torch.float64
    assert x_0.shape == eps.shape == (10_000, 2)
    counts = t.bincount(minlength=101)
    assert counts[0] == 0 and len(counts) == 101
    chi_square = ((counts[1:] - 100) ** 2 / 100).sum()
    assert abs(chi_square - 99) < 4 * math.sqrt(2 * 99)
    assert abs(eps.mean()) < 4 / 20_000**0.5 and abs(eps.var() - 1) < 4 * (2 / 20_000) ** 0.5
    assert abs((x_0 * eps).mean()) < 4 * (1 / 3 / 20_000) ** 0.5


def test_the_weight_weighs():
    config = TrainConfig(steps=1, batch_size=64)
    (_, plain, *_), (_, tripled, *_) = (
        next(run(config, weight=w)) for w in (None, torch.full((101,), 3.0))
    )
    assert_close(tripled, 3 * plain, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training(value):
    losses = iter([1.0, 1.0, 1.0, value, 1.0, 1.0])
    logs = train(
        Constant(),
        SCHEDULE,
        MIXTURE.sample,
        TrainConfig(steps=6, batch_size=2, lr=0.125, log_every=2),
        loss=lambda model, *_: model.a.sum() * 0 + next(losses),
    )
    assert next(logs).step == 2
    with pytest.raises(FloatingPointError, match=rf"{value} at step 4: lower lr \(now 0.125\)"):
        next(logs)


def test_nan_in_the_data_is_named():
    def draw(n, generator):
        return torch.full((n,), math.nan)

    with pytest.raises(ValueError, match="x_0 must be finite, got NaN"):
        next(train(network(), SCHEDULE, draw, TrainConfig(steps=1, batch_size=2)))


BAD = [
    bad("steps", lambda: TrainConfig(steps=0), "steps must be a whole number .*1, got 0"),
    bad("steps 1.5", lambda: TrainConfig(steps=1.5), "steps must be a whole number .*got 1.5"),
    bad("batch", lambda: TrainConfig(batch_size=-1), "batch_size must be .*at least 1, got -1"),
    bad("log", lambda: TrainConfig(log_every=0), "log_every must be .*at least 1, got 0"),
    bad("lr", lambda: TrainConfig(lr=0.0), "lr must be positive, got 0"),
    bad("lr NaN", lambda: TrainConfig(lr=math.nan), "lr must be positive, got nan"),
    bad("decay 1", lambda: TrainConfig(ema_decay=1.0), r"ema_decay must lie in \[0, 1\), got 1"),
    bad("decay < 0", lambda: TrainConfig(ema_decay=-0.1), r"ema_decay .*got -0.1"),
    bad(
        "weight",
        lambda: next(run(TrainConfig(steps=1), weight=torch.ones(7))),
        r"weight must be a table \[T \+ 1\] = \[101\], got \[7\]",
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
