// One key each for what one does at a wall. Can be turned off, and never takes keys from a field.

const KEY = "holdfast-keys"; // of the choice, kept in this browser
const STOPS = ".alert, .tile, .line > a, .service h2 a"; // places one can go to
const TROUBLE = [
  '.alert[data-quiet="no"]',
  ...["open", "forced", "half_open", "failing"].flatMap((each) => [
    `.tile[data-condition="${each}"]`, `.line[data-condition="${each}"] > a`,
  ]),
].join(", ");

const isSeen = (element) => element.checkVisibility();
const middle = (element) => {
  const { left, top, width, height } = element.getBoundingClientRect();
  return { x: left + width / 2, y: top + height / 2 };
};

export class Keyboard {
  constructor(wall) {
    this.wall = wall;
    this.help = wall.querySelector('[data-part="help"]');
    this.choice = this.help.querySelector("input");
    this.choice.checked = localStorage.getItem(KEY) !== "off";
    this.choice.addEventListener("change", () => {
      localStorage.setItem(KEY, this.choice.checked ? "on" : "off");
    });
    wall.querySelector('[data-part="help-button"]').addEventListener("click", () => this.toggleHelp());
    this.help.querySelector("button").addEventListener("click", () => this.help.close());
    addEventListener("keydown", (event) => this.pressed(event));
    this.keys = {
      ArrowRight: () => this.step(1),
      ArrowLeft: () => this.step(-1),
      ArrowDown: () => this.cross(1),
      ArrowUp: () => this.cross(-1),
      n: () => this.trouble(1),
      N: () => this.trouble(-1),
      "/": () => wall.filter.field.focus(),
      "?": () => this.toggleHelp(),
      s: () => wall.sound.toggle(),
      p: () => wall.rotation.toggle(),
      t: () => wall.querySelector("theme-toggle button").click(),
    };
  }

  pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    if (event.key === "Escape") return this.escape(event);
    const isTyping = event.target.closest?.("input, select, textarea, dialog");
    if (event.key === "Enter" && event.target.matches?.(".tile, .alert")) return this.enter(event);
    const act = this.keys[event.key];
    if (!act || isTyping || (!this.choice.checked && !event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    act();
  }

  escape(event) {
    if (this.help.open) return;
    if (event.target === this.wall.filter.field) event.target.blur();
    if (this.wall.filter.words.length) this.wall.filter.clear();
    else if (this.wall.chosen.slug) this.wall.chosen.leave();
  }

  /** The page of what is focused: its history, else all of its service. */
  enter(event) {
    const page = event.target.querySelector("[data-page]:not([hidden])");
    const { service } = event.target.dataset;
    if (page) page.click();
    else if (service) this.wall.address.set("service", service);
  }

  toggleHelp() {
    if (this.help.open) this.help.close();
    else this.help.showModal();
  }

  stops(which = STOPS) {
    return [...this.wall.querySelectorAll(which)].filter(isSeen);
  }

  go(element) {
    if (!element) return;
    if (!element.matches("a")) element.tabIndex = 0;
    element.focus({ focusVisible: true, preventScroll: true });
    element.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  step(by) {
    const stops = this.stops();
    const at = stops.indexOf(document.activeElement);
    this.go(stops[at < 0 ? 0 : Math.min(Math.max(at + by, 0), stops.length - 1)]);
  }

  /** The nearest one in the row above or below. */
  cross(by) {
    const from = document.activeElement;
    const stops = this.stops();
    if (!stops.includes(from)) return this.go(stops[0]);
    const here = middle(from);
    const distance = (each) => {
      const there = middle(each);
      return Math.abs(there.y - here.y) * 3 + Math.abs(there.x - here.x);
    };
    const beyond = stops.filter((each) => (middle(each).y - here.y) * by > 8);
    this.go(beyond.sort((one, other) => distance(one) - distance(other))[0]);
  }

  trouble(by) {
    const places = this.stops(TROUBLE);
    if (!places.length) return;
    const at = places.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : -1) : at + by;
    this.go(places.at(next % places.length));
  }
}
