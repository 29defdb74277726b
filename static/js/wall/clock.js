// The server's time, as far as can be told here, and with it the age of what is shown.

const DRIFT = 1e-4; // by which two clocks may differ in speed

/**
 * A message was sent before it came: so much at least is the server ahead of the clock here. The
 * quickest message tells best, and is believed for long; a slow line does not make data younger.
 */
export class ServerClock {
  /** Takes note of the server's time in a message that came `at` (milliseconds, monotonic). */
  heard(serverTime, at = performance.now()) {
    const ahead = Date.parse(serverTime) - at;
    const known = this.at === undefined ? -Infinity : this.ahead - DRIFT * Math.max(0, at - this.at);
    this.ahead = Math.max(ahead, known);
    this.at = at;
  }

  /** Seconds since the server's `instant`; undefined before anything was heard. */
  since(instant) {
    if (this.at === undefined) return undefined;
    return Math.max(0, (performance.now() + this.ahead - Date.parse(instant)) / 1000);
  }
}
