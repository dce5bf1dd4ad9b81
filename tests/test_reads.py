"""Nothing on the way waits for a value: no step, no loss and no update reads a number.

On a device each read is a wait for all that runs there. Here a mode counts the operations that
read, while `checks.readable` says no, as it does on a device.
"""

import sys
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from strategies import CLOCKED, SOLVERS, STEPS, WALKS, each, normal, wavy
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_lite.checks import check_times
from ddpm_lite.density import grid, least_error
from ddpm_lite.loss import denoising, simple_loss
from ddpm_lite.mixture import two_modes
from ddpm_lite.networks import Denoiser, UNet, UNetConfig
from ddpm_lite.prediction import clipped
from ddpm_lite.sampling import best_variance, ddpm_step
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.solvers import ddim_invert
from ddpm_lite.training import TrainConfig, train

SCHEDULE = linear_schedule()
READS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique")
T3 = torch.tensor([2, 500, 1000])


class Reads(TorchDispatchMode):
    """Which operations read a value."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        if name.lstrip("_") in {read.lstrip("_") for read in READS}:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def on_a_device(monkeypatch):
    """Nothing is readable, for every module that asks."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ddpm_lite") and hasattr(module, "readable"):
            monkeypatch.setattr(module, "readable", lambda x: False)


@contextmanager
def no_reads():
    with Reads() as reads:
        yield
    assert reads.found == []


def net():
    config = UNetConfig(
        size=4, patch=1, width=8, multipliers=(1,), blocks=1, embedding=8, classes=3
    )
    torch.manual_seed(0)
    return Denoiser(UNet(config), SCHEDULE, "v")


def test_a_read_is_seen(monkeypatch):
    for read in (bool, float, int, lambda x: x.item(), lambda x: torch.equal(x, x), torch.nonzero):
        with pytest.raises(AssertionError), no_reads():
            read(torch.ones(1))
    monkeypatch.undo()
    with pytest.raises(AssertionError), no_reads():
        check_times(T3, 1000, normal(3))


PURE = STEPS | CLOCKED
PURE["best"] = partial(
    ddpm_step, variance=best_variance(least_error(two_modes(), SCHEDULE, grid(n=512)))
)


@each(PURE)
def test_a_step_reads_nothing(name):
    x, eps, z = normal(3, 3, 2)
    with no_reads():
        PURE[name](SCHEDULE, x, T3, T3 - 1, eps, z)


@each({name: step for name, step in PURE.items() if name != "best"})
def test_a_step_is_made_where_nothing_can_be_read(name):
    """On the meta device, which has shapes and no numbers."""
    x, t = torch.zeros(3, 2, device="meta"), torch.ones(3, device="meta").long()
    assert PURE[name](SCHEDULE, x, t, t - 1, x, x).shape == (3, 2)


@each(WALKS | {"up": ddim_invert})
def test_a_step_of_a_walk_reads_nothing(name):
    """From one yield to the next: a walk is looked at once, at its door."""
    for model in (wavy, clipped(wavy, SCHEDULE, 1.0)):
        walk = (WALKS | {"up": ddim_invert})[name](model, SCHEDULE, normal(4, 2), 5)
        next(walk)
        with no_reads():
            for _ in range(3):
                next(walk)


@each(SOLVERS)
def test_a_network_that_is_sampled_reads_nothing(name):
    model, y = net().eval(), torch.tensor([0, 3])
    walk = SOLVERS[name](partial(model, y=y), SCHEDULE, normal(2, 1, 4, 4).float(), 4)
    next(walk)
    with no_reads():
        next(walk), next(walk)


@pytest.mark.parametrize("weight", [None, SCHEDULE.alpha_bar**-0.5])
def test_the_loss_of_a_network_and_its_slope_read_nothing(weight):
    model, (x_0, eps) = net(), normal(2, 3, 1, 4, 4).float()
    asked = partial(model, y=torch.tensor([0, 1, 3]))
    with no_reads():
        simple_loss(asked, SCHEDULE, x_0, T3, eps, weight).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_an_update_reads_nothing():
    """From one batch to the next: loss, AdamW, clipping, averaging, with labels and a weight."""
    seen, reads = [], Reads()

    def data(n, generator):
        seen.append(len(reads.found))
        x_0 = torch.randn(n, 1, 4, 4, generator=generator)
        return x_0, torch.randint(4, (n,), generator=generator)

    for stratified in (False, True):
        seen.clear()
        config = TrainConfig(steps=9, batch_size=4, warmup=3, clip=0.5, ema_decay=0.99, log_every=9)
        batches = denoising(data, SCHEDULE, SCHEDULE.alpha_bar**-0.5, stratified)
        with reads:
            list(train(net(), *batches, config))
        assert len(seen) == 9 and seen[1] == seen[-1]


def test_the_door_of_a_walk_is_looked_at_on_a_device_too():
    x = normal(4)
    x[2] = torch.nan
    with pytest.raises(ValueError, match="x_T must be finite"):
        WALKS["ddim 0"](wavy, SCHEDULE, x, 3)
