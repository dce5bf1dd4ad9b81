// What the first screen does without (menus, search, copy buttons) runs when the page is loaded and
// the browser has time: the scripts of type "later", in their order. Then the page is `settled`.

function settle() {
  const waiting = [...document.querySelectorAll('script[type="later"]')];
  const all = waiting.map((later) => new Promise((ran) => {
    const script = document.createElement("script");
    script.src = later.src;
    script.async = false;
    script.onload = script.onerror = ran;
    later.replaceWith(script);
  }));
  Promise.all(all).then(() => { document.documentElement.dataset.settled = ""; });
}

const whenIdle = window.requestIdleCallback ?? setTimeout; // Safari has no idle callback
addEventListener("load", () => whenIdle(settle));
