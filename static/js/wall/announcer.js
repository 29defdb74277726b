// What changed between two frames, in words, for those who do not see the colours.

const WORDS = {
  open: "open", forced: "forced open", half_open: "half-open", closed: "closed", failing: "failing",
  idle: "without traffic", unreported: "not reported",
};
const LOUD = new Set(["open", "forced", "half_open", "failing"]);
const MOST = 3; // changes named one by one

const conditions = (frame) =>
  new Map(frame.services.flatMap((row) =>
    row.tiles.map((tile) => [`${tile.dependency} of ${row.slug}`, tile.condition])));
const switches = (frame) =>
  new Map(frame.switches.map((each) => [
    `${each.key || "override"}${each.service ? ` of ${each.service}` : ""}${each.on ? ` on ${each.on}` : ""}`,
    each,
  ]));

/** Sentences about what a listener must know; empty where nothing of that kind changed. */
export function changes(before, after) {
  const said = [];
  const old = conditions(before);
  for (const [name, condition] of conditions(after)) {
    const was = old.get(name);
    if (was !== condition && (LOUD.has(condition) || LOUD.has(was))) {
      said.push(`${name} is ${WORDS[condition]}`);
    }
  }
  const [had, has] = [switches(before), switches(after)];
  for (const [name, each] of has) if (!had.has(name)) said.push(`${name} engaged: ${each.reason}`);
  for (const name of had.keys()) if (!has.has(name)) said.push(`${name} ended`);
  if (said.length <= MOST) return said;
  return [...said.slice(0, MOST), `and ${said.length - MOST} more changes`];
}
