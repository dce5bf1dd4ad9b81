// Controls that give a network what no list of values holds: a point that is dragged, a pad to draw on.
// Each is made with (figure, control, changed) and has give(job), which adds its inputs to a job,
// show(), which follows the layout, and enable(), after which it works.

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function drags(element, at) { // at(event, first) while a mouse, a pen or a finger is down
  let down = false;
  element.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    down = true;
    element.setPointerCapture(event.pointerId);
    at(event, true);
  });
  element.addEventListener("pointermove", (event) => down && at(event, false));
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, () => { if (down) at(null, down = false); });
  }
}

// ---- a point in a panel ------------------------------------------------------------------------

function makePoint({ spec, panels }, control, changed) {
  const k = spec.panels.findIndex((p) => p.name === control.panel), panel = spec.panels[k];
  const { plot, svg, inner, s } = panels[k], lims = [panel.xlim, panel.ylim];
  const handle = add(plot, "div", { class: "lf-handle", role: "slider", "aria-disabled": "true" });
  let place = [...control.start];

  function move(to) {
    place = to.map((v, i) => clamp(Math.round(v * 1e6) / 1e6, ...lims[i]));
    show();
    changed();
  }

  function show() {
    const [, , W, H] = svg.getAttribute("viewBox").split(" ").map(Number);
    const left = Number(inner.getAttribute("x")) + +s.X(place[0]), top = Number(inner.getAttribute("y")) + +s.Y(place[1]);
    Object.assign(handle.style, { left: `${(100 * left) / W}%`, top: `${(100 * top) / H}%` });
    const text = place.map((v, i) => `${[panel.xlabel, panel.ylabel][i]} ${minus(v.toFixed(2))}`).join(", ");
    set(handle, { "aria-label": control.label, "aria-valuenow": place[0], "aria-valuetext": text });
    set(handle, { "aria-valuemin": lims[0][0], "aria-valuemax": lims[0][1] });
  }

  function enable() {
    set(handle, { tabindex: 0, "aria-disabled": "false" });
    plot.classList.add("lf-plane");
    drags(plot, (event) => {
      if (!event) return;
      const box = svg.getBoundingClientRect(), scale = box.width / Number(svg.getAttribute("viewBox").split(" ")[2]);
      const x = (event.clientX - box.left) / scale - inner.getAttribute("x");
      const y = (event.clientY - box.top) / scale - inner.getAttribute("y");
      const share = [x / s.w, 1 - y / s.h];
      event.preventDefault();
      handle.focus({ preventScroll: true });
      move(share.map((v, i) => lims[i][0] + v * (lims[i][1] - lims[i][0])));
    });
    handle.addEventListener("keydown", (event) => {
      const way = ARROWS[event.key], far = control.step * (event.shiftKey ? 5 : 1);
      if (!way && event.key !== "Home") return;
      event.preventDefault();
      move(way ? place.map((v, i) => v + far * way[i]) : [...control.start]);
    });
  }
  return { give: (job) => { job.inputs[control.name] = Float32Array.from(place); }, show, enable, focus: handle };
}

// ---- a pad to draw on --------------------------------------------------------------------------

const BRUSH = 1.2; // radius of the ink, in pixels of the picture

function makePad({ root, row, redraw }, { size, label }, changed) {
  const box = set(add(row, "div"), { class: "lf-panel lf-pad" });
  row.prepend(box);
  write(add(box, "div", { class: "lf-panel-title" }), label);
  const canvas = add(box, "canvas", { role: "application", "aria-disabled": "true" });
  set(canvas, { "aria-label": `${label}. Arrow keys move, Space puts the pen down or lifts it, Delete clears.` });
  const wipe = add(box, "button", { type: "button", class: "lf-small", disabled: "" }, "Clear");
  const ink = new Float32Array(size * size), near = new Float32Array(size * size);
  let last = null, pen = [size / 2 + 0.5, size / 2 + 0.5], isDown = false, hasKeys = false;

  function dab(x, y) { // a soft round dot
    for (let i = 0; i < size * size; i++) {
      const away = Math.hypot((i % size) + 0.5 - x, Math.floor(i / size) + 0.5 - y);
      ink[i] = Math.max(ink[i], clamp(BRUSH + 0.5 - away, 0, 1));
      if (away < BRUSH + 1) near[i] = 1;
    }
  }

  function draw(to) { // a line from where the pen was
    const from = last ?? to, dots = Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])) || 1;
    for (let k = 1; k <= dots; k++) dab(...from.map((v, i) => v + ((to[i] - v) * k) / dots));
    last = to;
    show();
  }

  function clear() {
    ink.fill(0);
    near.fill(0);
    last = null;
    isDown = false;
    show();
    changed();
  }

  function show() {
    paint(canvas, size, size, (x, y) => {
      const here = hasKeys && Math.floor(pen[0]) === x && Math.floor(pen[1]) === y;
      return here ? rgb(getComputedStyle(root).getPropertyValue("--lf-model").trim()) : Array(3).fill(Math.round(255 * ink[y * size + x]));
    });
    canvas.dataset.pen = isDown ? "down" : "up";
  }

  function key(event) {
    const way = ARROWS[event.key];
    if (way) {
      pen = pen.map((v, i) => clamp(v + [1, -1][i] * way[i], 0.5, size - 0.5));
      if (isDown) draw(pen);
    } else if (event.key === " " || event.key === "Enter") {
      isDown = !isDown;
      last = null;
      if (isDown) draw(pen);
      else changed();
    } else if (event.key === "Delete" || event.key === "Backspace") clear();
    else return;
    hasKeys = true;
    event.preventDefault();
    show();
  }

  function enable() {
    set(canvas, { tabindex: 0, "aria-disabled": "false" });
    wipe.disabled = false;
    drags(canvas, (event, first) => {
      if (!event) { last = null; return changed(); }
      const at = canvas.getBoundingClientRect();
      event.preventDefault();
      hasKeys = false;
      if (first) last = null;
      draw([((event.clientX - at.left) / at.width) * size, ((event.clientY - at.top) / at.height) * size]);
    });
    canvas.addEventListener("keydown", key);
    canvas.addEventListener("blur", () => { hasKeys = false; show(); });
    wipe.addEventListener("click", clear);
  }
  const give = (job) => Object.assign(job, { known: ink.map((v) => 2 * v - 1), mask: Float32Array.from(near) });
  return { give, show, enable, focus: canvas };
}

const HANDS = { point: makePoint, pad: makePad };
