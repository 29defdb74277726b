// Charts over one time axis with one cursor, and what happened drawn across all of them.

import { gettext } from "../words.js";
import { count, duration, rate } from "../wall/figures.js";
import { percent, percentExactly } from "./figures.js";
import { ticks, when } from "./times.js";

const LANE_REM = 2.6; // height of a breaker's lane: its name, and its line below
const COLOURS = { open: "--hf-bad", half_open: "--hf-doubt" };
const KINDS = {
  flag: "--hf-doubt", override: "--hf-doubt", alert: "--hf-bad", health: "--hf-bad",
  dead_letters: "--hf-bad", marker: "--hf-mark", revision: "--hf-mark",
};

/** Kinds of the timeline that are drawn across; breakers' moves are in the lanes. */
export const DRAWN = Object.keys(KINDS);

let shown = []; // charts on the page
let told = null; // what the API told
let lines = []; // instants to draw across

/** Let go of all charts and draw the next ones of this. */
export function startAnew(answer, events) {
  for (const plot of shown) plot.destroy();
  shown = [];
  told = answer;
  lines = events;
}

/** Where the timeline's entries are drawn, and in which colour. */
export const eventLines = (events) =>
  events.map((event) => ({ at: Date.parse(event.at) / 1000, colour: KINDS[event.kind] }));

export function sizeAll() {
  for (const plot of shown) plot.setSize(sizeOf(plot.root.parentElement, plot.heightRem));
}

export function callCharts(place) {
  const { points } = told;
  latency(place, points);
  const perSecond = (name) => points[name].map((number, step) => over(number, step));
  const rejected = points.calls.map((calls, step) =>
    calls === null ? null : over(sum(points, "rejected_", step), step),
  );
  chart(place, gettext("Throughput by outcome, per second"), rate, [
    series(gettext("succeeded"), perSecond("successes"), "--hf-good"),
    series(gettext("failed"), perSecond("failures"), "--hf-bad", [6, 3]),
    series(gettext("rejected"), rejected, "--hf-doubt", [2, 3]),
    series(gettext("retries"), perSecond("retries"), "--hf-mark", [10, 4]),
  ]);
  chart(place, gettext("Error rate"), percent, [
    series(gettext("failed, of those judged"), points.error_rate, "--hf-bad", [], points.judged),
  ]);
  availability(place, points, points.wanted);
}

export function requestCharts(place) {
  const { points } = told.requests;
  latency(place, points);
  chart(place, gettext("Requests per second"), rate, [
    series(gettext("all"), points.per_second, "--hf-good"),
    series("4xx", points.client_errors.map(over), "--hf-doubt", [2, 3]),
    series("5xx", points.server_errors.map(over), "--hf-bad", [6, 3]),
  ]);
  chart(place, gettext("Error rates"), percent, [
    series(gettext("4xx, the client's"), points.client_error_rate, "--hf-doubt", [2, 3], points.count),
    series(gettext("5xx, the server's"), points.server_error_rate, "--hf-bad", [], points.count),
  ]);
  availability(place, points, points.count);
}

/** When each breaker was open or half-open; names stand over their lines. */
export function laneChart(place, lanes) {
  const times = starts();
  const options = common(gettext("Breakers not closed"), () => "");
  options.axes[1] = { ...options.axes[1], splits: () => [], values: () => [], grid: { show: false } };
  options.scales.y = { range: [0, lanes.length] };
  options.series = [options.series[0], { label: "", show: true, points: { show: false } }];
  options.legend = { show: false };
  options.hooks.drawSeries = [(plot) => drawLanes(plot, lanes)];
  draw(place, options, [times, times.map(() => null)], 5 + LANE_REM * lanes.length);
}

function drawLanes(plot, lanes) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  const text = fontSize(plot.root) * ratio;
  const height = bbox.height / lanes.length;
  ctx.save();
  ctx.font = `${text * 0.8}px ${getComputedStyle(plot.root).fontFamily}`;
  ctx.textAlign = "left";
  ctx.textBaseline = "top";
  lanes.forEach((lane, number) => {
    const top = bbox.top + number * height;
    ctx.fillStyle = getComputedStyle(plot.root).color;
    ctx.fillText(`${lane.service} → ${lane.dependency}`, bbox.left + 4 * ratio, top + 2 * ratio);
    ctx.fillStyle = colour("--hf-calm");
    ctx.fillRect(bbox.left, top + height * 0.62, bbox.width, height * 0.08);
    for (const each of lane.intervals) {
      const [from, to] = [each.start, each.end].map((at) => position(plot, Date.parse(at) / 1000));
      ctx.fillStyle = colour(COLOURS[each.state]);
      const thick = each.state === "open" ? 0.3 : 0.16; // told apart without colours too
      ctx.fillRect(from, top + height * (0.66 - thick / 2), Math.max(ratio, to - from), height * thick);
    }
  });
  ctx.restore();
}

function latency(place, points) {
  chart(place, gettext("Latency"), duration, [
    series("P50", points.p50, "--hf-good", [], points.timed),
    series("P95", points.p95, "--hf-doubt", [6, 3], points.timed),
    series("P99", points.p99, "--hf-bad", [2, 3], points.timed),
  ]);
}

