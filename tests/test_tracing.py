"""A network that is compiled is one graph, and one that is loaded can be exported."""

import pytest
import torch
from strategies import normal
from torch.export import Dim, export
from torch.testing import assert_close

from ddpm_lite.networks import MLP, Denoiser, UNet, UNetConfig
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks import load_pretrained

SMALL = UNetConfig(size=8, patch=2, width=16, multipliers=(1, 2), blocks=1, embedding=8, classes=3)


def small(output):
    torch.manual_seed(0)
    model = Denoiser(UNet(SMALL), linear_schedule(), output)
    torch.nn.init.normal_(model.net.head.weight, 0, 0.1)
    return model


def batch(n, size=8, classes=3, seed=0):
    x = normal(n, 1, size, size, seed=seed).float()
    draws = torch.Generator().manual_seed(seed)
    t, y = (
        torch.randint(low, high, (n,), generator=draws)
        for low, high in ((1, 1001), (0, classes + 1))
    )
    return x, t, y


def check_one_graph(model, *arguments):
    torch._dynamo.reset()
    found = torch._dynamo.explain(model)(*arguments)
    assert found.graph_count == 1 and found.graph_break_count == 0, found.break_reasons


@pytest.mark.parametrize("output", ["x_0", "eps", "v"])
def test_a_denoiser_is_one_graph(output):
    check_one_graph(small(output), *batch(3))


def test_it_is_one_graph_without_labels_or_gradients_and_where_a_slope_is_asked_for():
    model, (x, t, y) = small("v"), batch(3)
    check_one_graph(model, x, t)
    check_one_graph(model, x.requires_grad_(), t, y)  # as a divergence asks
    with torch.no_grad():
        check_one_graph(model, x, t, y)


def test_a_traced_denoiser_is_the_denoiser_and_so_is_its_gradient():
    """By dynamo alone, which is what `train` compiles with before any compiler."""
    model, (x, t, y) = small("v"), batch(3)
    traced = torch.compile(model, backend="eager", fullgraph=True)
    gradients = []
    for one in (model, traced):
        model.zero_grad()
        one(x, t, y).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert torch.equal(traced(x, t, y), model(x, t, y))
    assert_close(gradients[1], gradients[0])


def test_an_mlp_is_one_graph_too():
    model = Denoiser(MLP(2, width=8), linear_schedule())
    check_one_graph(model, normal(3, 2).float(), torch.arange(1, 4))


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_loaded_can_be_exported_and_is_the_same_at_any_batch_size(strict):
    model = load_pretrained("digits")
    n = Dim("n", min=1)
    with torch.no_grad():
        shapes = ({0: n}, {0: n}, {0: n})
        program = export(model, batch(3, 28, 10), dynamic_shapes=shapes, strict=strict)
        for size in (1, 2, 5):
            x, t, y = batch(size, 28, 10, seed=size)
            assert_close(program.module()(x, t, y), model(x, t, y), rtol=1e-5, atol=1e-5)


def test_without_labels_it_can_be_exported_too():
    model, (x, t, _) = small("v").eval(), batch(2)
    assert_close(export(model, (x, t)).module()(x, t), model(x, t), rtol=1e-5, atol=1e-5)
