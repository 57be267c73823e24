"use strict";
(() => {
  // Hover values: the drawings' titles and the title attributes become tips.
  for (const t of document.querySelectorAll("svg title")) {
    t.parentNode.setAttribute("data-tip", t.textContent);
    t.remove();
  }
  for (const e of document.querySelectorAll("main [title]")) {
    e.setAttribute("data-tip", e.getAttribute("title"));
    e.removeAttribute("title");
  }
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  addEventListener("scroll", hide, { passive: true });
  document.addEventListener("pointerleave", hide);
  const show = (e) => {
    const of = e.target.closest && e.target.closest("[data-tip]");
    if (!of) return hide();
    tip.textContent = of.getAttribute("data-tip");
    tip.hidden = false;
    const w = tip.offsetWidth, h = tip.offsetHeight;
    const below = e.clientY + 18 + h < innerHeight;
    tip.style.left = Math.max(6, Math.min(e.clientX + 12, innerWidth - w - 8)) + "px";
    tip.style.top = (below ? e.clientY + 18 : Math.max(4, e.clientY - h - 10)) + "px";
  };
  addEventListener("pointermove", show);
  addEventListener("pointerdown", show);

  // Tables sort within their groups; what is not known goes last.
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((th, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...th.childNodes);
      th.append(button);
      button.addEventListener("click", () => {
        const number = th.classList.contains("n");
        const was = th.getAttribute("aria-sort");
        const up = was ? was !== "ascending" : !number;
        for (const other of heads) other.removeAttribute("aria-sort");
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.v;
        const compare = (a, b) => {
          if (!number) return (up ? 1 : -1) * value(a).localeCompare(value(b), "en", { numeric: true });
          const x = parseFloat(value(a)), y = parseFloat(value(b));
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return up ? x - y : y - x;
        };
        for (const body of table.tBodies) {
          const rows = [...body.rows].filter((r) => !r.classList.contains("group"));
          body.append(...rows.sort(compare));
        }
      });
    });
  }
})();
