// Runs a network that ddpm_lite.page.export made of one of PyTorch's; no DOM, no modules.
//
//   makeNetwork(program, weights, kernel): weights: ArrayBuffer of float16; kernel: the bytes of
//     kernel.wasm, or null for plain JavaScript. Returns { run(inputs) -> Float32Array }, with
//     inputs { name: Float32Array of one or more samples | number for all of them }.
//   walk(network, table, {x, y, scale, z, known, mask, clip}): at the end of this file.
//
// A program is a list of operations over buffers in one heap of floats, for one sample; a place
// in it is [buffer, offset, ...strides].

function makeNetwork(program, weights, kernel) {
  for (const o of program.operations) if (!OPERATIONS[o.op] || (o.op === "each" && !EACH[o.fn])) throw new Error(
    `this runner does not know the operation ${o.fn ?? o.op} (in ${o.module}): export the network anew`);
  const machine = makeMachine(program, weights, kernel), { H, starts } = machine;
  const steps = program.operations.map((o) => OPERATIONS[o.op].bind(null, machine, o));
  const inputs = Object.entries(program.inputs).map(([name, shape]) => [name, size(shape), starts[program.places[name]]]);
  const out = starts[program.output.buffer], count = size(program.output.shape);
  const run = (given) => {
    const batch = batchOf(program.inputs, given), result = new Float32Array(batch * count);
    for (let i = 0; i < batch; i++) {
      for (const [name, n, at] of inputs) {
        const x = given[name];
        if (typeof x === "number") H.fill(x, at, at + n);
        else for (let j = 0, from = x.length === n ? 0 : i * n; j < n; j++) H[at + j] = x[from + j];
      }
      for (const step of steps) step();
      result.set(H.subarray(out, out + count), i * count);
    }
    return result;
  };
  return { run };
}

const size = (shape) => shape.reduce((a, b) => a * b, 1);

// How many samples are given; an Error that names the input that is wrong.
function batchOf(shapes, given) {
  let batch = 1;
  for (const name of Object.keys(given)) if (!(name in shapes)) throw new Error(
    `the network has no input ${name}, only ${Object.keys(shapes).join(", ")}`);
  for (const [name, shape] of Object.entries(shapes)) {
    const x = given[name], n = size(shape);
    if (typeof x === "number") continue;
    if (!(x?.length > 0) || x.length % n) throw new Error(
      `${name} must be a number or hold samples of ${n} (${["B", ...shape].join(" x ")}), got ${x?.length ?? x}`);
    if (x.length === n) continue;
    if (batch > 1 && x.length !== batch * n) throw new Error(
      `${name} must hold as many samples as the other inputs, ${batch}, got ${x.length / n}`);
    batch = x.length / n;
  }
  return batch;
}

// ---- the heap: weights, constants, buffers, room for a product -------------------------------------

function makeMachine(program, weights, kernel) {
  const { weights: count, constants, buffers, operations } = program;
  if (weights.byteLength !== 2 * count) throw new Error(
    `the weights must have ${2 * count} bytes, got ${weights.byteLength}: the file was cut off or is another's`);
  const starts = [], round = (n) => (n + 3) & ~3;
  let top = round(count);
  for (const n of [constants.length, ...buffers.slice(1)]) { starts.push(top); top = round(top + n); }
  const room = top, floats = top + Math.max(64, ...operations.map(roomOf));
  const memory = kernel && new WebAssembly.Memory({ initial: Math.ceil(floats / 16384) });
  const H = memory ? new Float32Array(memory.buffer) : new Float32Array(floats);
  H.set(halves(new Uint16Array(weights)));
  H.set(constants, starts[0]);
  return { H, starts, room, ...(kernel ? compiled(kernel, memory) : plain(H)) };
}

const fours = (n) => Math.ceil(n / 4) * 4;

function roomOf(o) {
  if (o.op === "matmul") return (o.size[0] + o.size[1]) * fours(o.size[2]);
  if (o.op === "spread") return o.size[0] * o.size[1] * fours(o.kernel ** 2 * o.channels);
  return o.op === "conv" ? fours(o.channels) : o.op === "norm" ? 2 * o.size[2] : 0;
}

// float16 to float32.
function halves(bits) {
  const value = Float32Array.from({ length: 65536 }, (_, i) => {
    const e = (i >> 10) & 31, m = i & 1023;
    return (i >> 15 ? -1 : 1) * (e ? 2 ** (e - 15) * (1 + m / 1024) : m * 2 ** -24);
  });
  return Float32Array.from(bits, (i) => value[i]);
}

