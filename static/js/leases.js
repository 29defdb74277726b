// Instants in the viewer's own zone, and what is left of a lease, counted from the server's time.

import { gettext, interpolate } from "./words.js";

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short",
});
const day = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
  timeZoneName: "short",
});

/** "14:03:07 GMT+1"; with the day when it is not today. */
export function localTime(text) {
  const instant = new Date(text);
  const isToday = instant.toDateString() === new Date().toDateString();
  return (isToday ? clock : day).format(instant);
}

/** "2 h 05 min", "29:07", "0:09": what is left, in the largest units that matter. */
export function left(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  const pad = (number) => String(number).padStart(2, "0");
  const days = Math.floor(whole / 86400);
  const hours = Math.floor((whole % 86400) / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  if (days) return interpolate(gettext("%(days)s d %(hours)s h"), { days, hours });
  if (hours) {
    return interpolate(gettext("%(hours)s h %(minutes)s min"), { hours, minutes: pad(minutes) });
  }
  return `${minutes}:${pad(whole % 60)}`;
}

/** Shows the <time> inside it in the viewer's zone, and the exact instant on hover. */
class LocalTime extends HTMLElement {
  connectedCallback() {
    const time = this.querySelector("time");
    if (!time) return;
    time.title = time.dateTime;
    time.textContent = localTime(time.dateTime);
  }
}

/**
 * Counts down to `data-ends`, from the server's time `data-now` and on the monotonic clock, so
 * that a wrong clock on the viewer's machine changes nothing.
 */
class Countdown extends HTMLElement {
  static observedAttributes = ["data-ends", "data-now"];

  connectedCallback() {
    this.timer = setInterval(() => this.tick(), 1000);
    this.anchor();
  }

  disconnectedCallback() {
    clearInterval(this.timer);
  }

  attributeChangedCallback() {
    if (this.isConnected) this.anchor();
  }

  anchor() {
    if (!this.dataset.ends || !this.dataset.now) return; // no lease
    const remaining = Date.parse(this.dataset.ends) - Date.parse(this.dataset.now);
    this.deadline = performance.now() + remaining;
    this.tick();
  }

  tick() {
    if (this.deadline === undefined) return;
    const seconds = (this.deadline - performance.now()) / 1000;
    const text = seconds > 0
      ? interpolate(gettext("ends in %(time)s"), { time: left(seconds) })
      : gettext("lease over");
    if (this.textContent !== text) this.textContent = text;
    this.title = localTime(this.dataset.ends);
  }
}

customElements.define("hf-time", LocalTime);
customElements.define("hf-countdown", Countdown);
