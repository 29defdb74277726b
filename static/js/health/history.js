// The chart of a check: latency and share of failures over time, from the API.
(() => {
  "use strict";
  const chart = document.querySelector("[data-history]");
  if (!chart) return;
  const place = chart.querySelector(".hf-plot");
  const said = chart.querySelector(".hf-plot-said");
  let plot = null;

  const colour = (name, fallback) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim() || fallback;

  const milliseconds = (seconds) => (seconds === null ? null : 1000 * seconds);

  const columns = (points) => [
    points.map((point) => Date.parse(point.at) / 1000),
    points.map((point) => milliseconds(point.latency_mean)),
    points.map((point) => milliseconds(point.latency_max)),
    points.map((point) => (100 * point.failures) / point.runs),
  ];

  const options = () => {
    const text = getComputedStyle(chart).color;
    const axis = { stroke: text, grid: { stroke: "rgba(128, 128, 128, 0.2)" } };
    return {
      width: place.clientWidth,
      height: 260,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      scales: { "%": { range: [0, 100] } },
      axes: [
        { ...axis },
        { ...axis, label: chart.dataset.latency },
        { ...axis, scale: "%", side: 1, label: chart.dataset.failures, grid: { show: false } },
      ],
      series: [
        { label: `${chart.dataset.time} (UTC)` },
        { label: chart.dataset.latency, stroke: colour("--color-primary-600", "#0d9488"), width: 2 },
        { label: chart.dataset.longest, stroke: "#94a3b8", dash: [4, 4] },
        {
          label: chart.dataset.failures,
          scale: "%",
          stroke: "#dc2626",
          fill: "rgba(220, 38, 38, 0.15)",
        },
      ],
    };
  };

  const draw = async (hours) => {
    for (const button of chart.querySelectorAll("[data-hours]")) {
      button.setAttribute("aria-pressed", String(button.dataset.hours === String(hours)));
    }
    const answer = await fetch(`${chart.dataset.history}&hours=${hours}`, {
      headers: { Accept: "application/json" },
    });
    if (!answer.ok) {
      said.textContent = `HTTP ${answer.status}`;
      return;
    }
    const { points } = await answer.json();
    if (plot) plot.destroy();
    plot = new uPlot(options(), columns(points), place);
  };

  chart.addEventListener("click", (event) => {
    const button = event.target.closest("[data-hours]");
    if (button) draw(Number(button.dataset.hours));
  });
  addEventListener("resize", () => {
    if (plot) plot.setSize({ width: place.clientWidth, height: 260 });
  });
  draw(6);
})();