// ---- gemm(M, A, lda, B, C, ldc, K, N): C[M, N] += A[M, K] B; B in panels [N / 4, K, 4], N of fours ---

// What the kernel can do: kernel.py says how. A browser with relaxed SIMD takes the module within it.
function compiled(kernel, memory) {
  const whole = new WebAssembly.Module(kernel), [fused] = WebAssembly.Module.customSections(whole, "fused");
  const module = fused && WebAssembly.validate(fused) ? new WebAssembly.Module(fused) : whole;
  const { gemm7, gemm4, gemm1, silu } = new WebAssembly.Instance(module, { page: { memory } }).exports;
  const gemm = (M, A, lda, B, C, ldc, K, N) => {
    let m = 0;
    for (; m + 7 <= M; m += 7) gemm7(4 * (A + m * lda), 4 * lda, 4 * B, 4 * (C + m * ldc), 4 * ldc, K, N);
    for (; m + 4 <= M; m += 4) gemm4(4 * (A + m * lda), 4 * lda, 4 * B, 4 * (C + m * ldc), 4 * ldc, K, N);
    for (; m < M; m++) gemm1(4 * (A + m * lda), 4 * lda, 4 * B, 4 * (C + m * ldc), 4 * ldc, K, N);
  };
  return { gemm, silu: (x, o, scale, shift, pixels, n) => silu(4 * x, 4 * o, 4 * scale, 4 * shift, pixels, 4 * n) };
}

function plain(H) {
  const gemm = (M, A, lda, B, C, ldc, K, N) => {
    for (let n = 0; n < N; n += 4, B += 4 * K) for (let m = 0; m < M; m++) {
      let c = C + m * ldc + n, a = A + m * lda, p = 0, q = 0, r = 0, s = 0;
      for (let b = B; b < B + 4 * K; b += 4, a++) {
        const v = H[a];
        p += v * H[b]; q += v * H[b + 1]; r += v * H[b + 2]; s += v * H[b + 3];
      }
      H[c] += p; H[c + 1] += q; H[c + 2] += r; H[c + 3] += s;
    }
  };
  const silu = (x, o, scale, shift, pixels, n) => {
    for (; pixels--; x += n, o += n) for (let c = 0; c < n; c++) {
      const v = H[x + c] * H[scale + c] + H[shift + c];
      H[o + c] = v / (1 + Math.exp(-v));
    }
  };
  return { gemm, silu };
}

// ---- the operations, each (machine, what the program says of it) -----------------------------------

