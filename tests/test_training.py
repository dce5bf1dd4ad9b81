"""The training loop: it learns, it can be repeated and resumed, and it averages as it says."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from children import fork, in_parent, wait
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, check_bad
from torch import nn
from torch.testing import assert_close

from ddpm_lite import training
from ddpm_lite.data import labelled
from ddpm_lite.forward import q_sample
from ddpm_lite.loss import simple_loss
from ddpm_lite.mixture import two_modes
from ddpm_lite.networks import MLP, Denoiser, UNet, UNetConfig
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.training import (
    TrainConfig,
    fastest_precision,
    load_checkpoint,
    save_checkpoint,
    train,
)

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


@pytest.mark.parametrize(("steps", "warmup"), [(12, 5), (12, 1), (12, 12), (5, 9)])
def test_the_learning_rate_first_rises_in_a_line(steps, warmup):
    model, lr = Constant(), 0.1
    config = TrainConfig(steps=steps, batch_size=2, lr=lr, warmup=warmup, log_every=1)
    slope = run(config, model, loss=lambda model, *_: model.a.sum())
    positions = [0.0] + [now[0].item() for _, _, now, _ in slope]
    for k in range(steps):
        done = max(0, k - warmup) / max(1, steps - warmup)
        rate = lr * min((k + 1) / warmup, (1 + math.cos(math.pi * done)) / 2)
        assert_close(positions[k] - positions[k + 1], rate, rtol=1e-6, atol=0)


def test_betas_are_those_of_adam():
    """Without memory, betas (0, 0), each step is the learning rate, for any size of gradient."""
    sizes = iter([1.0, 100.0, -0.01, 3.0])
    config = TrainConfig(steps=4, batch_size=2, lr=0.1, betas=(0.0, 0.0), log_every=1)
    walk = run(config, Constant(), loss=lambda model, *_: model.a.sum() * next(sizes))
    positions = [0.0] + [now[0].item() for _, _, now, _ in walk]
    steps = [b - a for a, b in zip(positions, positions[1:], strict=False)]
    rates = [0.05 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert_close(steps, [-rates[0], -rates[1], rates[2], -rates[3]], rtol=1e-4, atol=0)


@pytest.mark.parametrize("clip", [None, 0.5, 1e9])
def test_clip_cuts_the_length_of_the_gradient_and_keeps_its_direction(clip):
    model, slope, seen = nn.ParameterList([torch.zeros(2), torch.zeros(1)]), (3.0, 4.0, 12.0), []

    def draw(n, generator):
        if model[0].grad is not None:  # of the step before
            seen.append(torch.cat([p.grad for p in model]))
        return torch.zeros(n)

    def loss(model, *_):
        return (torch.cat(list(model)) * torch.tensor(slope)).sum()

    config = TrainConfig(steps=3, batch_size=2, clip=clip)
    list(train(model, SCHEDULE, draw, config, loss=loss))
    factor = min(1.0, (clip or 1e9) / 13)
    for gradient in seen:
        assert_close(gradient, factor * torch.tensor(slope), rtol=1e-5, atol=0)
    assert len(seen) == 2


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


def times_of(T: int, batch: int, steps: int) -> torch.Tensor:
    """The t of each step of stratified training: [steps, batch]."""
    seen = []

    def loss(model, schedule, x_0, t, eps, weight):
        seen.append(t)
        return model.a.sum()

    config = TrainConfig(steps=steps, batch_size=batch, stratified=True, log_every=steps)
    list(train(Constant(), linear_schedule(T), MIXTURE.sample, config, loss=loss))
    return torch.stack(seen)


@given(T=st.integers(1, 40), batch=st.integers(1, 40))
def test_stratified_times_are_one_in_each_part(T, batch):
    """Of batch equal parts of the line from 0 to T, part k meets the unit from t_k - 1 to t_k."""
    t, k = times_of(T, batch, 1), torch.arange(batch)
    assert t.dtype == torch.int64 and t.min() >= 1 and t.max() <= T
    assert ((t - 1) * batch < (k + 1) * T).all() and (t * batch > k * T).all()
    if T % batch == 0:
        assert torch.equal((t - 1) * batch // T, k.expand_as(t))


@pytest.mark.parametrize(("T", "batch"), [(10, 10), (10, 7), (5, 8), (12, 4)])
def test_stratified_times_are_uniform_all_together(T, batch):
    """And closer to it than independent ones: their chi square is not larger."""
    counts = times_of(T, batch, 200).flatten().bincount(minlength=T + 1)[1:]
    expected = 200 * batch / T
    assert ((counts - expected) ** 2 / expected).sum() < (T - 1) + 4 * math.sqrt(2 * T)
    if batch % T == 0:
        assert (counts == expected).all()


def test_labels_come_to_the_model():
    seen = []

    class Asked(Constant):
        def forward(self, x_t, t, y):
            seen.append((x_t, y))
            return super().forward(x_t, t)

    def draw(n, generator):
        y = torch.randint(5, (n,), generator=generator)
        return y.double(), y

    schedule = linear_schedule(3, 1e-8, 1e-8)  # hardly any noise, so x_t tells of x_0
    list(train(Asked(), schedule, draw, TrainConfig(steps=4, batch_size=9)))
    assert len(seen) == 4
    for x_t, y in seen:
        assert torch.equal(x_t.round().long(), y)


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


def test_weights_that_are_not_finite_stop_training():
    """Though the loss still is: this step's gradient spoilt them, and no checkpoint may follow."""
    logs = train(
        Constant(1.0),
        SCHEDULE,
        MIXTURE.sample,
        TrainConfig(steps=2, batch_size=2, log_every=1),
        loss=lambda model, *_: (model.a - 1).abs().sqrt().sum(),  # its slope at 1 is 0 / 0
    )
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
        next(train(model, SCHEDULE, MIXTURE.sample, config))


