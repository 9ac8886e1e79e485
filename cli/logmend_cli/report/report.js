"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 820px)");

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim();
    const line = style.getPropertyValue("--line").trim();
    const card = style.getPropertyValue("--card").trim();
    for (const [id, figure] of Object.entries(figures)) {
      const place = document.getElementById(id);
      if (!place) continue;
      const given = figure.layout;
      const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true, fixedrange: true };
      const layout = {
        ...given,
        template: undefined,
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: ink, size: 12, family: style.fontFamily || "system-ui, sans-serif" },
        margin: { l: 8, r: 8, t: 12, b: 8 },
        legend: { orientation: "h", y: -0.22, yanchor: "top", traceorder: "normal" },
        hoverlabel: { bgcolor: card, bordercolor: line, font: { color: ink } },
        xaxis: { ...axis, ...given.xaxis },
        yaxis: { ...axis, ...given.yaxis },
      };
      if (narrow.matches && id === "time") layout.height = (given.height || 330) + 70;
      Plotly.react(place, figure.data, layout, { displayModeBar: false, responsive: true });
    }
  }
  draw();
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);

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
