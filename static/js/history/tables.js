// The same as the charts, for screen readers and for whoever wants the numbers.

import { gettext } from "../words.js";
import { count, duration, share } from "../wall/figures.js";
import { percent } from "./figures.js";
import { when } from "./times.js";

function table(titles, rows) {
  const made = document.createElement("table");
  made.className = "hf-table hf-wide";
  const head = made.createTHead().insertRow();
  for (const title of titles) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = title;
    head.append(cell);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const value of row) line.insertCell().append(value);
  }
  return made;
}

export function stepTable(told) {
  const { points, requests } = told;
  const starts = points.calls.map(
    (_calls, step) => Date.parse(told.start) / 1000 + step * told.step_seconds,
  );
  const titles = [
    gettext("From"), gettext("Calls"), gettext("Failures"), gettext("Error rate (n)"),
    gettext("Availability (n)"), "P50", "P95", "P99", gettext("n of these"), gettext("Retries"),
  ];
  if (requests) titles.push(gettext("Requests"), "4xx", "5xx", "P95");
  const rows = starts.map((start, step) => {
    const at = (name) => points[name][step];
    const row = [
      when(start), whole(at("calls")), whole(at("failures")),
      withN(at("error_rate"), at("judged")), withN(at("availability"), at("wanted")),
      duration(at("p50")), duration(at("p95")), duration(at("p99")), whole(at("timed")),
      whole(at("retries")),
    ];
    if (requests) {
      const own = (name) => requests.points[name][step];
      row.push(whole(own("count")), whole(own("client_errors")), whole(own("server_errors")));
      row.push(duration(own("p95")));
    }
    return row;
  });
  return table(titles, rows.reverse());
}

const whole = (number) => (number === null ? "–" : count(number));
const withN = (part, of) => (of === null ? "–" : `${percent(part)} (${count(of)})`);

export function laneTable(lanes) {
  const words = { open: gettext("open"), half_open: gettext("half-open") };
  const rows = lanes.flatMap((lane) =>
    lane.intervals.map((each) => [
      `${lane.service} → ${lane.dependency}`, words[each.state], when(each.start), when(each.end),
      duration((Date.parse(each.end) - Date.parse(each.start)) / 1000), count(each.instances),
    ]),
  );
  const titles = [
    gettext("Breaker"), gettext("State"), gettext("From"), gettext("To"), gettext("For"),
    gettext("Instances at most"),
  ];
  return table(titles, rows);
}

export function eventTable(events) {
  const rows = events.map((event) => [
    when(event.at), event.kind.replaceAll("_", " "), linked(event), event.actor, event.reason ?? "",
    [event.service, event.dependency].filter(Boolean).join(" → "),
  ]);
  return table(
    [
      gettext("When"), gettext("Kind"), gettext("What"), gettext("Who"), gettext("Why"),
      gettext("Where"),
    ],
    rows,
  );
}

function linked(event) {
  if (!event.url) return event.text;
  const link = document.createElement("a");
  link.href = event.url;
  link.textContent = event.text;
  return link;
}

export function instanceTable(instances) {
  const names = [...new Set(instances.flatMap((each) => Object.keys(each.resources)))].sort();
  const rows = instances.map((each) => [
    each.name || each.id, each.is_live ? gettext("live") : gettext("silent or stopping"),
    when(each.heard_at), ...names.map((name) => share(each.resources[name])),
  ]);
  const titles = [gettext("Instance"), gettext("State"), gettext("Heard"), ...names.map(resource)];
  return table(titles, rows);
}

const RESOURCES = {
  cpu: gettext("CPU"),
  memory: gettext("Memory"),
  memory_host: gettext("Memory of the host"),
  disk_free: gettext("Disk free"),
};
const resource = (name) => RESOURCES[name] ?? name.replaceAll("_", " ");
