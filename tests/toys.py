"""Networks of a few lines, and a runner for them: what a figure does, without an exporter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ddpm_lite.live import (
    Button,
    Curve,
    Images,
    NetworkFigure,
    Pad,
    Panel,
    Point,
    Points,
    Rule,
    Slider,
    stored,
)

RUNNER = """
function makeNetwork(program, weights) {
  const [w] = new Float32Array(weights);
  if (program.broken) throw new Error("a program of another version");
  return { run({ x_t, t, y, z }) {
    if (program.inputs.z) return Float32Array.from({ length: 784 }, (_, i) => z[i % 2] / 5);
    return Float32Array.from(x_t, (x, i) => w * x + (y ? y[Math.floor(i / 784)] / 10 : t[i] / 100));
  } };
}
function* walk(network, table, { x, y, scale, z, known, mask }) {
  for (const [k, { p, q, a, b, s }] of table.entries()) {
    const eps = network.run({ x_t: x, y }), noise = z(k);
    x = x.map((v, i) => a * v + b * (p * v + q * eps[i] * scale) + s * noise[i]);
    if (mask) x = x.map((v, i) => (mask[i % 784] ? known[i % 784] : v));
    yield x;
  }
}
"""
INPUTS = {"toy-walk": ["x_t", "t", "y"], "toy-plane": ["z"], "toy-line": ["x_t", "t"]}
WORDS = {"title": "A title", "alt": "What there is to see in it."}
X = np.linspace(-1, 1, 21)
LABELS = np.arange(4.0)


def install(monkeypatch, folder: Path) -> None:
    """Let the package have these networks and no others."""
    for name, inputs in INPUTS.items():
        program = {"inputs": dict.fromkeys(inputs, [])}
        (folder / f"{name}.json").write_text(json.dumps(program), encoding="utf-8")
        (folder / f"{name}.bin").write_bytes(np.float32(0.5).tobytes())
    (folder / "runner.js").write_text(RUNNER, encoding="utf-8")
    (folder / "kernel.wasm").write_bytes(b"none")
    monkeypatch.setattr(stored, "FOLDER", folder)
    monkeypatch.setattr(stored, "RUNNER", folder / "runner.js")
    monkeypatch.setattr(stored, "KERNEL", folder / "kernel.wasm")


def table(steps: int) -> list[dict[str, float]]:
    """Rows of a walk that the toy's formula can follow."""
    last = steps - 1
    return [{"p": 1, "q": -0.1, "a": 0.5, "b": 0.4, "s": 0.1 * (k < last)} for k in range(steps)]


def walked(noise: np.ndarray, steps: int, scale: float, seed: int) -> np.ndarray:
    """Where the toy's walk ends, by NumPy."""
    from ddpm_lite.live import normals

    x = noise.reshape(4, 784)
    for k, r in enumerate(table(steps)):
        eps = 0.5 * x + LABELS[:, None] / 10
        z = normals(seed, x.shape, k + 1)
        x = r["a"] * x + r["b"] * (r["p"] * x + r["q"] * eps * scale) + r["s"] * z
    return x


def walk(**changes) -> NetworkFigure:
    """Four pictures of a walk, whose scale and number of steps the reader chooses."""
    given = {
        "network": "toy-walk",
        "x": Button((4, 28, 28), seed=3),
        "scale": Slider([1.0, 2.0], start=2.0),
        "steps": Slider([5, 200]),
        **WORDS,
    }
    return NetworkFigure(
        lambda scale, steps: [Images(np.zeros((1, 4, 28, 28)))],
        lambda scale, steps: {"table": table(steps), "y": LABELS, "scale": scale},
        **{**given, **changes},
    )


def pad(**changes) -> NetworkFigure:
    """A pad, and four pictures that keep what is drawn on it."""
    given = {"network": "toy-walk", "x": Button((4, 28, 28)), "drawing": Pad(), **WORDS}
    return NetworkFigure(
        lambda: [Images(np.zeros((1, 4, 28, 28)))],
        lambda: {"table": table(5), "y": LABELS, "scale": 1.0},
        **{**given, **changes},
    )


def plane(*first: Rule, **changes) -> NetworkFigure:
    """A picture, and a plane with the point that it belongs to."""
    given = {
        "network": "toy-plane",
        "into": "picture",
        "panels": {"plane": Panel("z_1", "z_2", (-5, 5), (-5, 5)), "picture": Panel()},
        "z": Point("plane", (1, -2), "the code"),
        **WORDS,
    }
    return NetworkFigure(
        lambda: {
            "plane": [*first, Points([0, 1], [2, 3])],
            "picture": [Images(np.zeros((28, 28)))],
        },
        lambda: {},
        **{**given, **changes},
    )


def line(**changes) -> NetworkFigure:
    """A curve at a time t."""
    given = {"network": "toy-line", "t": Slider(range(0, 101, 10), start=50), **WORDS}
    return NetworkFigure(
        lambda t: [Curve(X, X)],
        lambda t: {"x_t": X, "t": np.full(21, t)},
        **{"panels": {"main": Panel(ylim=(-2, 2))}, **given, **changes},
    )
