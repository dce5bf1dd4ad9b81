// The static page's host: anywidget's model (get, set, on, off, save_changes) over stored state.
function host(state) {
  const handlers = new Set();
  return {
    get: (key) => state[key],
    set(key, value) {
      state[key] = value;
      for (const handler of handlers) handler();
    },
    on: (_, handler) => handlers.add(handler),
    off: (_, handler) => handlers.delete(handler),
    save_changes() {},
    network: fetched,
  };
}

// A network's parts, from the classic scripts beside this one: file:// allows neither fetch nor modules.
const HERE = document.currentScript.src;
async function fetched(name) {
  await Promise.all(["", name].map((part) => globalThis.ddpmNetworks?.[part] ?? addScript(part)));
  return { ...globalThis.ddpmNetworks[""], ...globalThis.ddpmNetworks[name] };
}
function addScript(part) {
  const script = document.createElement("script"), file = `networks/${part || "runner"}.js`;
  return new Promise((done, failed) => {
    script.src = new URL(file, HERE);
    script.onload = () => (globalThis.ddpmNetworks?.[part] ? done() : failed(new Error(`${file} is damaged`)));
    script.onerror = () => failed(new Error(`${file} did not come`));
    document.head.append(script);
  }).finally(() => script.remove());
}
function wake(el) {
  const still = [...el.childNodes];
  const drawn = () => { for (const part of still) part.remove(); };
  const failed = (error) => { // this figure alone: its picture stays, and the next ones are drawn
    console.error("a live figure cannot be drawn, its picture stays:", error);
    el.replaceChildren(...still);
  };
  try {
    const state = JSON.parse(el.querySelector(".lf-state").textContent);
    renderNetwork({ model: host(state), el, drawn, failed });
  } catch (error) {
    failed(error);
  }
}
// A figure wakes when it comes within a screen's height of the screen.
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    wake(target);
  }
}, { rootMargin: "100% 0px" });
for (const el of document.querySelectorAll(".lf-static")) near.observe(el);
