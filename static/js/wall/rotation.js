// A screen nobody touches: every `?rotate=` seconds another of `?views=`, then of `?environments=`.

import { mark, show } from "./slots.js";

const VIEWS = ["all", "services", "trouble", "alerts", "events"];
const LEAST_SECONDS = 5;
const TOUCHED_SECONDS = 60; // how long it keeps still for somebody who does something

const listed = (text) => (text ?? "").split(",").map((each) => each.trim()).filter(Boolean);

export class Rotation {
  constructor(wall) {
    this.wall = wall;
    this.asked = new URLSearchParams(location.search);
    const wanted = listed(this.asked.get("views")).filter((each) => VIEWS.includes(each));
    this.views = wanted.length ? wanted : ["all"];
    this.environments = listed(this.asked.get("environments"));
    this.at = 0;
    const seconds = Number(this.asked.get("rotate"));
    if (seconds > 0 && this.views.length + this.environments.length > 1) this.begin(seconds);
    this.show();
  }

  begin(seconds) {
    this.turns = setInterval(() => this.turn(), Math.max(LEAST_SECONDS, seconds) * 1000);
    for (const touch of ["pointerdown", "keydown", "wheel"]) {
      addEventListener(touch, () => this.rest(), { passive: true });
    }
  }

  rest() {
    this.stillUntil = performance.now() + TOUCHED_SECONDS * 1000;
  }

  toggle() {
    this.isPaused = !this.isPaused;
    this.stillUntil = 0;
    this.show();
  }

  /** To the alerts, at once, when one is critical. */
  interrupt() {
    const at = this.views.findIndex((each) => each === "alerts" || each === "all");
    if (!this.turns || at < 0) return;
    this.at = at;
    this.rest();
    this.show();
  }

  turn() {
    if (this.isPaused || performance.now() < (this.stillUntil ?? 0)) return;
    this.at += 1;
    if (this.at === this.views.length) {
      this.at = 0;
      const here = this.environments.indexOf(this.wall.dataset.environment);
      const next = this.environments[(here + 1) % this.environments.length];
      if (next && next !== this.wall.dataset.environment) return this.goTo(next);
    }
    this.show();
  }

  show() {
    mark(this.wall, { view: this.views[this.at], paused: this.isPaused ? "yes" : "no" });
    const button = this.wall.querySelector('[data-part="turning"]');
    show(this.wall, { turning: this.turns });
    if (button) button.textContent = `${this.at + 1}/${this.views.length}`;
  }

  /** The wall of another environment, with everything else of the address as it is. */
  goTo(environment) {
    const query = new URLSearchParams(location.search);
    query.set("environment", environment);
    location.search = query;
  }
}
