// The wall: one custom element that shows each frame, and says loudly when there is none.

import { localTime } from "../leases.js";
import { gettext, interpolate } from "../words.js";
import { Address } from "./address.js";
import { alarms, changes } from "./announcer.js";
import { updateBoard } from "./board.js";
import { Chosen } from "./chosen.js";
import { ServerClock } from "./clock.js";
import { Connection } from "./connection.js";
import { age, count } from "./figures.js";
import { Filter } from "./filter.js";
import { Keyboard } from "./keyboard.js";
import { Rotation } from "./rotation.js";
import { inSlices } from "./slices.js";
import { fill, mark, show } from "./slots.js";
import { Sound } from "./sound.js";

const OLD_AFTER = 3; // frame intervals after which the age is red, and tiles are hatched
const SAID_SECONDS = 20; // what a page before this one has done; the wall itself shows it
const LOOK_MS = 500; // at the clock

class StatusWall extends HTMLElement {
  connectedCallback() {
    this.templates = Object.fromEntries(
      [...this.querySelectorAll("template")].map((each) => [each.dataset.template, each]));
    this.isConnectedToServer = true; // until the first attempt says otherwise
    this.interval = 1;
    this.asOf = this.dataset.asOf;
    this.clock = new ServerClock();
    this.clock.heard(this.dataset.now, performance.getEntriesByType("navigation")[0]?.responseStart);
    this.localiseFirstPaint();
    this.furnish();
    this.connect();
    setInterval(() => this.judgeFreshness(), LOOK_MS);
    setTimeout(() => show(this, { said: false }), SAID_SECONDS * 1000);
  }

  /** What viewers can do besides looking. */
  furnish() {
    this.address = new Address();
    this.chosen = new Chosen(this, this.address);
    this.filter = new Filter(this, this.address);
    this.sound = new Sound(this.querySelector('[data-part="sound"]'), (text) => this.say(text));
    this.rotation = new Rotation(this);
    this.keyboard = new Keyboard(this);
    this.querySelector('[data-part="switcher"]')?.addEventListener("change", (event) => {
      this.rotation.goTo(event.target.value);
    });
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const query = new URLSearchParams({ environment: this.dataset.environment });
    const socket = `${scheme}//${location.host}/ws/wall/?${query}`;
    this.connection = new Connection(socket, `${this.dataset.detail}?${query}`, {
      frame: (frame, shown) => this.receive(frame, shown),
      lost: () => this.showLost(),
      out: () => this.showOut(),
    });
    this.connection.open();
  }

  localiseFirstPaint() {
    for (const time of this.querySelectorAll("time[datetime]")) {
      if (time.dateTime) time.textContent = localTime(time.dateTime);
    }
  }

  /** Draws the newest frame there is; those that come while one is being drawn replace each other. */
  async receive(frame, shown) {
    this.clock.heard(frame.server_time);
    this.isConnectedToServer = true;
    this.lostAt = undefined;
    this.waiting = { frame, shown };
    if (this.isDrawing) return;
    this.isDrawing = true;
    try {
      while (this.waiting) {
        const next = this.waiting;
        this.waiting = undefined;
        await this.draw(next.frame);
        next.shown();
      }
    } finally {
      this.isDrawing = false;
    }
  }

  async draw(frame) {
    const before = this.frame;
    this.frame = frame;
    this.interval = frame.interval;
    this.asOf = frame.as_of;
    mark(this, { density: frame.density });
    this.showSummary(frame);
    this.judgeFreshness();
    await inSlices(updateBoard(this, frame, this.templates));
    this.chosen.show(frame);
    this.filter.apply();
    if (!before) return;
    this.say(changes(before, frame).join(". "));
    const critical = alarms(before, frame);
    if (critical.length) {
      this.sound.alarm();
      this.rotation.interrupt();
    }
  }

  showSummary(frame) {
    const { applied, total, ...sums } = frame.summary;
    sums.switched = frame.switches.length;
    for (const item of this.querySelectorAll("[data-sum]")) {
      const name = item.dataset.sum;
      const value = name === "applied" ? `${count(applied)}/${count(total)}` : count(sums[name]);
      const strong = item.querySelector("strong");
      if (strong.textContent !== value) strong.textContent = value;
      mark(item, name === "applied" ? { value: applied, total } : { value: sums[name] });
    }
    const stamp = this.querySelector('[data-field="as-of"]');
    stamp.dateTime = frame.as_of;
    stamp.textContent = localTime(frame.as_of);
    fill(this, { revision: count(frame.revision) });
  }

  showLost() {
    this.isConnectedToServer = false;
    this.lostAt ??= new Date();
    this.judgeFreshness();
  }

  showOut() {
    this.isOut = true;
    this.judgeFreshness();
  }

  /** How old what is shown is, by the server's own clock, and whether one can rely on it. */
  judgeFreshness() {
    const seconds = this.clock.since(this.asOf) ?? 0;
    const isLost = !this.isConnectedToServer;
    const isStale = Boolean(this.frame?.stale);
    const isOld = seconds > OLD_AFTER * this.interval;
    const isLate = isOld && !isStale && !isLost;
    mark(this, { freshness: isLost ? "lost" : isStale || isLate ? "stale" : "live" });
    show(this, {
      lost: isLost && !this.isOut, out: isLost && this.isOut, stale: isStale && !isLost, delayed: isLate,
    });
    fill(this, { age: age(seconds), behind: age(seconds) });
    mark(this.querySelector('[data-part="as-of"]'), { old: isOld ? "yes" : "no" });
    for (const slot of this.lostAt ? this.querySelectorAll('[data-field="lost-since"]') : []) {
      slot.textContent = localTime(this.lostAt.toISOString());
    }
    this.showTitle(isLost, isStale || isLate);
  }

  showTitle(isLost, isStale) {
    this.ownTitle ??= document.title;
    const open = this.frame?.summary.open;
    const what = isLost ? gettext("CONNECTION LOST")
      : isStale ? gettext("STALE")
      : open ? interpolate(gettext("%(number)s open"), { number: count(open) }) : "";
    const title = what ? `${what} · ${this.ownTitle}` : this.ownTitle;
    if (document.title !== title) document.title = title;
  }

  /** For those who listen instead of looking. */
  say(text) {
    if (text) this.querySelector('[data-part="announcer"]').textContent = `${text}.`;
  }
}

customElements.define("status-wall", StatusWall);