def test_nan_in_the_data_is_named():
    def draw(n, generator):
        return torch.full((n,), math.nan)

    with pytest.raises(ValueError, match="x_0 must be finite, got NaN"):
        next(train(network(), SCHEDULE, draw, TrainConfig(steps=1, batch_size=2)))


# Resumed


@pytest.mark.parametrize("options", [{}, {"warmup": 5, "clip": 0.1, "stratified": True}], ids=str)
def test_resumed_anywhere_it_goes_on_bit_for_bit(options):
    config = TrainConfig(steps=9, batch_size=8, log_every=2, **options)
    states, logs = {}, []
    for log in train(network(), SCHEDULE, MIXTURE.sample, config):
        logs.append((log.step, log.loss))
        states[log.step] = log.state()
    for step, state in states.items():
        again = train(network(1), SCHEDULE, MIXTURE.sample, config, state=state)
        resumed = [(log.step, log.loss, log.state()) for log in again]
        assert [pair[:2] for pair in resumed] == [pair for pair in logs if pair[0] > step]
        for later, _, reached in resumed:
            assert reached.keys() == states[later].keys()
            assert all(torch.equal(reached[name], states[later][name]) for name in reached)


def test_a_state_stays_as_it_is_while_training_goes_on():
    logs = train(
        network(), SCHEDULE, MIXTURE.sample, TrainConfig(steps=2, batch_size=4, log_every=1)
    )
    state = next(logs).state()
    kept = copy.deepcopy(state)
    next(logs)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_a_log_of_the_past_gives_no_state():
    """It would be half of then and half of now."""
    config = TrainConfig(steps=2, batch_size=4, log_every=1)
    first, second = train(network(), SCHEDULE, MIXTURE.sample, config)
    with pytest.raises(RuntimeError, match="gone on to step 2 since the log of step 1"):
        first.state()
    assert second.state()["step"] == 2