const OPERATIONS = {
  // Number by number, in nested loops over strides.
  each({ H, starts }, { fn, sizes, out, in: ins }) {
    const places = [out, ...ins], last = sizes.length - 1, inner = EACH[fn];
    const at = places.map(([buffer, offset]) => starts[buffer] + offset);
    const steps = places.map((p) => p[2 + last]), [so, sa, sb, sc] = steps;
    const loop = (d, [o, a, b, c]) => {
      if (d === last) inner(H, sizes[d], o, so, a, sa, b, sb, c, sc);
      else for (let i = 0; i < sizes[d]; i++) loop(d + 1, [o, a, b, c].map((x, j) => x + i * (places[j]?.[2 + d] ?? 0)));
    };
    loop(0, at);
  },

  // A convolution (its padding is there already), or a linear layer: rows of one.
  conv({ H, starts, room, gemm }, { x, out, rows, columns, stride, kernel, depth, channels, weight, bias }) {
    const [from, down, right] = place(starts, x), [to, toDown, toRight] = place(starts, out), wide = fours(channels);
    for (let y = 0; y < rows; y++) {
      fillRows(H, to + y * toDown, columns, toRight, channels, bias);
      for (let k = 0; k < kernel; k++) {
        const A = from + (y * stride + k) * down, B = weight + k * depth * wide;
        if (wide === channels) gemm(columns, A, stride * right, B, to + y * toDown, toRight, depth, wide);
        else for (let q = 0; q < columns; q++) {
          H.fill(0, room, room + wide);
          gemm(1, A + q * stride * right, right, B, room, wide, depth, wide);
          for (let c = 0; c < channels; c++) H[to + y * toDown + q * toRight + c] += H[room + c];
        }
      }
    }
  },

  // A transposed convolution: each pixel is spread over kernel x kernel of the image.
  spread({ H, starts, room, gemm }, { x, out, size: [h, w, depth], into: [n, rows, columns], stride, padding, kernel, channels, weight, bias }) {
    const [from] = place(starts, x), [to, down, right] = place(starts, out), wide = fours(kernel * kernel * n);
    H.fill(0, room, room + h * w * wide);
    gemm(h * w, from, depth, weight, room, wide, depth, wide);
    for (let y = 0; y < rows; y++) fillRows(H, to + y * down, columns, right, n, bias);
    for (let y = 0; y < h; y++) for (let q = 0; q < w; q++) for (let k = 0; k < kernel; k++) for (let l = 0; l < kernel; l++) {
      const r = y * stride + k - padding, s = q * stride + l - padding;
      if (r < 0 || r >= rows || s < 0 || s >= columns) continue;
      const a = room + (y * w + q) * wide + (k * kernel + l) * n, b = to + r * down + s * right;
      for (let c = 0; c < n; c++) H[b + c] += H[a + c];
    }
  },

  // A group norm, the scale and shift of each channel after it, and SiLU, in one pass.
  norm({ H, starts, room, silu }, { x, out, size: [h, w, n], groups, eps, weight, bias, scale, shift, act }) {
    const [from, down, right] = place(starts, x), [to, toDown, toRight] = place(starts, out), B = room + n;
    moments(H, from, down, right, h, w, n, groups, eps, room);
    const changed = (a, b) => { for (let c = 0; c < n; c++) { H[room + c] *= a(c); H[B + c] = H[B + c] * a(c) + b(c); } };
    if (weight >= 0) changed((c) => H[weight + c], (c) => H[bias + c]);
    if (scale) changed((c) => H[starts[scale[0]] + scale[1] + c * scale[2]], (c) => H[starts[shift[0]] + shift[1] + c * shift[2]]);
    for (let y = 0; y < h; y++) {
      const i = from + y * down, o = to + y * toDown;
      if (act) silu(i, o, room, B, w, n);
      else for (let q = 0; q < w; q++) for (let c = 0; c < n; c++) H[o + q * toRight + c] = H[i + q * right + c] * H[room + c] + H[B + c];
    }
  },

  matmul({ H, starts, room, gemm }, { a, b, out, size: [M, K, N] }) {
    const [A, lda] = place(starts, a), [B, down, right] = place(starts, b), [C] = place(starts, out), wide = fours(N);
    const product = room + K * wide;
    H.fill(0, room, product + M * wide);
    for (let k = 0; k < K; k++) for (let n = 0; n < N; n++) H[room + ((n >> 2) * K + k) * 4 + (n & 3)] = H[B + k * down + n * right];
    gemm(M, A, lda, room, product, wide, K, wide);
    for (let m = 0; m < M; m++) H.copyWithin(C + m * N, product + m * wide, product + m * wide + N);
  },

  softmax({ H, starts }, { out, size: [rows, n] }) {
    for (let r = 0, o = place(starts, out)[0]; r < rows; r++, o += n) {
      let most = -Infinity, sum = 0;
      for (let i = o; i < o + n; i++) most = Math.max(most, H[i]);
      for (let i = o; i < o + n; i++) sum += H[i] = Math.exp(H[i] - most);
      for (let i = o; i < o + n; i++) H[i] /= sum;
    }
  },

  embedding({ H, starts }, { index, out, size: [rows, n], weight, module }) {
    const k = H[place(starts, index)[0]], o = place(starts, out)[0];
    if (!(k >= 0 && k < rows && Number.isInteger(k))) throw new Error(
      `${module} must be asked for a whole number in 0..${rows - 1}, got ${k}`);
    H.copyWithin(o, weight + k * n, weight + k * n + n);
  },
};

const place = (starts, [buffer, offset, ...strides]) => [starts[buffer] + offset, ...strides];

function fillRows(H, to, rows, step, n, bias) {
  for (let r = 0; r < rows; r++, to += step) for (let c = 0; c < n; c++) H[to + c] = bias < 0 ? 0 : H[bias + c];
}

