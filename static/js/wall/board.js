// A frame put into the page: what is switched, alerts, services, what happened last.

import { count } from "./figures.js";
import { pagesOf, point } from "./links.js";
import { updateLine, updateService } from "./services.js";
import { fill, mark, reconcile, setShape, setTime, show } from "./slots.js";

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

/** Puts a frame below `wall`, what was switched and what is worst first; with pauses. */
export function* updateBoard(wall, frame, templates) {
  const pages = pagesOf(wall, frame);
  const part = (name) => wall.querySelector(`[data-part="${name}"]`);
  yield* reconcile(part("switches"), frame.switches, {
    key: nameOf,
    keyOf: nameIn,
    template: templates.switch,
    update: (child, each) => updateSwitch(child, each, frame.server_time, pages),
  });
  yield* reconcile(part("alerts"), frame.alerts, {
    key: (alert) => String(alert.id),
    keyOf: (child) => child.dataset.alert,
    template: templates.alert,
    update: (child, alert) => updateAlert(child, alert, pages),
  });
  fill(wall, { more: count(frame.more_alerts) });
  show(wall, { firing: frame.alerts.length, more: frame.more_alerts });
  const services = { key: (row) => row.slug, keyOf: (child) => child.dataset.service };
  yield* reconcile(part("board"), frame.services.filter((row) => row.form === "card"), {
    ...services,
    template: templates.service,
    update: (child, row) => updateService(child, row, templates, pages),
  });
  yield* reconcile(part("lines"), frame.services.filter((row) => row.form === "line"), {
    ...services,
    template: templates.line,
    update: updateLine,
  });
  yield* reconcile(part("events"), frame.events, {
    key: (event) => `${event.at} ${event.kind} ${event.what}`,
    keyOf: ({ dataset }) => `${dataset.at} ${dataset.event} ${dataset.what}`,
    template: templates.event,
    update: updateEvent,
  });
  show(wall, { others: frame.density === "vast" });
  show(wall, { empty: !frame.services.length, late: frame.events.length });
}
