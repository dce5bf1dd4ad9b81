// Draws a live figure in both of its homes: Jupyter (anywidget) and the static page.
// It decodes stored numbers, picks a frame, and draws. The one formula it knows is the normal
// density; everything else was computed in Python.

const NS = "http://www.w3.org/2000/svg";
const DASHES = ["", "8 4", "2 3.5", "10 3.5 2 3.5"];
const ICONS = { play: "M7 4v16l13-8z", pause: "M6 4h4v16H6zM14 4h4v16h-4z" };

function add(parent, tag, attributes = {}, text) {
  const svg = parent.namespaceURI === NS || tag === "svg";
  const e = svg ? document.createElementNS(NS, tag) : document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return set(e, attributes);
}

function set(e, attributes) {
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  return e;
}

function place(e, x, y, w, h, W, H) { // in per cent, so that the figure may be scaled (in print)
  const share = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(e.style, { left: share(x, W), top: share(y, H), width: share(w, W), height: share(h, H) });
}

const minus = (number) => String(number).replaceAll("-", "−");

// Text with subscripts: "q(x_t | x_{t−1})". As in the labels of Python, "_" before one letter or {...}.
function write(parent, text) {
  const svg = parent.namespaceURI === NS;
  text.split(/_(\{[^}]*\}|[0-9A-Za-zα-ω](?![0-9A-Za-z]))/).forEach((part, i, all) => {
    if (!part) return;
    const low = i % 2, word = low ? part.replace(/[{}]/g, "") : part;
    if (svg) add(parent, "tspan", low ? { class: "lf-sub", dy: 3 } : all[i - 1] ? { dy: -3 } : {}, word);
    else if (low) add(parent, "sub", {}, word);
    else parent.append(word);
  });
  return parent;
}

// ---- stored numbers --------------------------------------------------------------------------

function decode(field, sizes) {
  const bytes = Uint8Array.from(atob(field.data), (c) => c.charCodeAt(0));
  const codes = { 8: Uint8Array, 16: Uint16Array, 32: Float32Array, 64: Float64Array }[field.bits];
  return {
    ...field,
    codes: new codes(bytes.buffer),
    n: field.shape.reduce((a, b) => a * b, 1),
    sizes: field.axes.map((a) => sizes[a]),
    top: 2 ** field.bits - 2,
  };
}

// The numbers of one field at `pos`; a fraction `part` on the way to `next` while playing.
function numbers(field, pos, next, part) {
  const { codes, n, lo, hi, top, bits } = field;
  const offset = (p) => n * field.axes.reduce((o, a, i) => o * field.sizes[i] + p[a], 0);
  const value = (c) => (bits >= 32 ? c : c > top ? NaN : lo + (c * (hi - lo)) / top);
  const a = offset(pos), b = part ? offset(next) : a, out = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    out[i] = value(codes[a + i]);
    if (b !== a) out[i] += part * (value(codes[b + i]) - out[i]);
  }
  return out;
}

// A function from a mark and a position (or the way to the next one) to its numbers by field.
function decoded(spec) {
  const sizes = spec.controls.map((c) => c.values.length);
  const each = (fields, f) => Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, f(v)]));
  const marks = spec.panels.flatMap((p) => p.marks);
  const stored = new Map(marks.map((m) => [m, each(m.fields, (packed) => decode(packed, sizes))]));
  return (mark, ...where) => each(stored.get(mark), (field) => numbers(field, ...where));
}

// ---- from numbers to SVG paths; s has the scales X, Y and the panel's limits ------------------

function mixture(v, s) {
  const [x0, x1] = s.xlim, stds = v.stds.map((d) => Math.max(d, 1e-4 * (x1 - x0)));
  let xs = Array.from({ length: 241 }, (_, i) => x0 + ((x1 - x0) * i) / 240);
  v.means.forEach((m, k) => { for (let i = -16; i <= 16; i++) xs.push(m + (stds[k] * i) / 4); });
  xs = xs.filter((x) => x >= x0 && x <= x1).sort((a, b) => a - b);
  const ys = xs.map((x) => v.weights.reduce((sum, w, k) => {
    const z = (x - v.means[k]) / stds[k];
    return sum + (w * Math.exp(-0.5 * z * z)) / (stds[k] * Math.sqrt(2 * Math.PI));
  }, 0));
  return [xs, ys];
}

