"""The peak that matrix multiplication reaches here: the yardstick for every other speed.

    python benchmarks/gemm.py [--device cpu] [--threads 2]

Prints one JSON line per precision: the size of the square matrices and GFLOP/s, the best of
several sizes. A convolution is a matrix multiplication in disguise, so no network beats this.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import torch
from timing import wait

SIZES = (512, 1024, 2048)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def gemm_peak(dtype: torch.dtype, device: str, seconds: float = 0.5) -> tuple[int, float]:
    """(n, FLOP/s) of the size that is fastest; each is repeated for about ``seconds``."""
    speeds = {}
    for n in SIZES:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        calls = 0
        a @ b  # the first call chooses and compiles a kernel
        wait(device)
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            a @ b
            wait(device)
            calls += 1
        speeds[n] = 2 * n**3 * calls / (time.perf_counter() - start)
    best = max(speeds, key=speeds.__getitem__)
    return best, speeds[best]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    for name, dtype in PRECISIONS.items():
        n, speed = gemm_peak(dtype, args.device)
        print(json.dumps({"precision": name, "n": n, "gflops": round(speed / 1e9)}))


if __name__ == "__main__":
    main()
