"""Networks of pages in V8, without a browser: the same JavaScript, the same WebAssembly."""

import base64
from pathlib import Path

import numpy as np
import torch
from py_mini_racer import JSEvalException, MiniRacer

import ddpm_lite.page

PAGE = Path(ddpm_lite.page.__file__).parent
KERNEL = (PAGE / "kernel.wasm").read_bytes()
RUNNER = (PAGE / "runner.js").read_text(encoding="utf-8")

# What a browser has and V8 alone has not: base64; and the doors for what Python asks.
DOORS = """
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
function bytes(text) {
  const out = new Uint8Array((text.length * 3) / 4 - (text.match(/=*$/)[0].length));
  for (let i = 0, j = 0; i < text.length; i += 4) {
    const [a, b, c, d] = [0, 1, 2, 3].map((k) => Math.max(0, LETTERS.indexOf(text[i + k])));
    const v = (a << 18) | (b << 12) | (c << 6) | d;
    for (const shift of [16, 8, 0]) if (j < out.length) out[j++] = (v >> shift) & 255;
  }
  return out.buffer;
}
const floats = (v) => (typeof v === "string" ? new Float32Array(bytes(v)) : v);
const all = (given) => Object.fromEntries(Object.entries(given).map(([k, v]) => [k, floats(v)]));
let network;
function make(program, weights, kernel) {
  network = makeNetwork(program, bytes(weights), kernel ? bytes(kernel) : null);
  return [];
}
function run(inputs) { return Array.from(network.run(all(inputs))); }
function walked(table, given, noise) {
  const z = (k) => floats(noise[k]);
  return Array.from([...walk(network, table, { ...all(given), z })].at(-1));
}
"""

RUN = (  # for a browser: its answer to once(program, weights, kernel, inputs)
    RUNNER + DOORS + "const once = (p, w, k, inputs) => (make(p, w, k), run(inputs));\n"
)


def text(value):
    """What goes through the doors: numbers as they are, tensors and bytes in base64."""
    if isinstance(value, torch.Tensor):
        value = np.asarray(value.detach(), "<f4").tobytes()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


class Network:
    """An exported network in V8; kernel: None for plain JavaScript. Raises RuntimeError."""

    def __init__(self, program, weights, kernel=KERNEL, runner=RUNNER):
        self.racer = MiniRacer()
        self.racer.eval(runner + DOORS + "0")
        self._call("make", program, text(weights), text(kernel))

    def run(self, **inputs):
        """The flat output, float32."""
        return self._call("run", {k: text(v) for k, v in inputs.items()})

    def walk(self, table, noise, **given):
        """The flat end of a walk; noise: z of each row."""
        told = {k: text(v) for k, v in given.items()}
        return self._call("walked", table, told, [text(z) for z in noise])

    def _call(self, name, *arguments):
        try:
            found = self.racer.call(name, *arguments)
        except JSEvalException as error:
            raise RuntimeError(str(error)) from None
        return torch.tensor(list(found))


def rounded(net):
    """The same network with the weights that the page has: float16 ones."""
    net.load_state_dict({k: v.half().to(v) for k, v in net.state_dict().items()})
    return net.eval()