function line(xs, ys, s, from = 0) {
  let d = "", pen = "M";
  for (let i = 0; i < xs.length; i++) {
    const x = xs[i], y = ys[from + i];
    if (Number.isNaN(x + y)) { pen = "M"; continue; }
    d += `${pen}${s.X(x)} ${s.Y(y)}`;
    pen = "L";
  }
  return d;
}

function area(xs, ys, s) { // down to y = 0, piece by piece where NaN breaks the line
  return line(xs, ys, s).split("M").filter(Boolean).map((piece) => {
    const first = piece.split(" ")[0], last = piece.slice(piece.lastIndexOf("L") + 1).split(" ")[0];
    return `M${first} ${s.Y(0)}L${piece}L${last} ${s.Y(0)}Z`;
  }).join("");
}

function arrow(x, y, dx, dy, s) {
  const ax = +s.X(x), ay = +s.Y(y), bx = +s.X(x + dx), by = +s.Y(y + dy);
  const length = Math.hypot(bx - ax, by - ay), head = Math.min(6, 0.45 * length);
  if (!(length > 0.5)) return "";
  const ux = ((bx - ax) / length) * head, uy = ((by - ay) / length) * head;
  const barb = (k) => `${(bx - ux + k * uy).toFixed(1)} ${(by - uy - k * ux).toFixed(1)}`;
  return `M${ax} ${ay}L${bx} ${by}M${barb(0.55)}L${bx} ${by}L${barb(-0.55)}`;
}

const PATHS = { // mark kind -> { line: d, area: d }
  curve(mark, v, s) {
    const n = v.x.length, lines = [];
    for (let k = 0; k < v.y.length; k += n) lines.push(line(v.x, v.y, s, k));
    return { line: lines.join(""), area: mark.fill ? area(v.x, v.y, s) : "" };
  },
  gaussians(mark, v, s) {
    const [xs, ys] = mixture(v, s);
    return { line: line(xs, ys, s), area: mark.fill ? area(xs, ys, s) : "" };
  },
  histogram(mark, v, s) {
    let d = "", down = ""; // NaN leaves a gap
    v.heights.forEach((h, i) => {
      const bar = Number.isNaN(h) ? "" : `V${s.Y(h)}H${s.X(v.edges[i + 1])}`;
      if (bar && !down) d += `M${s.X(v.edges[i])} ${s.Y(0)}`;
      d += bar || down;
      down = bar && `V${s.Y(0)}`;
    });
    return { line: d + down, area: d + down };
  },
  points(mark, v, s) {
    let d = "";
    v.x.forEach((x, i) => { if (!Number.isNaN(x + v.y[i])) d += `M${s.X(x)} ${s.Y(v.y[i])}h0`; });
    return { line: d };
  },
  arrows: (mark, v, s) => ({
    line: [...v.x].map((x, i) => arrow(x, v.y[i], v.dx[i], v.dy[i], s)).join(""),
  }),
  rule: (mark, v, s) => ({
    line: [...v.at].filter((at) => !Number.isNaN(at))
      .map((at) => (mark.vertical ? `M${s.X(at)} 0V${s.h}` : `M0 ${s.Y(at)}H${s.w}`)).join(""),
  }),
};

// ---- pixels ----------------------------------------------------------------------------------

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function colours(root, name) { // 255 colours between the stops that the stylesheet names
  const stops = getComputedStyle(root).getPropertyValue(`--lf-${name}`).trim().split(",").map(rgb);
  return Array.from({ length: 255 }, (_, c) => {
    const at = (c / 254) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
    return stops[i].map((a, k) => Math.round(a + (at - i) * (stops[i + 1][k] - a)));
  });
}

function paint(canvas, width, height, colour) { // colour(x, y) -> [r, g, b], or null for none
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0; x < width; x++, o += 4) {
      const c = colour(x, y);
      if (c) image.data.set([c[0], c[1], c[2], 255], o);
    }
  }
  context.putImageData(image, 0, 0);
}

