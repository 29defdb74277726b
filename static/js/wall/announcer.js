// What changed between two frames, in words, for those who do not see the colours.

import { gettext, interpolate, ngettext } from "../words.js";

const LOUD = new Set(["open", "forced", "half_open", "failing"]);
const MOST = 3; // changes named one by one

const words = {
  open: () => gettext("%(name)s is open"),
  forced: () => gettext("%(name)s is forced open"),
  half_open: () => gettext("%(name)s is half-open"),
  closed: () => gettext("%(name)s is closed"),
  failing: () => gettext("%(name)s is failing"),
  idle: () => gettext("%(name)s is without traffic"),
  unreported: () => gettext("%(name)s is not reported"),
};

const conditions = (frame) =>
  new Map(frame.services.flatMap((row) =>
    row.tiles.map((tile) => [`${row.slug} → ${tile.dependency}`, tile.condition])));

function nameOf(each) {
  const what = each.key || gettext("override");
  return [what, ...[each.service, each.on].filter(Boolean)].join(" → ");
}

const switches = (frame) => new Map(frame.switches.map((each) => [nameOf(each), each]));

function switched(before, after) {
  const [had, has] = [switches(before), switches(after)];
  const said = [];
  for (const [name, each] of has) {
    if (!had.has(name)) {
      said.push(interpolate(gettext("%(name)s engaged: %(reason)s"), { name, reason: each.reason }));
    }
  }
  for (const name of had.keys()) {
    if (!has.has(name)) said.push(interpolate(gettext("%(name)s ended"), { name }));
  }
  return said;
}

function alerted(before, after) {
  const [had, has] = [before, after].map((frame) => new Map(frame.alerts.map((each) => [each.id, each])));
  const told = (name, format) => interpolate(format, { name });
  const nameOfAlert = (each) => `${each.rule}: ${each.subject}`;
  return [
    ...[...has.values()].filter((each) => !had.has(each.id))
      .map((each) => told(nameOfAlert(each), gettext("Alert %(name)s"))),
    ...[...had.values()].filter((each) => !has.has(each.id))
      .map((each) => told(nameOfAlert(each), gettext("No alert any more: %(name)s"))),
  ];
}

function moved(before, after) {
  const [old, now] = [conditions(before), conditions(after)];
  const said = [...now]
    .filter(([name, each]) => old.get(name) !== each && (LOUD.has(each) || LOUD.has(old.get(name))))
    .map(([name, each]) => interpolate(words[each](), { name }));
  // In a large fleet what is well again has no tile any more.
  const crowded = new Set(after.services.filter(isCrowded).map((row) => row.slug));
  const gone = [...old].filter(([name, each]) => LOUD.has(each) && !now.has(name));
  const well = gone.filter(([name]) => !crowded.has(name.split(" → ")[0]));
  return [...said, ...well.map(([name]) => interpolate(words.closed(), { name }))];
}

const isCrowded = (row) => row.folded.some((each) => LOUD.has(each.condition));

/** Alerts that are critical, and that nobody looks after yet, of those that are new. */
export function alarms(before, after) {
  const had = new Set(before.alerts.map((each) => each.id));
  return after.alerts.filter((each) => each.severity === "critical" && !had.has(each.id)
    && !each.acknowledged_by && !each.silenced);
}

/** Sentences about what a listener must know; empty where nothing of that kind changed. */
export function changes(before, after) {
  const said = [
    ...alerted(before, after), ...moved(before, after), ...switched(before, after),
  ];
  if (said.length <= MOST) return said;
  const more = said.length - MOST;
  const rest = ngettext("and %(more)s more change", "and %(more)s more changes", more);
  return [...said.slice(0, MOST), interpolate(rest, { more })];
}
