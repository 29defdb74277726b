// A frame with what changed put in; see apps/live/rules/deltas.py. What did not change stays the
// same object, so that whoever draws can tell at a glance.

const NAMED_BY = { services: "slug", tiles: "dependency" };

function patchedList(before, { order, set }, key) {
  const had = new Map(before.map((each) => [each[key], each]));
  const names = order ?? before.map((each) => each[key]);
  // A service may be called "constructor": look at what the change itself holds.
  return names.map((name) => (Object.hasOwn(set, name)
    ? patched(had.get(name) ?? {}, set[name]) : had.get(name)));
}

/** What `change` makes of `before`, which stays as it is. */
export function patched(before, change) {
  const after = { ...before };
  for (const [name, value] of Object.entries(change)) {
    const key = NAMED_BY[name];
    after[name] = key ? patchedList(before[name] ?? [], value, key) : value;
  }
  return after;
}