function paintImages(mark, v, canvas) {
  const [rows, columns, h, w] = mark.fields.pixels.shape, gap = mark.gap;
  paint(canvas, columns * (w + gap) - gap, rows * (h + gap) - gap, (x, y) => {
    const i = x % (w + gap), j = y % (h + gap), c = (x - i) / (w + gap), r = (y - j) / (h + gap);
    const value = i < w && j < h ? v.pixels[((r * columns + c) * h + j) * w + i] : NaN;
    if (Number.isNaN(value)) return null;
    const grey = Math.round((255 * (value - mark.vmin)) / (mark.vmax - mark.vmin));
    return [grey, grey, grey];
  });
}

function paintHeatmap(mark, v, canvas, s, table) {
  const [ny, nx] = mark.fields.z.shape;
  paint(canvas, nx, ny, (x, y) => { // the first row of z is the lowest y, at the bottom
    const part = (v.z[(ny - 1 - y) * nx + x] - mark.vmin) / (mark.vmax - mark.vmin);
    return table[Math.round(254 * part)] ?? null;
  });
  const dx = (v.x[1] - v.x[0]) / 2, dy = (v.y[1] - v.y[0]) / 2;
  const left = s.X(v.x[0] - dx), right = s.X(v.x[nx - 1] + dx);
  const top = s.Y(v.y[ny - 1] + dy), bottom = s.Y(v.y[0] - dy);
  place(canvas, left, top, right - left, bottom - top, s.w, s.h);
}

// ---- panels ----------------------------------------------------------------------------------

function makePanel(root, parent, panel, title) {
  const flex = `flex:${panel.width} 1 ${150 + 110 * panel.width}px`;
  const box = add(parent, "div", { class: "lf-panel", style: flex });
  if (panel.title) write(add(box, "div", { class: "lf-panel-title" }), panel.title);
  const marks = panel.marks.filter((m) => m.kind !== "readout");
  const name = `${title}: ${panel.title || panel.ylabel || panel.name}`;
  legend(box, marks);
  return marks.some((m) => m.kind === "images")
    ? imagePanel(box, panel, marks[0], name)
    : plotPanel(root, box, panel, marks, name);
}

function legend(box, marks) {
  const labelled = marks.filter((m) => m.label);
  if (!labelled.length) return;
  const keys = add(box, "div", { class: "lf-legend" });
  for (const m of labelled) {
    const key = add(keys, "span", { class: `lf-key lf-${m.role ?? "map"}` });
    if (m.kind === "heatmap") {
      write(key, `${m.label}  ${minus(m.vmin)} `);
      add(key, "i", { class: `lf-bar ${m.diverging ? "lf-diverging" : "lf-sequential"}` });
      key.append(` ${minus(m.vmax)}`);
      continue;
    }
    const svg = add(key, "svg", { width: 26, height: 10, "aria-hidden": "true" });
    if (filled(m)) add(svg, "path", { class: "lf-area", d: "M1 1H25V10H1Z" });
    const sample = { points: "M8 5h0M18 5h0", arrows: "M1 5H24M19 2L24 5L19 8" }[m.kind] ?? "M1 5H25";
    stroke(add(svg, "path", { d: filled(m) ? "M1 1H25" : sample }), m);
    write(add(key, "span"), m.label);
  }
}

const filled = (mark) => mark.fill || mark.kind === "histogram";

function stroke(path, mark) {
  const width = mark.kind === "points" ? 2 * mark.size : mark.width ?? 1.5;
  set(path, { class: `lf-line lf-${mark.kind}`, "stroke-width": width });
  return DASHES[mark.dash] ? set(path, { "stroke-dasharray": DASHES[mark.dash] }) : path;
}

function imagePanel(box, panel, mark, name) {
  const [rows, columns, h, w] = mark.fields.pixels.shape;
  const ratio = (columns * (w + mark.gap)) / (rows * (h + mark.gap));
  const sheet = add(box, "div", { class: "lf-sheet", style: `max-width:${Math.round(panel.height * ratio)}px` });
  const texts = (list, cls) => {
    const strip = list && add(sheet, "div", { class: cls, "aria-hidden": "true" });
    (list ?? []).forEach((text) => write(add(strip, "span"), text));
  };
  texts(mark.rows, "lf-rows");
  const canvas = add(sheet, "canvas", { role: "img", "aria-label": name, "data-mark": "0" });
  texts(mark.captions, "lf-captions");
  return { draw: (value) => paintImages(mark, value(mark), canvas), layout() {} };
}

