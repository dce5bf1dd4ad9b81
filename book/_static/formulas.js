// What is copied of a formula is its TeX; what is too wide for its room scrolls by keyboard too.

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

// A formula that is a little too wide is set a little smaller, as in print. Where that is not enough
// the lines of an alignment are broken: before the relation, and before the reason beside it. What is
// still too wide scrolls.
const SMALLEST = 0.82;

function fit(box) {
  box.classList.remove("broken");
  box.style.removeProperty("--fit");
  const share = () => box.clientWidth / box.scrollWidth;
  if (share() < SMALLEST) box.classList.add("broken");
  if (share() < 1) box.style.setProperty("--fit", Math.max(SMALLEST, 0.99 * share()).toFixed(3));
}

function reach(box) { // by keyboard what scrolls
  const label = `A wide ${box.matches(".formula") ? "formula" : "box"}, which scrolls`;
  const words = { tabindex: "0", role: "group", "aria-label": label };
  const scrolls = box.scrollWidth > box.clientWidth + 1;
  for (const [name, value] of Object.entries(words)) {
    if (scrolls) box.setAttribute(name, value);
    else box.removeAttribute(name);
  }
}

// Asked of a box only when it is laid out: sections out of sight stay so.
const width = new ResizeObserver((entries) => requestAnimationFrame(() => {
  for (const { target } of entries) {
    if (target.matches(".formula")) fit(target);
    reach(target);
  }
}));
const BOXES = ".formula, pre, .cell_output > .output, .pst-scrollable-table-container";
for (const box of document.querySelectorAll(BOXES)) width.observe(box);