def foreign(**changes) -> None:
    """Resume from a state in which something is not as it should be (None: not there)."""
    config = TrainConfig(steps=2, batch_size=4)
    state = next(train(network(), SCHEDULE, MIXTURE.sample, config)).state()
    state = {name: tensor for name, tensor in (state | changes).items() if tensor is not None}
    next(train(network(), SCHEDULE, MIXTURE.sample, config, state=state))


FOREIGN = {
    "nothing": ({"step": None}, "step"),
    "no random state": ({"generator": None}, "generator"),
    "another random state": ({"generator": torch.zeros(7, dtype=torch.uint8)}, "RNG state"),
    "another shape": ({"model.layers.0.weight": torch.zeros(2, 2)}, "size mismatch"),
    "a layer more": ({"ema.layers.9.weight": torch.zeros(2)}, "Unexpected key"),
    "a moment less": ({"exp_avg.layers.0.weight": None}, "exp_avg.layers.0.weight"),
}


@pytest.mark.parametrize(("changes", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_state_of_another_model_is_refused(changes, message):
    with pytest.raises(ValueError, match=rf"(?s)does not fit this model: .*{message}.*resume with"):
        foreign(**changes)


# Precision


def test_a_bf16_step_is_nearly_that_of_fp32():
    precise, rough = (
        next(run(TrainConfig(steps=1, batch_size=64, precision=p))) for p in ("fp32", "bf16")
    )
    assert_close(rough[1], precise[1], rtol=0.02, atol=0)
    assert rough[1] != precise[1]
    assert all(p.dtype == torch.float32 for p in rough[2])


class Clock:
    """Stands still, but for each loss in bf16 (``slow`` seconds) and in fp32 (1 second)."""

    def __init__(self, slow: float) -> None:
        self.now, self.slow = 0.0, slow

    def perf_counter(self) -> float:
        return self.now

    def loss(self, *arguments):
        self.now += self.slow if torch.is_autocast_enabled("cpu") else 1.0
        return simple_loss(*arguments)


@pytest.mark.parametrize(("slow", "expected"), [(0.5, "bf16"), (2.0, "fp32"), (1.0, "fp32")])
def test_auto_is_the_faster_of_the_two(monkeypatch, slow, expected):
    clock = Clock(slow)
    monkeypatch.setattr(training, "time", clock)
    chosen = fastest_precision(network(), SCHEDULE, MIXTURE.sample, TrainConfig(), clock.loss)
    assert chosen == expected
    options = {"steps": 3, "batch_size": 8, "log_every": 1}
    auto = list(run(TrainConfig(precision="auto", **options), loss=clock.loss))
    plain = list(run(TrainConfig(precision=expected, **options), loss=clock.loss))
    for a, b in zip(auto, plain, strict=True):
        assert a[:2] == b[:2]
        assert all(torch.equal(p, q) for p, q in zip(a[2] + a[3], b[2] + b[3], strict=True))


def test_measuring_leaves_the_model_and_the_random_numbers_alone():
    class Dropping(Constant):
        def forward(self, x_t, t):
            return nn.functional.dropout(super().forward(x_t, t))

    model, state = Dropping(1.0), torch.get_rng_state()
    config = TrainConfig(batch_size=4)
    assert fastest_precision(model, SCHEDULE, MIXTURE.sample, config) in ("fp32", "bf16")
    assert model.a == 1 and model.a.grad is None
    assert torch.equal(torch.get_rng_state(), state)


def test_compile_compiles_the_model_and_changes_no_name(monkeypatch):
    compiled = []

    class Compiled(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self._orig_mod = model
            compiled.append(model)

        def forward(self, *arguments):
            return self._orig_mod(*arguments)

    monkeypatch.setattr(torch, "compile", Compiled)
    config = TrainConfig(steps=2, batch_size=4, compile=True)
    model = network()
    (log,) = train(model, SCHEDULE, MIXTURE.sample, config)
    assert compiled == [model]
    assert log.loss == next(run(TrainConfig(steps=2, batch_size=4)))[1]
    assert not [name for name in log.state() if "_orig_mod" in name]


# Two processes

SHARED = TrainConfig(
    steps=8, batch_size=8, lr=1e-2, warmup=2, clip=0.5, stratified=True, log_every=2
)


def train_unet(config: TrainConfig, path: Path | None = None) -> tuple[list[float], dict]:
    """With labels and a weight, in float64; losses, and the last state. ``path``: to keep them."""
    torch.manual_seed(0)
    model = UNet(UNetConfig(width=8, blocks=1, embedding=8)).double()
    pixels = torch.randint(256, (30, 28, 28), dtype=torch.uint8)
    draw = labelled(pixels, torch.arange(30) % 10, dropout=0.2)
    losses, sizes = [], set()
    model.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    for log in train(model, SCHEDULE, draw, config, torch.linspace(0, 2, 101)):
        losses.append(log.loss)
    if path:
        save_checkpoint(path, log.state(), {"losses": losses, "sizes": list(sizes)})
    return losses, log.state()


def join(folder: Path, rank: int, name: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / name}", rank=rank, world_size=2)


def share(folder: Path, rank: int) -> None:
    join(folder, rank, "training")
    train_unet(SHARED, folder / f"{rank}.safetensors")


def differ(folder: Path, rank: int) -> None:
    """bf16 seems faster to one process and slower to the other."""
    join(folder, rank, "precision")
    training.time = clock = Clock([0.5, 2.0][rank])
    chosen = fastest_precision(network(), SCHEDULE, MIXTURE.sample, SHARED, clock.loss)
    assert chosen == "bf16"


def divide(folder: Path, rank: int) -> None:
    join(folder, rank, "seven")
    message = "batch_size must be a multiple of the number of processes, 2, got 7"
    config = TrainConfig(steps=1, batch_size=7)
    for call in (
        lambda: next(train(network(), SCHEDULE, MIXTURE.sample, config)),
        lambda: fastest_precision(network(), SCHEDULE, MIXTURE.sample, config),
    ):
        check_bad(call, message, ValueError)


def both(call, folder: Path) -> list[int]:
    return wait(*[fork(call, folder, rank) for rank in (0, 1)])


def test_two_processes_train_as_one(tmp_path):
    losses, state = train_unet(SHARED)
    assert in_parent(both, share, tmp_path) == [0, 0]
    for rank in (0, 1):
        tensors, facts = load_checkpoint(tmp_path / f"{rank}.safetensors")
        assert facts["sizes"] == [4]
        assert_close(facts["losses"], losses, rtol=1e-9, atol=0)
        assert tensors.keys() == state.keys()
        for name, tensor in tensors.items():
            assert_close(tensor, state[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("call", [differ, divide])
def test_two_processes(tmp_path, call):
    """They choose one precision; and a batch that cannot be shared is refused."""
    assert in_parent(both, call, tmp_path) == [0, 0]


BAD = [
    bad("steps", lambda: TrainConfig(steps=0), "steps must be a whole number .*1, got 0"),
    bad("steps 1.5", lambda: TrainConfig(steps=1.5), "steps must be a whole number .*got 1.5"),
    bad("batch", lambda: TrainConfig(batch_size=-1), "batch_size must be .*at least 1, got -1"),
    bad("log", lambda: TrainConfig(log_every=0), "log_every must be .*at least 1, got 0"),
    bad("lr", lambda: TrainConfig(lr=0.0), "lr must be positive, got 0"),
    bad("warmup", lambda: TrainConfig(warmup=-1), "warmup must be .*at least 0, got -1"),
    bad("betas", lambda: TrainConfig(betas=(0.9, 1.0)), r"betas .*\[0, 1\), got \(0.9, 1.0\)"),
    bad("clip", lambda: TrainConfig(clip=0.0), r"clip must be positive, got 0.0 .None: no"),
    bad("clip NaN", lambda: TrainConfig(clip=math.nan), "clip must be positive, got nan"),
    bad("precision", lambda: TrainConfig(precision="fp16"), "fp32, bf16 or auto, got 'fp16'"),
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
