"""What a network's program computes in V8 is what PyTorch computes."""

import json

import pytest
import torch
from networks import CASES, digits, line, plane, small
from torch import nn
from torch.testing import assert_close
from v8 import KERNEL, RUNNER, Network, rounded

from ddpm_lite.page import export, kernel, shipped


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.__name__)
def case(request):
    """A network with the weights of the page, its inputs, what is exported of it."""
    net, inputs = request.param()
    net = rounded(net)
    return net, inputs, export(net, [x[:2] for x in inputs.values()])


@pytest.mark.parametrize("by", [KERNEL, None], ids=["wasm", "plain"])
def test_it_is_pytorch_s(case, by):
    net, inputs, exported = case
    expected = net(*inputs.values()).detach()
    found = Network(*exported, by).run(**inputs).reshape(expected.shape)
    assert_close(found, expected, rtol=0, atol=1e-4)


def test_one_sample_and_numbers_for_all(case):
    net, inputs, exported = case
    first = {k: v[:1] for k, v in inputs.items()}
    numbers = {k: float(v[0]) if v.ndim == 1 else v for k, v in first.items()}
    page = Network(*exported)
    assert torch.equal(page.run(**numbers), page.run(**first))


@pytest.mark.parametrize("name", shipped.NETWORKS)
def test_float16_moves_little(name):
    net, _, _ = shipped.network(name)
    inputs = {"digits": digits, "line": line, "vae-plane": plane}[name]()[1]
    exact = net(*inputs.values()).detach()
    found = Network(*shipped.stored(name)).run(**inputs).reshape(exact.shape)
    assert (found - exact).abs().max() < 1e-4


@pytest.mark.parametrize("name", shipped.NETWORKS)
def test_the_files_are_those_of_the_checkpoint(name):
    kept, made = shipped.stored(name), shipped.made(name)
    message = "python tools/networks.py"
    assert kept.program["about"] == made.program["about"], message
    assert kept.weights == made.weights, message
    assert kept.program == json.loads(json.dumps(made.program)), message


def test_the_kernel_is_that_of_its_source():
    pytest.importorskip("wasmtime")
    assert kernel.assembled() == KERNEL


def test_the_module_without_relaxed_simd_computes_the_same():
    wasmtime = pytest.importorskip("wasmtime")
    net, inputs = small()
    exported = export(rounded(net), [x[:2] for x in inputs.values()])
    alone = Network(*exported, bytes(wasmtime.wat2wasm(kernel.text(False))))
    assert_close(alone.run(**inputs), Network(*exported).run(**inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "old, new",
    [
        ("H[a] / (1 + Math.exp(-H[a]))", "H[a] / (2 + Math.exp(-H[a]))"),
        ("count - mean * mean + eps", "count + mean * mean + eps"),
        ("A = from + (y * stride + k) * down", "A = from + (y * stride + 2 - k) * down"),
        ("H[i] /= sum", "H[i] /= 2 * sum"),
        ("H[a] + H[b];", "H[a] - H[b];"),
    ],
)
def test_a_wrong_formula_is_seen(old, new):
    assert RUNNER.count(old) >= 1
    net, inputs = small()
    exported = export(rounded(net), [x[:2] for x in inputs.values()])
    wrong = Network(*exported, None, RUNNER.replace(old, new)).run(**inputs)
    expected = net(*inputs.values()).detach().flatten()
    assert (wrong - expected).abs().max() > 1e-3


class Sorts(nn.Module):
    def forward(self, x):
        return x.sort(1).values


class Mixes(nn.Module):
    def forward(self, x):
        return x.flatten()


def test_what_the_runner_cannot_do_is_named_at_the_export():
    inside = nn.Sequential(nn.Linear(3, 3), Sorts()).eval()
    with pytest.raises(ValueError, match=r"does not know aten.sort.*\(in 1\).*operations.py"):
        export(inside, [torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="must leave the batch in front"):
        export(Mixes().eval(), [torch.zeros(2, 3)])
    with pytest.raises(ValueError, match=r"example_inputs\[0\] must be a tensor \[2, ...\]"):
        export(inside, [torch.zeros(3, 3)])
    with pytest.raises(ValueError, match=r"call net.eval\(\)"):
        export(nn.Linear(3, 3), [torch.zeros(2, 3)])


@pytest.fixture(scope="module")
def decoder():
    return shipped.stored("vae-plane")


def test_an_unknown_operation_is_named(decoder):
    program = json.loads(json.dumps(decoder.program))
    program["operations"][3] |= {"op": "sorted", "fn": None, "module": "decoder.1"}
    with pytest.raises(RuntimeError, match=r"does not know the operation sorted \(in decoder.1\)"):
        Network(program, decoder.weights)


def test_a_truncated_blob_is_told(decoder):
    n = len(decoder.weights)
    with pytest.raises(RuntimeError, match=f"must have {n} bytes, got {n - 2}"):
        Network(decoder.program, decoder.weights[:-2])


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"z": torch.zeros(3)}, r"z must be a number or hold samples of 2 \(B x 2\), got 3"),
        ({"z": torch.zeros(0)}, r"z must be a number or hold samples of 2 \(B x 2\), got 0"),
        ({}, r"z must be a number or hold samples of 2 \(B x 2\), got undefined"),
        ({"z": 0.0, "y": 1.0}, r"no input y, only z"),
    ],
)
def test_wrong_inputs_are_named(decoder, inputs, message):
    with pytest.raises(RuntimeError, match=message):
        Network(*decoder).run(**inputs)


def test_wrong_labels_and_batches_are_named():
    page, (_, inputs) = Network(*shipped.stored("digits")), digits()
    with pytest.raises(RuntimeError, match=r"a whole number in 0..10, got 11"):
        page.run(**inputs | {"y": 11.0})
    with pytest.raises(RuntimeError, match=r"as many samples as the other inputs, 3, got 2"):
        page.run(**inputs | {"t": torch.ones(2)})
