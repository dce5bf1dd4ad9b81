"""From a network of PyTorch to a program for the reader's page, by way of torch.export."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.fx import Node

from .images import Norm
from .operations import RULES, VIEWS, flat, viewed
from .program import BATCH, Builder, Exported, Value


@torch.no_grad()
def export(net: nn.Module, example_inputs: Sequence[Tensor]) -> Exported:
    """The program and the weights of ``net``, for `runner.js`.

    example_inputs: tensors [2, ...], the arguments of net.forward; the page may give any number of
    samples. The program's inputs have the names of those arguments. Weights become float16, all
    else stays float32. Raises ValueError for inputs of another batch, for an operation that the
    runner does not know (and says of which module), and where samples of the batch are mixed.
    """
    for i, x in enumerate(example_inputs):
        if not isinstance(x, Tensor) or x.ndim < 1 or len(x) != BATCH:
            got = list(x.shape) if isinstance(x, Tensor) else repr(x)
            raise ValueError(f"example_inputs[{i}] must be a tensor [{BATCH}, ...], got {got}")
    if net.training:
        raise ValueError("net must be in eval mode: call net.eval()")
    exported = torch.export.export(net, tuple(example_inputs))
    builder, known = Builder(), dict[Node, Any]()
    inputs: dict[str, Value] = {}
    for spec, node in zip(exported.graph_signature.input_specs, exported.graph.nodes, strict=False):
        if spec.kind is InputKind.USER_INPUT:
            known[node] = inputs[node.name] = builder.new(
                tuple(node.meta["val"].shape[1:]), rows=True
            )
        else:
            known[node] = _tensor(exported, spec)
    for node in exported.graph.nodes:
        if node.op == "call_function" and node.users:
            builder.module = _module(node)
            known[node] = _lower(builder, node, known)
    (out,) = flat(exported.graph.output_node().args[0])
    return builder.finish(inputs, known[out])


def _tensor(exported: torch.export.ExportedProgram, spec: Any) -> Tensor:
    """The parameter, buffer or constant that the graph's input stands for."""
    if spec.target in exported.state_dict:
        return exported.state_dict[spec.target].detach()
    return exported.constants[spec.target]


def _lower(builder: Builder, node: Node, known: dict[Node, Any]) -> Any:
    """What the node computes: a Value, several, or a tensor where nothing of it is an input."""
    args: Any = torch.fx.map_arg(node.args, known.__getitem__)
    kwargs: Any = torch.fx.map_arg(node.kwargs, known.__getitem__)
    if node.target is operator.getitem:
        return args[0][args[1]]
    if not any(isinstance(a, Value | Norm) for a in flat((args, kwargs))):
        return node.target(*args, **kwargs)  # type: ignore[operator]
    name = node.target.name().removeprefix("aten::").split(".")[0]  # type: ignore[union-attr]
    if name in VIEWS:
        found = viewed(builder, name, node, *args, **kwargs)
    elif name in RULES:
        found = RULES[name](builder, node, *args, **kwargs)
    else:
        raise ValueError(
            f"the page's runner does not know {node.target} (in {builder.module}): write the "
            f"network without it, or add it to runner.js and to page/operations.py"
        )
    _check_batch(builder, node, found)
    return found


def _check_batch(builder: Builder, node: Node, found: Any) -> None:
    """Raise ValueError unless each value still has the batch in front."""
    for value in flat(found):
        if isinstance(value, Value) and (
            value.view.shape[0] != BATCH or value.view.stride(0) != builder.sizes[value.buffer]
        ):
            raise ValueError(
                f"{node.target} (in {builder.module}) must leave the batch in front: the runner "
                f"takes sample after sample, got {list(value.view.shape)}"
            )


def _module(node: Node) -> str:
    """Where in the network the node comes from, "up.0.norm_1"."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return (stack[-1][0] if stack else "") or "the network itself"
