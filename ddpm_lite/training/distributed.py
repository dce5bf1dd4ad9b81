"""Several processes that train one model: who does which share, and how they agree.

Outside torch.distributed all is as for one process alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def share(batch_size: int) -> tuple[int, int]:
    """This process's rank and their number; (0, 1) outside torch.distributed.

    Raises ValueError where the batch cannot be dealt in equal parts.
    """
    if not dist.is_initialized():
        return 0, 1
    rank, world = dist.get_rank(), dist.get_world_size()
    if batch_size % world:
        raise ValueError(
            f"batch_size must be a multiple of the number of processes, {world}, got {batch_size}"
        )
    return rank, world


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each real tensor, in place, by its mean over the processes."""

    def mean(flat: Tensor) -> None:
        dist.all_reduce(flat)
        flat /= dist.get_world_size()

    _together(tensors, mean)


def same(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by that of process 0."""
    _together(tensors, lambda flat: dist.broadcast(flat, src=0))


@torch.no_grad()
def _together(tensors: Iterable[Tensor], do: Callable[[Tensor], object]) -> None:
    """Let the processes change the tensors, all of one dtype in one message."""
    if not dist.is_initialized():
        return
    groups: dict[torch.dtype, list[Tensor]] = {}
    for v in tensors:
        groups.setdefault(v.dtype, []).append(v)
    for group in groups.values():
        flat = torch.cat([v.reshape(-1) for v in group])
        do(flat)
        for v, part in zip(group, flat.split([v.numel() for v in group]), strict=True):
            v.copy_(part.view_as(v))


def agree(choice: bool, device: torch.device) -> bool:
    """The choice of process 0, for all."""
    flag = torch.tensor(choice, device=device, dtype=torch.uint8)
    same([flag])
    return bool(flag)


def chief() -> bool:
    """Whether this process writes and speaks for all."""
    return os.environ.get("RANK", "0") == "0" if not dist.is_initialized() else not dist.get_rank()


def join(device: torch.device) -> torch.device:
    """Under torchrun, meet the other processes; returns this one's own device."""
    if not dist.is_torchelastic_launched():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def leave() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()
