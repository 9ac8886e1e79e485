"use strict";
(() => {
  const rows = [...document.querySelectorAll("details.vm")];
  const search = document.getElementById("search");
  const chips = [...document.querySelectorAll("button.chip")];
  const shown = document.getElementById("shown");
  const none = document.getElementById("none");

  function sift() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = new Set(chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.value));
    let count = 0;
    for (const row of rows) {
      const fits = words.every((word) => row.dataset.text.includes(word)) && (!wanted.size || wanted.has(row.dataset.result));
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${rows.length}`;
    none.hidden = count > 0;
  }
  search.addEventListener("input", sift);
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
      sift();
    });
  }
  sift();
  document.documentElement.dataset.ready = "true";
})();