const widest = (ticks) => Math.max(1, ...ticks.map(([, text]) => text.length));

// Where a number is on the plot, in pixels. What is far outside stays where a browser can draw it.
function scales(panel) {
  const [x0, x1] = panel.xlim, [y0, y1] = panel.ylim;
  const at = (pixels) => Math.min(Math.max(pixels, -1e5), 1e5).toFixed(2);
  return {
    xlim: panel.xlim,
    X(x) { return at(((x - x0) / (x1 - x0)) * this.w); },
    Y(y) { return at((1 - (y - y0) / (y1 - y0)) * this.h); },
  };
}

function plotPanel(root, box, panel, marks, name) {
  const plot = add(box, "div", { class: "lf-plot" }), s = scales(panel);
  const under = add(plot, "div", { class: "lf-under" });
  const mapped = marks.some((m) => m.kind === "heatmap") ? " lf-mapped" : "";
  const svg = add(plot, "svg", { class: "lf-svg" + mapped, role: "img", "aria-label": name });
  const axes = add(svg, "g", { class: "lf-axes" });
  const inner = add(svg, "svg", { class: "lf-inner" });
  const drawn = marks.map((mark, i) => {
    if (mark.kind === "heatmap") return { mark, canvas: add(under, "canvas", { "data-mark": i }) };
    const g = add(inner, "g", { class: `lf-${mark.role}`, "data-mark": i, "data-kind": mark.kind });
    const area = filled(mark) ? add(g, "path", { class: "lf-area" }) : null;
    return { mark, area, path: stroke(add(g, "path"), mark) };
  });

  function draw(value) {
    for (const { mark, canvas, area, path } of drawn) {
      const v = value(mark);
      if (canvas) {
        paintHeatmap(mark, v, canvas, s, colours(root, mark.diverging ? "diverging" : "sequential"));
        continue;
      }
      const d = PATHS[mark.kind](mark, v, s);
      set(path, { d: d.line });
      if (area) set(area, { d: d.area });
    }
  }

  function layout() { // margins and size for the width there is, in pixels
    const left = 12 + 7 * widest(panel.yticks), right = 14;
    const top = panel.ylabel ? 30 : 10, bottom = panel.xlabel ? 42 : 24;
    fit(s, panel, box.clientWidth - left - right, top + bottom);
    const height = s.h + top + bottom, W = s.w + left + right;
    set(svg, { viewBox: `0 0 ${W} ${height}` });
    set(inner, { x: left, y: top, width: s.w, height: s.h });
    place(under, left, top, s.w, s.h, W, height);
    plot.style.maxWidth = panel.equal ? `${W}px` : "";
    drawAxes(axes, panel, s, left, top, height);
  }
  return { draw, layout, plot, svg, inner, s };
}

function fit(s, panel, width, margins) { // the size of the plot within its axes
  const [x0, x1] = panel.xlim, [y0, y1] = panel.ylim;
  s.w = Math.max(60, width);
  s.h = panel.equal ? (s.w * (y1 - y0)) / (x1 - x0) : panel.height - margins;
  if (panel.equal && s.h > panel.height) {
    s.w *= panel.height / s.h;
    s.h = panel.height;
  }
}

function drawAxes(axes, panel, s, left, top, height) {
  axes.replaceChildren();
  const room = Math.max(1, Math.floor(s.w / (16 + 8 * widest(panel.xticks))));
  const every = Math.ceil(panel.xticks.length / room); // label every tick, or each second, ...
  panel.yticks.forEach(([v, text]) => {
    const y = top + +s.Y(v);
    add(axes, "path", { class: "lf-grid", d: `M${left} ${y}h${s.w}` });
    add(axes, "text", { x: left - 7, y: y + 4, "text-anchor": "end" }, text);
  });
  panel.xticks.forEach(([v, text], i) => {
    if (i % every) return;
    const x = left + +s.X(v);
    add(axes, "path", { class: "lf-tick", d: `M${x} ${top + s.h}v4` });
    add(axes, "text", { x, y: top + s.h + 18, "text-anchor": "middle" }, text);
  });
  add(axes, "path", { class: "lf-base", d: `M${left} ${top + s.h}h${s.w}` });
  const middle = { class: "lf-name", x: left + s.w / 2, y: height - 7, "text-anchor": "middle" };
  write(add(axes, "text", middle), panel.xlabel);
  write(add(axes, "text", { class: "lf-name", x: 2, y: 13 }), panel.ylabel);
}