// The scale and shift of each channel, n and n numbers at `to`, that give its group mean 0 and variance 1.
function moments(H, from, down, right, h, w, n, groups, eps, to) {
  const sum = new Float64Array(n), square = new Float64Array(n), g = n / groups, count = g * h * w;
  for (let y = 0; y < h; y++) for (let q = 0; q < w; q++) for (let c = 0, i = from + y * down + q * right; c < n; c++) {
    const v = H[i + c]; sum[c] += v; square[c] += v * v;
  }
  const total = (sums, k) => sums.subarray(k, k + g).reduce((a, b) => a + b, 0);
  for (let k = 0; k < n; k += g) {
    const mean = total(sum, k) / count, by = 1 / Math.sqrt(total(square, k) / count - mean * mean + eps);
    H.fill(by, to + k, to + k + g); H.fill(-mean * by, to + n + k, to + n + k + g);
  }
}

const EACH = {
  copy: (H, n, o, so, a, sa) => { for (; n--; o += so, a += sa) H[o] = H[a]; },
  silu: (H, n, o, so, a, sa) => { for (; n--; o += so, a += sa) H[o] = H[a] / (1 + Math.exp(-H[a])); },
  sigmoid: (H, n, o, so, a, sa) => { for (; n--; o += so, a += sa) H[o] = 1 / (1 + Math.exp(-H[a])); },
  relu: (H, n, o, so, a, sa) => { for (; n--; o += so, a += sa) H[o] = Math.max(0, H[a]); },
  tanh: (H, n, o, so, a, sa) => { for (; n--; o += so, a += sa) H[o] = Math.tanh(H[a]); },
  sin: (H, n, o, so, a, sa) => { for (; n--; o += so, a += sa) H[o] = Math.sin(H[a]); },
  cos: (H, n, o, so, a, sa) => { for (; n--; o += so, a += sa) H[o] = Math.cos(H[a]); },
  add: (H, n, o, so, a, sa, b, sb) => { for (; n--; o += so, a += sa, b += sb) H[o] = H[a] + H[b]; },
  sub: (H, n, o, so, a, sa, b, sb) => { for (; n--; o += so, a += sa, b += sb) H[o] = H[a] - H[b]; },
  mul: (H, n, o, so, a, sa, b, sb) => { for (; n--; o += so, a += sa, b += sb) H[o] = H[a] * H[b]; },
  div: (H, n, o, so, a, sa, b, sb) => { for (; n--; o += so, a += sa, b += sb) H[o] = H[a] / H[b]; },
  addcmul: (H, n, o, so, a, sa, b, sb, c, sc) => { for (; n--; o += so, a += sa, b += sb, c += sc) H[o] = H[a] + H[b] * H[c]; },
};

// ---- the walk --------------------------------------------------------------------------------------

// From noise to data over the rows of ddpm_lite.page.walk_table: yields x after each row.
// x: Float32Array of one or more samples; y: what is asked for, with `none` where nothing is;
// scale: of the guidance, out_none + scale (out_y - out_none); z(k): the noise of row k;
// known, mask: where mask is 1, x is `known` at the noise of each step (a drawing that is completed);
// clip: the limit of x0. The network's inputs are x_t, t and, where it knows classes, y.
function* walk(network, table, { x, y, scale = 1, z, known, mask, none = 10, clip = 1 }) {
  x = Float32Array.from(x);
  let before = new Float32Array(x.length);
  for (const [k, { t, p, q, a, b, c, s, signal, noise }] of table.entries()) {
    const out = guided(network, x, t, y, scale, none), x0 = new Float32Array(x.length);
    const fresh = s || mask ? z(k) : null;
    for (let i = 0; i < x.length; i++) {
      x0[i] = Math.min(Math.max(p * x[i] + q * out[i], -clip), clip);
      x[i] = a * x[i] + b * x0[i] + c * before[i] + (s ? s * fresh[i] : 0);
    }
    if (mask) complete(x, known, mask, signal, noise, fresh);
    before = x0;
    yield x.slice();
  }
}

function guided(network, x, t, y, scale, none) {
  if (y == null || scale == null) return network.run(y == null ? { x_t: x, t } : { x_t: x, t, y });
  const s = +(scale.length ? scale[0] : scale);
  if (s === 0) return network.run({ x_t: x, t, y: none });
  const out = network.run({ x_t: x, t, y });
  if (s === 1) return out;
  const free = network.run({ x_t: x, t, y: none });
  return out.map((v, i) => free[i] + s * (v - free[i]));
}

function complete(x, known, mask, signal, noise, z) {
  for (let i = 0; i < x.length; i++) {
    const j = i % mask.length;
    if (mask[j]) x[i] = signal * known[i % known.length] + noise * z[i];
  }
}
