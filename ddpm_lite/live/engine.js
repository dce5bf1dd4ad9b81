// The page's one worker and the networks in it, which all figures share; each is fetched once.

function makeEngine() {
  const networks = new Map(), answers = new Map();
  let worker = null, count = 0;

  function begin(source) {
    if (typeof Worker === "undefined") throw new Error("this browser has no workers");
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => {
      const answer = answers.get(data.id);
      if (data.done || data.failed) answers.delete(data.id);
      answer?.(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      worker = null; // the next click begins anew
      networks.clear();
      for (const [id, answer] of answers) answer({ id, failed: event.message || "the worker ended" });
      answers.clear();
    };
  }

  function post(message, answer) {
    const id = ++count;
    answers.set(id, answer);
    worker.postMessage({ id, ...message });
    return id;
  }

  async function fetchOnce(name, fetched) {
    const { source, ...parts } = await fetched(name);
    if (!worker) begin(source);
    await new Promise((done, failed) => {
      post({ load: { name, ...parts } }, (answer) => (answer.failed ? failed(new Error(answer.failed)) : done()));
    });
  }

  return {
    knows: (name) => networks.has(name),
    load(name, fetched) {
      if (!networks.has(name)) {
        networks.set(name, fetchOnce(name, fetched));
        networks.get(name).catch(() => networks.delete(name));
      }
      return networks.get(name);
    },
    run(job, answer) { // returns how to stop it
      const id = post({ run: job }, answer);
      return () => { if (answers.delete(id)) worker?.postMessage({ stop: id }); };
    },
  };
}

// Each widget of JupyterLab has its own copy of this script: the engine is the window's.
const engine = () => (globalThis[Symbol.for("ddpm_lite.engine")] ??= makeEngine());
