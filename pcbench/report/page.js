"use strict";
// What the page can do where scripts run: tables are sorted by any column, and all of them filtered by task at once. Without
// them it reads in full. Nothing is loaded, and nothing is kept.
(() => {
  const MISSING = "–";

  // A cell's place among others: numbers before words, and what is missing last.
  function rank(cell) {
    const shown = cell?.dataset.rank ?? cell?.textContent.trim() ?? ""; // a row may have one cell for several columns
    if (shown === "" || shown === MISSING) return null;
    const plain = shown.replaceAll("\u202f", "").replace("−", "-");
    const number = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?(?![\w.])/.exec(plain);
    return number ? Number(number[0]) : shown;
  }

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return sign * (typeof a === "string" ? 1 : -1);
    return sign * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  }

  // Ascending, descending, as it was; the rows of a group stay under its heading.
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  function sort(table, head, column) {
    const order = NEXT[head.ariaSort ?? "none"];
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    if (order !== "none") head.ariaSort = order;
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      rows.sort((a, b) => a.dataset.place - b.dataset.place);
      if (order !== "none") {
        const ranks = new Map(rows.map((row) => [row, rank(row.cells[column])]));
        rows.sort((a, b) => compare(ranks.get(a), ranks.get(b), order === "ascending" ? 1 : -1));
      }
      body.append(...rows);
    }
  }

  for (const table of document.querySelectorAll("table")) {
    for (const body of table.tBodies) [...body.rows].forEach((row, place) => (row.dataset.place = place));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "sort by this column";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head, column));
      head.append(button);
    });
  }

  // None pressed is all shown; what belongs to no task stays.
  const filter = document.getElementById("filter");
  const buttons = [...filter.querySelectorAll("button[data-task]")];
  const all = filter.querySelector("button:not([data-task])");

  function show(chosen) {
    for (const button of buttons) button.ariaPressed = String(chosen.has(button.dataset.task));
    all.ariaPressed = String(chosen.size === 0);
    for (const each of document.querySelectorAll("main [data-task]:not(button)"))
      each.hidden = chosen.size > 0 && !chosen.has(each.dataset.task);
    for (const body of document.querySelectorAll("main tbody"))
      body.hidden = [...body.rows].every((row) => row.hidden || row.classList.contains("group"));
    const names = [...chosen].join(", ");
    filter.querySelector("[role=status]").textContent = chosen.size === 0 ? "All tasks are shown." : `Shown: ${names}.`;
  }

  filter.addEventListener("click", ({ target }) => {
    if (target === all) show(new Set());
    if (!buttons.includes(target)) return;
    const pressed = (button) => (button.ariaPressed === "true") !== (button === target);
    show(new Set(buttons.filter(pressed).map((button) => button.dataset.task)));
  });
  filter.hidden = buttons.length < 2;

  // Paper cannot be clicked: whatever is folded in is printed too.
  const folded = [...document.querySelectorAll("details")];
  addEventListener("beforeprint", () => folded.forEach((each) => ((each.dataset.open = each.open), (each.open = true))));
  addEventListener("afterprint", () => folded.forEach((each) => (each.open = each.dataset.open === "true")));
})();
