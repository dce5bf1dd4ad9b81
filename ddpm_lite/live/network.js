// What a network draws into one mark of a figure: the button that fetches it, progress and stop.
// The figure asks the engine for new numbers whenever what goes into the network has changed.

const seconds = (from) => `${((performance.now() - from) / 1000).toFixed(1)} s`;
const failure = (why) => `The network cannot draw here: ${why}. The picture that Python drew stays.`;

function makeBar(strip, press) {
  const bar = add(strip, "div", { class: "lf-net" });
  const button = add(bar, "button", { type: "button", class: "lf-go" });
  const progress = add(bar, "progress", { "aria-label": "Progress of the drawing" });
  const words = add(bar, "span", { class: "lf-says", role: "status" });
  button.addEventListener("click", press);
  return {
    button,
    face(label, part, text) { // part: of the drawing; null: nothing runs; undefined: nobody knows
      if (button.textContent !== label) button.textContent = label;
      button.hidden = !label;
      progress.hidden = part === null;
      if (part === undefined) progress.removeAttribute("value");
      else progress.value = part ?? 0;
      if (words.textContent !== text) words.textContent = text;
    },
  };
}

// Parts of a network from Python, for JupyterLab.
function askPython(model, name) {
  return new Promise((done, failed) => {
    const late = setTimeout(() => failed(new Error("Python does not answer: run the cell again")), 20_000);
    function hear(message, [weights, kernel]) {
      if (message.network !== name) return;
      clearTimeout(late);
      model.off("msg:custom", hear);
      done({ ...message, weights, kernel });
    }
    model.on("msg:custom", hear);
    model.send({ network: name });
  });
}

// From the stored numbers of the inputs to a job for the worker.
function makeJob(asked, sizes, pos) {
  const stored = (packed) => numbers(decode(packed, sizes), pos);
  const inputs = Object.fromEntries(Object.entries(asked.inputs).map(([name, packed]) => {
    const values = stored(packed);
    return [name, packed.shape.length ? Float32Array.from(values) : values[0]];
  }));
  if (!asked.table) return { network: asked.name, inputs, noise: {} };
  const values = stored(asked.table), [, width] = asked.table.shape, table = [];
  for (let k = 0; k < values.length && !Number.isNaN(values[k]); k += width) {
    table.push(Object.fromEntries(asked.columns.map((name, j) => [name, values[k + j]])));
  }
  return { network: asked.name, inputs, noise: {}, table };
}

function attachNetwork(figure) {
  const { model, spec, root, strip, redraw } = figure, asked = spec.network, walks = Boolean(asked.table);
  const sizes = spec.controls.map((c) => c.values.length), mark = spec.panels[asked.panel].marks[0];
  const axes = new Set([asked.table, ...Object.values(asked.inputs)].flatMap((packed) => packed?.axes ?? []));
  const button = asked.controls.find((c) => c.kind === "button");
  const hands = asked.controls.filter((c) => c !== button).map((c) => HANDS[c.kind](figure, c, ask));
  const locked = [...strip.querySelectorAll(".lf-control")].filter( // they would change nothing yet
    (_, k) => axes.has(k) && !mark.fields[asked.field].axes.includes(k));
  const bar = makeBar(strip, press), calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let state = "asleep", seed = button?.seed, seen = model.get("pos"), drawn = null, stop = null, isStale = false, isAwake = false;

  function become(next, text = "", part = 0) {
    state = root.dataset.network = next;
    const size = engine().knows(asked.name) ? "" : ` (${asked.megabytes.toFixed(1)} MB)`, rest = button?.label ?? "";
    const faces = { asleep: [`Draw in this page${size}`, null], loading: ["Stop", undefined], idle: [rest, null] };
    bar.face(...(faces[next] ?? (walks ? ["Stop", part] : [rest, null])), text);
  }

  function press() {
    if (state === "asleep") begin();
    else if (state === "loading") become("asleep");
    else if (state === "running" && walks) halt();
    else {
      seed += 1;
      ask();
    }
  }

  async function begin() {
    become("loading", "Loading the network …");
    try {
      await engine().load(asked.name, model.network ?? ((name) => askPython(model, name)));
    } catch (error) {
      return become("asleep", failure(error.message));
    }
    if (state !== "loading") return; // the reader has stopped it
    const focused = document.activeElement === bar.button;
    unlock();
    become("idle");
    ask();
    if (focused && bar.button.hidden) (hands[0]?.focus ?? strip.querySelector("input, select"))?.focus();
  }

  function unlock() { // once
    for (const control of locked.splice(0)) lock(control, false);
    for (const hand of hands) if (!isAwake) hand.enable();
    isAwake = true;
  }

  function halt() {
    stop();
    become("idle", "Stopped.");
  }

  function ask() {
    if (state === "asleep" || state === "loading") return;
    if (state === "running" && !walks) { isStale = true; return; } // one call at a time, the newest next
    if (state === "running") stop();
    const job = makeJob(asked, sizes, model.get("pos")), start = performance.now();
    if (button) job.noise[button.name] = { seed, count: button.count };
    for (const hand of hands) hand.give(job);
    become("running");
    stop = engine().run(job, ({ failed, done, step, of, x }) => {
      if (failed) return become("asleep", failure(failed));
      drawn = x;
      if (step) become("running", "", step / of);
      else become("idle", walks ? `${job.table.length} steps in ${seconds(start)}` : "");
      if (done || !calm) redraw();
      if (done && isStale) { isStale = false; ask(); }
    });
  }

  function moved() {
    const before = seen;
    seen = model.get("pos");
    if (seen.some((p, k) => axes.has(k) && p !== before[k])) ask();
  }

  for (const control of locked) lock(control, true);
  model.on("change:pos", moved);
  become("asleep");
  return {
    numbers: (m) => (m === mark && drawn ? { [asked.field]: drawn } : null),
    show() { for (const hand of hands) hand.show(); },
    end() {
      model.off("change:pos", moved);
      stop?.();
    },
  };
}

function lock(control, isLocked) {
  for (const part of control.querySelectorAll("input, select, button")) part.disabled = isLocked;
}

// A live figure, and what its network adds if it has one.
function renderNetwork(context) {
  return render({ ...context, more: context.model.get("spec").network ? attachNetwork : undefined });
}