function availability(place, points, of) {
  chart(place, gettext("Availability"), percent, [
    series(gettext("made good"), points.availability, "--hf-good", [], of),
  ], { range: (_plot, least) => [Math.max(0, Math.min(0.98, least - 0.01)), 1] });
}

const series = (label, values, colourName, dash = [], of = null) => ({
  label, values, colourName, dash, of,
});

function chart(place, title, form, columns, scale = {}) {
  const options = common(title, form);
  options.scales.y = { range: (_plot, _least, most) => [0, most > 0 ? most * 1.1 : 1], ...scale };
  options.series.push(
    ...columns.map((column) => ({
      label: column.label,
      stroke: colour(column.colourName),
      width: 2,
      dash: column.dash,
      points: { show: true, size: 5, filter: alone },
      value: (_plot, value, _series, step) => legend(column, form, value, step),
    })),
  );
  draw(place, options, [starts(), ...columns.map((column) => column.values)], 15);
}

/** Steps between two without data: no line shows them. */
function alone(plot, number) {
  const values = plot.data[number];
  const isThere = (step) => values[step] !== null && values[step] !== undefined;
  return [...values.keys()].filter((step) => isThere(step) && !isThere(step - 1) && !isThere(step + 1));
}

/** "120 ms (n = 40)", "not enough data (n = 3)". */
function legend(column, form, value, step) {
  if (step === null || step === undefined) return "–";
  const of = column.of?.[step] ?? null;
  if (value === null) return of === null ? "–" : `${gettext("not enough data")} (n = ${count(of)})`;
  return of === null ? form(value) : `${form(value)} (n = ${count(of)})`;
}

function common(title, form) {
  const text = getComputedStyle(document.querySelector("hf-went"));
  const font = `${fontSize(document.querySelector("hf-went")) * 0.78}px ${text.fontFamily}`;
  const axis = { stroke: text.color, font, grid: { stroke: colour("--hf-calm"), width: 1 } };
  return {
    title,
    cursor: { sync: { key: "history" }, drag: { x: true, y: false, setScale: false } },
    scales: { x: { time: true, range: () => [Date.parse(told.start) / 1000, ending()] } },
    axes: [
      { ...axis, values: (_plot, splits, _axis, _space, increment) => ticks(splits, increment) },
      { ...axis, size: 5 * fontSize(document.body), values: (_plot, splits) => splits.map(form === percent ? percentExactly : form) },
    ],
    series: [{ label: gettext("From"), value: (_plot, seconds) => (seconds ? when(seconds) : "–") }],
    hooks: { draw: [drawEvents], setSelect: [zoom] },
  };
}

/** A stretch of a chart that was dragged over is shown by itself. */
function zoom(plot) {
  if (plot.select.width < 8) return;
  const [from, to] = [plot.select.left, plot.select.left + plot.select.width];
  const [since, until] = [from, to].map((left) => new Date(1000 * plot.posToVal(left, "x")));
  document.querySelector("hf-went").go(since, until);
}

function drawEvents(plot) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.lineWidth = devicePixelRatio;
  for (const line of lines) {
    const left = position(plot, line.at);
    ctx.strokeStyle = ctx.fillStyle = colour(line.colour);
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    ctx.beginPath();
    const half = 4 * devicePixelRatio;
    ctx.moveTo(left - half, bbox.top);
    ctx.lineTo(left + half, bbox.top);
    ctx.lineTo(left, bbox.top + 1.5 * half);
    ctx.fill();
  }
  ctx.restore();
}

function position(plot, seconds) {
  const { bbox } = plot;
  const left = plot.valToPos(seconds, "x", true);
  return Math.min(bbox.left + bbox.width, Math.max(bbox.left, left));
}

function draw(place, options, data, heightRem) {
  const frame = document.createElement("figure");
  frame.className = "hf-plot";
  frame.setAttribute("role", "img");
  frame.setAttribute("aria-label", `${options.title}. ${gettext("The table below tells the same.")}`);
  place.append(frame);
  const plot = new uPlot({ ...options, ...sizeOf(frame, heightRem) }, data, frame);
  plot.heightRem = heightRem;
  shown.push(plot);
}

const sizeOf = (place, heightRem) => ({
  width: Math.max(200, place.clientWidth),
  height: Math.round(heightRem * fontSize(place)),
});

const fontSize = (place) => parseFloat(getComputedStyle(place).fontSize);
const colour = (name) => getComputedStyle(document.querySelector("hf-went")).getPropertyValue(name).trim();
const starts = () =>
  told.points.calls.map((_calls, step) => Date.parse(told.start) / 1000 + step * told.step_seconds);
const ending = () => Date.parse(told.end) / 1000;

/** How much of a step is over: the newest is younger than it will be. */
function over(number, step) {
  if (number === null) return null;
  const start = Date.parse(told.start) / 1000 + step * told.step_seconds;
  return number / Math.max(1, Math.min(told.step_seconds, ending() - start));
}

function sum(points, prefix, step) {
  return Object.entries(points)
    .filter(([name]) => name.startsWith(prefix))
    .reduce((so_far, [_name, values]) => so_far + (values[step] ?? 0), 0);
}
