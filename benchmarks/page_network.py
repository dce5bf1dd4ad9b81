"""The network that draws digits in the reader's page: bytes on the click, seconds, the error.

    python benchmarks/page_network.py [--rounds 5] [--steps 20] [--out FILE]

Ten digits by a walk (DDIM, eta = 1), one after the other, in V8 (mini-racer) and in headless
Chromium (CHROMIUM names it), with the WebAssembly kernel; in plain JavaScript one digit, once.
"load": from the base64 text to a network that is ready; "first": one digit, loading included;
"all": the ten digits, or the one. The least of the rounds is stored: others who use the machine
only add to it. "error": the most that an output differs from PyTorch's with the same float16
weights; "float16": what these change, from the checkpoint's own.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, Results, at_least, command, flags, rounded
from playwright.sync_api import sync_playwright
from py_mini_racer import MiniRacer
from timing import processor

import ddpm_lite.page
from ddpm_lite.page import walk_table
from ddpm_lite.page.shipped import FOLDER, network, stored
from ddpm_lite.tasks import load_pretrained

PAGE = Path(ddpm_lite.page.__file__).parent
FILES = [FOLDER / "digits.json", FOLDER / "digits.bin", PAGE / "kernel.wasm", PAGE / "runner.js"]

# Seconds of one round; the clock of V8 alone has milliseconds.
SCRIPT = """
const now = () => (globalThis.performance ?? Date).now() / 1000;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
function bytes(text) {
  const value = new Uint8Array(128), out = new Uint8Array(text.replace(/=/g, "").length * 3 >> 2);
  for (let i = 0; i < 64; i++) value[LETTERS.charCodeAt(i)] = i;
  for (let i = 0, j = 0; i < text.length; i += 4) {
    const v = [0, 1, 2, 3].reduce((v, k) => (v << 6) | value[text.charCodeAt(i + k)], 0);
    for (const shift of [16, 8, 0]) if (j < out.length) out[j++] = (v >> shift) & 255;
  }
  return out.buffer;
}
function round({ program, weights, kernel, table, digits, probe }) {
  const start = now(), net = makeNetwork(program, bytes(weights), kernel && bytes(kernel));
  const loaded = now(), found = { load: loaded - start };
  const noise = Float32Array.from({ length: 784 }, (_, i) => Math.sin(i * i));
  for (let y = 0; y < digits; y++) {
    for (const _ of walk(net, table, { x: noise, y: Float32Array.of(y), z: () => noise }));
    if (!y) found.first = now() - start;
  }
  found.all = now() - loaded;
  for (const name in probe) probe[name] = Float32Array.from(probe[name]);
  return JSON.stringify({ ...found, out: [...net.run(probe)] });
}
"""


def asked(steps: int) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """What a round is given, and the outputs of PyTorch: with float16 weights, with its own."""
    program, weights = stored("digits")
    net, _, output = network("digits")
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    probe = {"x_t": x, "t": torch.tensor([300, 900]), "y": torch.tensor([3, 10])}
    with torch.no_grad():
        exact = net(*probe.values()).flatten()
        net.load_state_dict({k: v.half().to(v) for k, v in net.state_dict().items()})
        half = net(*probe.values()).flatten()
    given = {
        "program": program,
        "weights": base64.b64encode(weights).decode(),
        "kernel": base64.b64encode((PAGE / "kernel.wasm").read_bytes()).decode(),
        "table": walk_table(load_pretrained("digits").schedule, "ddim", steps, 1.0, output),
        "probe": {k: v.flatten().tolist() for k, v in probe.items()},
        "digits": 10,
    }
    return given, half, exact


def measured(
    call: Callable[[dict[str, Any]], str], given: dict[str, Any], rounds: int, half: torch.Tensor
) -> dict[str, float]:
    """The least seconds of the rounds, and the error."""
    found = [json.loads(call(given)) for _ in range(rounds)]
    error = max(float((torch.tensor(f.pop("out")) - half).abs().max()) for f in found)
    return rounded({k: min(f[k] for f in found) for k in found[0]} | {"error": error})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags(__doc__, RESULTS / "page_network.json")
    parser.add_argument("--rounds", type=at_least(1), default=5)
    parser.add_argument("--steps", type=at_least(1), default=20)
    args = parser.parse_args(arguments)
    given, half, exact = asked(args.steps)
    source = (PAGE / "runner.js").read_text(encoding="utf-8") + SCRIPT
    sizes = [path.stat().st_size for path in FILES]
    about = {
        "command": command("page_network.py", arguments),
        "machine": processor(),
        "steps": args.steps,
        "bytes": sizes[0] + sizes[3] + sum(4 * -(-size // 3) for size in sizes[1:3]),  # base64
        "float16": rounded({"error": float((half - exact).abs().max())})["error"],
    }
    results = Results(args.out, about)
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM")  # else Playwright's own
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab, racer = browser.new_page(), MiniRacer()
        racer.eval(source)
        ways: dict[str, Callable[[dict[str, Any]], str]] = {
            "chromium": partial(tab.evaluate, f"(told) => {{{source}; return round(told);}}"),
            "v8": lambda told: str(racer.call("round", told)),
        }
        for name, call in ways.items():
            results.keep(measured(call, given, args.rounds, half), name, "wasm")
            results.keep(
                measured(call, given | {"kernel": None, "digits": 1}, 1, half), name, "plain"
            )
        browser.close()
        racer.close()
    print(json.dumps(results.values, indent=1))


if __name__ == "__main__":
    main()
