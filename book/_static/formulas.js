// Formulas: what is copied is their TeX, and what is too wide for the screen scrolls by keyboard too.

const inDollars = (math) => {
  const mark = math.getAttribute("display") === "block" ? "$$" : "$";
  return mark + math.dataset.tex + mark;
};

// The words of what is selected, with each formula as TeX; a part of a formula counts as all of it.
function selected(range) {
  const { startContainer: from, endContainer: to } = range, whole = range.cloneRange();
  const around = (node) => (node.nodeType === 1 ? node : node.parentElement)?.closest("math");
  if (around(from)) whole.setStartBefore(around(from));
  if (around(to)) whole.setEndAfter(around(to));
  const box = document.createElement("div");
  box.append(whole.cloneContents());
  const html = box.innerHTML;
  for (const math of box.querySelectorAll("math")) math.replaceWith(inDollars(math));
  box.style.cssText = "position:absolute;left:-999em;width:60em";
  document.body.append(box); // innerText breaks lines as they are laid out
  const text = box.innerText;
  box.remove();
  return { html, text };
}

document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (event.defaultPrevented || !selection.rangeCount || selection.isCollapsed) return;
  const range = selection.getRangeAt(0), { commonAncestorContainer: common } = range;
  const element = common.nodeType === 1 ? common : common.parentElement;
  if (!element?.closest("math") && !element?.querySelector("math")) return;
  const { html, text } = selected(range);
  event.clipboardData.setData("text/html", html);
  event.clipboardData.setData("text/plain", text);
  event.preventDefault();
});

const width = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const scrolls = target.scrollWidth > target.clientWidth + 1;
    const words = { tabindex: "0", role: "group", "aria-label": "A wide formula, which scrolls" };
    for (const [name, value] of Object.entries(words)) {
      if (scrolls) target.setAttribute(name, value);
      else target.removeAttribute(name);
    }
  }
});
for (const box of document.querySelectorAll(".formula")) width.observe(box);