// ---- readouts and controls -------------------------------------------------------------------

function readable(v, digits) {
  const small = v !== 0 && Math.abs(v) < 0.5 * 10 ** -digits, large = Math.abs(v) >= 1e6;
  return minus(small || large ? v.toExponential(1) : v.toFixed(digits));
}

function makeControl(parent, control, k, { move, toggle }) {
  const row = add(parent, "div", { class: `lf-control lf-${control.kind}` });
  const label = add(row, "label");
  write(add(label, "span", { class: "lf-label" }), control.label);
  const last = control.values.length - 1, slider = control.kind === "slider";
  const input = slider
    ? add(label, "input", { type: "range", min: 0, max: last, step: 1, "aria-label": control.label })
    : add(label, "select", { "aria-label": control.label });
  if (!slider) control.values.forEach((text, i) => add(input, "option", { value: i }, text));
  const output = slider ? add(label, "output", { "aria-live": "off" }) : null;
  const texts = control.values.map((value) => value + (control.unit ? ` ${control.unit}` : ""));
  // room for the longest text, so that the slider keeps its width while it is dragged
  if (slider) output.style.minWidth = `max(4.2em, calc(${Math.max(...texts.map((t) => t.length))}ch + 0.9rem))`;
  input.addEventListener("input", () => move(k, Number(input.value)));
  const button = control.play ? add(row, "button", { type: "button", class: "lf-play" }) : null;
  const icon = button && add(add(button, "svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }), "path");
  button?.addEventListener("click", () => toggle(k));
  if (button) row.prepend(button);
  return {
    show(p, playing) {
      const text = texts[p];
      input.value = p;
      if (slider) {
        output.textContent = text;
        set(input, { "aria-valuetext": `${control.label} ${text}` });
        input.style.setProperty("--fill", `${last ? (100 * p) / last : 0}%`);
      }
      if (button) {
        set(button, { "aria-label": `${playing ? "Pause" : "Play"} ${control.label}` });
        set(icon, { d: playing ? ICONS.pause : ICONS.play });
      }
    },
  };
}

// The motion of a playing slider: for each moment the position it has reached, the part of the way
// to the next one (null: stay on stored frames), and whether it has come to its end.
function motion(at, last, { play, seconds }) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches; // few, slow, plain steps
  const jump = calm ? Math.max(1, Math.round(last / 12)) : 1;
  const rate = calm ? jump / 700 : last / (1000 * seconds); // positions a millisecond
  let direction = 1, then = null;
  if (at === last && play === "bounce") direction = -1;
  else if (at === last) at = 0;
  return (now) => {
    at = Math.min(Math.max(at + direction * rate * (now - (then ?? now)), 0), last);
    then = now;
    const end = at === (direction > 0 ? last : 0), p = end ? at : Math.floor(at / jump) * jump;
    if (end) direction = -direction;
    return { p, part: calm || end ? null : at - p, over: end && play !== "bounce" };
  };
}

// Moves controls: by hand, or by itself from frame to frame, with fractions of the way between two.
function player(model, controls, draw, announce) {
  let active = -1, stop = null, tween = null;
  const moved = (k, p) => model.get("pos").map((q, i) => (i === k ? p : q));
  function put(k, p) {
    model.set("pos", moved(k, p));
    model.save_changes();
  }
  function move(k, p) {
    if (active === k) stop();
    if (model.get("pos")[k] !== p) put(k, p);
  }
  function toggle(k) {
    const mine = active === k;
    stop?.();
    if (!mine) start(k);
  }
  function start(k) {
    const reached = motion(model.get("pos")[k], controls[k].values.length - 1, controls[k]);
    let id = 0;
    active = k;
    stop = () => {
      cancelAnimationFrame(id);
      [active, stop, tween] = [-1, null, null];
      announce(false);
      draw();
    };
    const step = (now) => {
      const { p, part, over } = reached(now);
      tween = part === null ? null : { next: moved(k, p + 1), part };
      if (model.get("pos")[k] !== p) put(k, p);
      else if (tween) draw();
      if (over) stop?.();
      else if (stop) id = requestAnimationFrame(step);
    };
    announce(true);
    draw();
    id = requestAnimationFrame(step);
  }
  return { move, toggle, playing: (k) => active === k, between: () => tween, stop: () => stop?.() };
}

// ---- the figure ------------------------------------------------------------------------------

function makeReadouts(root, spec) {
  const marks = spec.panels.flatMap((p) => p.marks).filter((m) => m.kind === "readout");
  const words = marks.length ? add(root, "div", { class: "lf-readouts" }) : null;
  return marks.map((mark) => {
    const item = add(words, "span", { class: "lf-readout" });
    write(add(item, "span"), mark.label);
    return { mark, output: add(item, "output") };
  });
}

// Calls resized and redraw when the size or the theme of the page changes; returns how to end that.
function watch(boxes, resized, redraw) {
  const size = new ResizeObserver(resized), theme = new MutationObserver(redraw);
  for (const box of boxes) size.observe(box);
  theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  theme.observe(document.body, { attributeFilter: ["data-jp-theme-light", "class"] });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", redraw);
  return () => {
    system.removeEventListener("change", redraw);
    size.disconnect();
    theme.disconnect();
  };
}

function makeRoot(el, spec) {
  const root = add(el, "div", {
    class: "lf mathjax_ignore", role: "group", "aria-label": spec.title, "data-lm-suppress-shortcuts": "true",
  });
  root.addEventListener("keydown", (e) => e.stopPropagation()); // JupyterLab would eat the arrow keys
  write(add(root, "div", { class: "lf-title", "aria-hidden": "true" }), spec.title);
  add(root, "p", { class: "lf-alt" }, spec.alt);
  return root;
}

// drawn() is called after every layout that was drawn; failed(error) when the figure cannot be.
// more(figure) may add to it: it returns numbers(mark) (in place of the stored ones), show() and end().
function render({ model, el, drawn = () => {}, failed = (error) => { throw error; }, more = () => null }) {
  const spec = model.get("spec"), at = decoded(spec);
  const root = makeRoot(el, spec), row = add(root, "div", { class: "lf-panels" });
  const panels = spec.panels.map((p) => makePanel(root, row, p, spec.title));
  const readouts = makeReadouts(root, spec), strip = add(root, "div", { class: "lf-controls" });
  const run = player(model, spec.controls, () => redraw(), (playing) => {
    for (const { output } of readouts) set(output, { "aria-live": playing ? "off" : "polite" });
  });
  const controls = spec.controls.map((c, k) => makeControl(strip, c, k, run));
  const added = more({ model, spec, root, row, panels, strip, redraw: () => redraw() });

  function draw() {
    const pos = model.get("pos"), { next, part } = run.between() ?? {};
    const value = (mark) => ({ ...at(mark, pos, next, part), ...added?.numbers(mark) });
    controls.forEach((c, k) => c.show(pos[k], run.playing(k)));
    for (const p of panels) p.draw(value);
    added?.show();
    for (const { mark, output } of readouts) output.textContent = readable(value(mark).value[0], mark.digits);
  }

  let widths = "", ended = false;
  const guarded = (f) => () => {
    try { if (!ended) f(); } catch (error) { end(); failed(error); }
  };
  const redraw = guarded(() => widths && draw());
  const resized = guarded(() => {
    const now = [...row.children].map((panel) => panel.clientWidth).join();
    if (!root.clientWidth || now === widths) return; // hidden, or nothing new
    widths = now;
    for (const p of panels) p.layout();
    draw();
    drawn();
  });
  const unwatch = watch([root, ...row.children], resized, redraw);
  function end() {
    ended = true;
    run.stop();
    added?.end();
    model.off("change:pos", redraw);
    unwatch();
  }
  model.on("change:pos", redraw);
  resized();
  return end;
}
