"""In which precision a network runs, while it learns and while it draws; and compiled."""

import pytest
import torch
from kinds import MIXTURE, network
from torch import nn
from torch.testing import assert_close

from ddpm_lite.loss import simple_loss
from ddpm_lite.networks import Denoiser, UNet, UNetConfig
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks import Drawing, draw, settled
from ddpm_lite.training import TrainConfig, denoising, fastest_precision, precision, train

SCHEDULE = linear_schedule(100, 0.001, 0.1)
LINE = denoising(MIXTURE.sample, SCHEDULE)


class Clock:
    """Stands still, but for each call in bf16 (``bf16`` seconds) and in fp32 (1 second)."""

    def __init__(self, bf16: float) -> None:
        self.now, self.bf16 = 0.0, bf16

    def perf_counter(self) -> float:
        return self.now

    def tick(self) -> None:
        self.now += self.bf16 if torch.is_autocast_enabled("cpu") else 1.0

    def loss(self, *arguments):
        self.tick()
        return simple_loss(*arguments)


def logs(config: TrainConfig, batches=LINE) -> list:
    """Of each log: loss, weights, averaged weights."""
    model = network()
    return [
        (log.loss, *([p.clone() for p in m.parameters()] for m in (model, log.ema)))
        for log in train(model, *batches, config)
    ]


# ---- training ------------------------------------------------------------------------------------


def test_a_bf16_step_is_nearly_that_of_fp32():
    (precise,), (rough,) = (
        logs(TrainConfig(steps=1, batch_size=64, precision=p)) for p in ("fp32", "bf16")
    )
    assert_close(rough[0], precise[0], rtol=0.02, atol=0)
    assert rough[0] != precise[0]
    assert all(p.dtype == torch.float32 for p in rough[1])


FASTER = pytest.mark.parametrize(
    ("bf16", "expected"), [(0.5, "bf16"), (2.0, "fp32"), (1.0, "fp32")]
)


@FASTER
def test_auto_is_the_faster_of_the_two(monkeypatch, bf16, expected):
    clock = Clock(bf16)
    monkeypatch.setattr(precision, "time", clock)
    timed = denoising(MIXTURE.sample, SCHEDULE, loss=clock.loss)
    assert fastest_precision(network(), *timed, TrainConfig()) == expected
    options = {"steps": 3, "batch_size": 8, "log_every": 1}
    auto = logs(TrainConfig(precision="auto", **options), timed)
    plain = logs(TrainConfig(precision=expected, **options), timed)
    for a, b in zip(auto, plain, strict=True):
        assert a[0] == b[0]
        assert all(torch.equal(p, q) for p, q in zip(a[1] + a[2], b[1] + b[2], strict=True))


def test_measuring_leaves_the_model_and_the_random_numbers_alone():
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.ones(1))

        def forward(self, x_t, t):
            return nn.functional.dropout(self.a.expand_as(x_t))

    model, state = Dropping().eval(), torch.get_rng_state()
    assert fastest_precision(model, *LINE, TrainConfig(batch_size=4)) in ("fp32", "bf16")
    assert model.a == 1 and model.a.grad is None and not model.training
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
    model, options = network(), {"steps": 2, "batch_size": 4}
    (log,) = train(model, *LINE, TrainConfig(compile=True, **options))
    assert compiled == [model]
    assert log.loss == logs(TrainConfig(**options))[0][0]
    assert not [name for name in log.state() if "_orig_mod" in name]


# ---- drawing -------------------------------------------------------------------------------------


@pytest.fixture
def model() -> Denoiser:
    """A network that draws something: its head is not 0."""
    torch.manual_seed(0)
    net = UNet(UNetConfig(size=8, width=8, blocks=1, embedding=8))
    nn.init.normal_(net.head.weight, std=0.2)
    return Denoiser(net, SCHEDULE, "v").eval()


def drawn(model: Denoiser, how: str) -> torch.Tensor:
    return torch.cat(list(draw(model, torch.arange(10), Drawing(steps=4, precision=how))))


def test_drawing_in_bf16_goes_through_autocast(model):
    """The network's layers compute in bf16, and the walk does not: the digits are nearly those."""
    seen = set()
    model.net.stem.register_forward_hook(lambda _, inputs, output: seen.add(output.dtype))
    precise = drawn(model, "fp32")
    assert seen == {torch.float32}
    seen.clear()
    rough = drawn(model, "bf16")
    assert seen == {torch.bfloat16}
    gap = (rough.float() - precise.float()).abs()
    assert 0 < gap.mean() < 5


@FASTER
def test_drawing_chooses_the_faster(monkeypatch, model, bf16, expected):
    clock = Clock(bf16)
    monkeypatch.setattr(precision, "time", clock)
    hook = model.net.stem.register_forward_hook(lambda *_: clock.tick())
    assert settled(Drawing(steps=4, precision="auto"), model) == Drawing(
        steps=4, precision=expected
    )
    auto = drawn(model, "auto")
    hook.remove()
    assert torch.equal(auto, drawn(model, expected))
    assert not torch.equal(auto, drawn(model, {"fp32": "bf16", "bf16": "fp32"}[expected]))


def test_images_are_laid_out_as_convolutions_like_them():
    """But for bf16 on a CPU, where GroupNorm is slow so."""
    layouts = {
        (device, p): precision.memory_format(device, p)
        for device in ("cpu", "cuda")
        for p in ("fp32", "bf16")
    }
    assert layouts.pop(("cpu", "bf16")) == torch.contiguous_format
    assert set(layouts.values()) == {torch.channels_last}
