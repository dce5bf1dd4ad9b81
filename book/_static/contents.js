// Marks in the page's contents the section that is being read: the last whose heading has passed the
// upper third of the screen. Nothing is laid out for it: sections out of sight are reported as such.

const links = new Map([...document.querySelectorAll("#pst-page-toc-nav a.nav-link")]
  .map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
const inView = new Set();

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) inView.add(target.id);
    else inView.delete(target.id);
  }
  const current = [...links.keys()].filter((id) => inView.has(id)).pop();
  for (const [id, link] of links) {
    link.classList.toggle("active", id === current);
    if (id === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}, { rootMargin: "0px 0px -66% 0px" });
for (const id of links.keys()) {
  const section = document.getElementById(id);
  if (section) seen.observe(section);
}
