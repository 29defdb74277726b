// What the viewer chose, kept behind the # of the address: it can be linked, and Back undoes it.

export class Address extends EventTarget {
  constructor() {
    super();
    addEventListener("hashchange", () => this.dispatchEvent(new Event("change")));
  }

  get(name) {
    return new URLSearchParams(location.hash.slice(1)).get(name) ?? "";
  }

  /** With `replace`, Back leads past it: for what changes with every letter. */
  set(name, value, { replace = false } = {}) {
    const chosen = new URLSearchParams(location.hash.slice(1));
    if (value) chosen.set(name, value);
    else chosen.delete(name);
    const address = `${location.pathname}${location.search}${chosen.size ? `#${chosen}` : ""}`;
    history[replace ? "replaceState" : "pushState"](null, "", address);
    this.dispatchEvent(new Event("change"));
  }
}
