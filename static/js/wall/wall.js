// The wall: one custom element that shows each frame, and says loudly when there is none.

import { localTime } from "../leases.js";
import { gettext, interpolate } from "../words.js";
import { changes } from "./announcer.js";
import { updateBoard } from "./board.js";
import { Connection } from "./connection.js";
import { count } from "./figures.js";
import { fill, mark, show } from "./slots.js";

const STALE_AFTER = 2; // frame intervals
const SAID_SECONDS = 20; // what a page before this one has done; the wall itself shows it

class StatusWall extends HTMLElement {
  connectedCallback() {
    this.templates = Object.fromEntries(
      [...this.querySelectorAll("template")].map((each) => [each.dataset.template, each]));
    this.isConnectedToServer = true; // until the first attempt says otherwise
    this.seenAt = performance.now();
    this.interval = 1;
    this.localiseFirstPaint();
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const query = new URLSearchParams({ environment: this.dataset.environment });
    this.connection = new Connection(`${scheme}//${location.host}/ws/wall/?${query}`, {
      frame: (frame) => this.showFrame(frame),
      lost: () => this.showLost(),
      out: () => this.showOut(),
    });
    this.connection.open();
    this.timer = setInterval(() => this.judgeFreshness(), 500);
    setTimeout(() => show(this, { said: false }), SAID_SECONDS * 1000);
    this.querySelector('[data-part="switcher"]')?.addEventListener("change", (event) => {
      location.search = new URLSearchParams({ environment: event.target.value });
    });
  }

  localiseFirstPaint() {
    for (const time of this.querySelectorAll("time[datetime]")) {
      if (time.dateTime) time.textContent = localTime(time.dateTime);
    }
  }

  showFrame(frame) {
    this.seenAt = performance.now();
    this.interval = frame.interval;
    this.isConnectedToServer = true;
    this.lostAt = undefined;
    if (this.frame) this.announce(changes(this.frame, frame));
    this.frame = frame;
    mark(this, { density: frame.density });
    updateBoard(this, frame, this.templates);
    this.showSummary(frame);
    this.judgeFreshness();
  }

  showSummary(frame) {
    const { applied, total, ...sums } = frame.summary;
    sums.switched = frame.switches.length;
    for (const item of this.querySelectorAll("[data-sum]")) {
      const name = item.dataset.sum;
      if (name === "applied") {
        mark(item, { value: applied, total });
        item.querySelector("strong").textContent = `${count(applied)}/${count(total)}`;
      } else {
        mark(item, { value: sums[name] });
        item.querySelector("strong").textContent = count(sums[name]);
      }
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

  judgeFreshness() {
    const isOld = performance.now() - this.seenAt > STALE_AFTER * this.interval * 1000;
    const isStale = isOld || Boolean(this.frame?.stale);
    const isLost = !this.isConnectedToServer;
    mark(this, { freshness: isLost ? "lost" : isStale ? "stale" : "live" });
    show(this, { lost: isLost && !this.isOut, out: isLost && this.isOut, stale: isStale && !isLost });
    if (this.lostAt) {
      for (const slot of this.querySelectorAll('[data-field="lost-since"]')) {
        slot.textContent = localTime(this.lostAt.toISOString());
      }
    }
    this.showTitle(isLost, isStale);
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

  announce(sentences) {
    if (!sentences.length) return;
    this.querySelector('[data-part="announcer"]').textContent = `${sentences.join(". ")}.`;
  }
}

customElements.define("status-wall", StatusWall);
