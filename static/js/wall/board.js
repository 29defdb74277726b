// What a frame says of services, their tiles, and what is switched, put into the page.

import { localTime } from "../leases.js";
import { count, duration, rate, share } from "./figures.js";
import { pagesOf, point } from "./links.js";
import { fill, mark, reconcile, show } from "./slots.js";
import { draw } from "./trend.js";

function setTime(root, name, instant) {
  const time = root.querySelector(`[data-field="${name}"]`);
  if (!time || !instant) return;
  if (time.dateTime !== instant) time.dateTime = instant;
  const text = localTime(instant);
  if (time.textContent !== text) time.textContent = text;
}

function setShape(root, name, shape) {
  const use = root.querySelector(`[data-field="${name}"]`);
  const address = `#shape-${shape}`;
  if (use.getAttribute("href") !== address) use.setAttribute("href", address);
}

function updateTile(element, tile, row, pages) {
  mark(element, {
    service: row.slug, dependency: tile.dependency, state: tile.state, condition: tile.condition,
  });
  setShape(element, "shape", tile.condition);
  fill(element, {
    dependency: tile.dependency,
    rate: rate(tile.calls_per_second),
    errors: share(tile.error_rate),
    samples: count(tile.samples),
    p95: duration(tile.p95),
    override: (tile.override || "").replace("_", " "),
    share: tile.partial,
  });
  show(element, { override: tile.override, share: tile.partial, since: tile.since });
  setTime(element, "since", tile.since);
  updateHealth(element, tile.health);
  const trend = element.querySelector('[data-part="trend"]');
  trend.toggleAttribute("hidden", !tile.trend);
  if (tile.trend) draw(trend, tile.trend);
  point(element, "override", pages.override(row, tile));
}

function updateHealth(element, health) {
  show(element, { health });
  if (!health) return;
  mark(element.querySelector('[data-part="health"]'), {
    health: health.status, stale: health.stale ? "yes" : "no",
  });
  setShape(element, "health-shape", health.status);
}

function updateService(element, row, templates, pages) {
  mark(element, {
    service: row.slug,
    applied: row.applied,
    total: row.total,
    behind: row.laggards.length ? "yes" : "no",
    running: row.total ? "yes" : "no",
  });
  element.setAttribute("aria-label", row.slug);
  const head = element.querySelector("header");
  updateHead(head, row);
  point(head, "read-only", pages.readOnly(row));
  reconcile(element.querySelector('[data-part="tiles"]'), row.tiles, {
    key: (tile) => tile.dependency,
    keyOf: (child) => child.dataset.dependency,
    template: templates.tile,
    update: (child, tile) => updateTile(child, tile, row, pages),
  });
}

function updateHead(head, row) {
  const own = row.requests;
  fill(head, {
    slug: row.slug,
    applied: count(row.applied),
    total: count(row.total),
    target: count(row.target),
    laggards: row.laggards.join(", "),
    behind: duration(row.behind),
    delay: duration(row.delay),
    measured: count(row.measured),
    refused: row.refused.join("; "),
    "silent-count": count(row.silent.length),
    silent: row.silent.join(", "),
    stopping: count(row.stopping),
    letters: count(row.letters),
    "traffic-rate": own ? rate(own.per_second) : "",
    "traffic-errors": own ? share(own.error_rate) : "",
    "traffic-p95": own ? duration(own.p95) : "",
  });
  show(head, {
    laggards: row.laggards.length,
    delay: row.measured,
    refused: row.refused.length,
    silent: row.silent.length,
    stopping: row.stopping,
    letters: row.letters,
    traffic: own,
  });
  const [applied, silent] = head.querySelectorAll("summary");
  applied.title = row.laggards.join(", ");
  silent.title = row.silent.join(", ");
  const progress = head.querySelector("progress");
  progress.max = row.total || 1;
  progress.value = row.applied;
}

function updateSwitch(element, each, serverTime, pages) {
  mark(element, {
    flag: each.type === "flag" ? each.key : "",
    override: each.type === "override" ? each.dependency : "",
    service: each.service,
    mode: each.mode,
  });
  fill(element, {
    label: each.label,
    service: each.service,
    on: each.on,
    percentage: each.percentage,
    reason: each.reason,
    who: each.who,
  });
  show(element, {
    on: each.on, percentage: each.partly, countdown: each.ends, "open-ended": !each.ends,
  });
  setTime(element, "since", each.since);
  for (const change of ["extend", "end"]) point(element, change, pages.of(each, change));
  if (each.ends) {
    mark(element.querySelector("hf-countdown"), { ends: each.ends, now: serverTime });
  }
}

function updateAlert(element, alert, pages) {
  mark(element, {
    alert: alert.id,
    severity: alert.severity,
    quiet: alert.acknowledged_by || alert.silenced ? "yes" : "no",
  });
  fill(element, {
    rule: alert.rule,
    subject: alert.subject,
    value: alert.value,
    acknowledged: alert.acknowledged_by,
  });
  show(element, {
    value: !alert.no_data,
    "no-data": alert.no_data,
    acknowledged: alert.acknowledged_by,
    silenced: alert.silenced,
  });
  setTime(element, "since", alert.since);
  point(element, "acknowledge", pages.acknowledge(alert));
}

function updateEvent(element, event) {
  mark(element, { event: event.kind, at: event.at, what: event.what });
  setShape(element, "shape", event.kind);
  fill(element, {
    what: event.what, times: count(event.times), who: event.who, reason: event.reason,
  });
  show(element, { times: event.times > 1, reason: event.reason });
  setTime(element, "at", event.at);
}

const nameOf = (each) => `${each.type} ${each.service} ${each.dependency} ${each.key}`;

function nameIn(child) {
  const { flag, override, service } = child.dataset;
  return flag ? `flag ${service}  ${flag}` : `override ${service} ${override} `;
}

/** Puts the services and switches of a frame below `wall`. */
export function updateBoard(wall, frame, templates) {
  const pages = pagesOf(wall, frame);
  reconcile(wall.querySelector('[data-part="board"]'), frame.services, {
    key: (row) => row.slug,
    keyOf: (child) => child.dataset.service,
    template: templates.service,
    update: (child, row) => updateService(child, row, templates, pages),
  });
  reconcile(wall.querySelector('[data-part="switches"]'), frame.switches, {
    key: nameOf,
    keyOf: nameIn,
    template: templates.switch,
    update: (child, each) => updateSwitch(child, each, frame.server_time, pages),
  });
  reconcile(wall.querySelector('[data-part="alerts"]'), frame.alerts, {
    key: (alert) => String(alert.id),
    keyOf: (child) => child.dataset.alert,
    template: templates.alert,
    update: (child, alert) => updateAlert(child, alert, pages),
  });
  reconcile(wall.querySelector('[data-part="events"]'), frame.events, {
    key: (event) => `${event.at} ${event.kind} ${event.what}`,
    keyOf: ({ dataset }) => `${dataset.at} ${dataset.event} ${dataset.what}`,
    template: templates.event,
    update: updateEvent,
  });
  fill(wall, { more: count(frame.more_alerts) });
  show(wall, { firing: frame.alerts.length, more: frame.more_alerts });
  show(wall, { empty: !frame.services.length, late: frame.events.length });
}
