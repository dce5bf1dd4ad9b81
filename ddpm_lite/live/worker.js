// Runs in the page's worker, after the runner: keeps networks, runs them, and hears "stop" between
// the steps of a walk. Messages: {id, load: {...}}, {id, run: {...}}, {stop: id}.

const kept = {}, stopped = new Set();

// Standard normal numbers from a seed, as ddpm_lite.live.noise makes them.
function mixed(n) {
  n = Math.imul(n ^ (n >>> 16), 0x7feb352d);
  n = Math.imul(n ^ (n >>> 15), 0x846ca68b);
  return (n ^ (n >>> 16)) >>> 0;
}

function normals(seed, count, stream = 0) {
  const start = mixed((mixed(seed) + stream) >>> 0), uniform = (i) => (mixed((start + i) >>> 0) + 0.5) / 2 ** 32;
  return Float32Array.from({ length: count }, (_, i) =>
    Math.sqrt(-2 * Math.log(uniform(2 * i))) * Math.cos(2 * Math.PI * uniform(2 * i + 1)));
}

function bytes(data) { // of base64, or of what JupyterLab sends
  if (typeof data === "string") return Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer;
  return data instanceof ArrayBuffer ? data : data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
}

function load({ name, program, weights, kernel }) {
  const wasm = typeof WebAssembly !== "undefined" && kernel ? bytes(kernel) : null;
  kept[name] = makeNetwork(program, bytes(weights), wasm && WebAssembly.validate(wasm) ? wasm : null);
}

const channel = new MessageChannel(), waiting = [];
channel.port1.onmessage = () => waiting.shift()();
const pause = () => new Promise((go) => { waiting.push(go); channel.port2.postMessage(0); });

async function run(id, { network, inputs, table, noise, known, mask }) {
  const drawn = Object.fromEntries(Object.entries(noise).map(([name, n]) => [name, normals(n.seed, n.count)]));
  const all = { ...inputs, ...drawn };
  if (!table) return kept[network].run(all);
  const { seed, count } = noise.x, z = (k) => normals(seed, count, k + 1);
  let step = 0, x = null;
  for (x of walk(kept[network], table, { ...all, z, known, mask })) {
    postMessage({ id, step: ++step, of: table.length, x });
    await pause();
    if (stopped.delete(id)) return null;
  }
  return x;
}

onmessage = async ({ data: { id, stop, ...asked } }) => {
  if (stop) return void stopped.add(stop);
  try {
    if (asked.load) load(asked.load);
    postMessage({ id, done: true, x: asked.run ? await run(id, asked.run) : null });
  } catch (error) {
    postMessage({ id, failed: String(error?.message ?? error) });
  }
};
