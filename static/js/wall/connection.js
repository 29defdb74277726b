// A socket that comes back: with growing, jittered pauses, and at once when the network does.

import { patched } from "./deltas.js";

const FIRST_PAUSE = 500; // milliseconds
const LONGEST_PAUSE = 15000;
const NO_LEAVE = 4403; // the server's close code: this viewer may not look any more

export class Connection {
  /**
   * `on` has frame(object, shown), lost() and out(); `shown()` is to be called when the frame is in
   * the page: only then does the server send more. `door` tells whether one may look.
   */
  constructor(address, door, on) {
    this.address = address;
    this.door = door;
    this.on = on;
    this.failures = 0;
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.hurry();
    });
  }

  open() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.frame = undefined; // the first one of a socket is whole
    const socket = new WebSocket(this.address);
    socket.addEventListener("message", (event) => this.heard(JSON.parse(event.data), socket));
    socket.addEventListener("close", (event) => this.closed(event));
  }

  heard(message, socket) {
    this.failures = 0;
    if (message.type !== "delta") {
      this.frame = message;
    } else if (message.base === this.frame?.sequence) {
      this.frame = patched(this.frame, message.change);
    } else {
      socket.close(); // something is missing in between: begin with a whole one
      return;
    }
    const { sequence } = this.frame;
    this.on.frame(this.frame, () => {
      if (socket.readyState === WebSocket.OPEN) socket.send(String(sequence));
    });
  }

  hurry() {
    if (this.timer !== undefined) this.open();
  }

  async closed(event) {
    this.on.lost();
    if (event.code === NO_LEAVE || (await this.isRefused())) {
      this.on.out();
      return;
    }
    const most = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.failures);
    this.failures += 1;
    this.timer = setTimeout(() => this.open(), most * (0.5 + Math.random() / 2));
  }

  /** Whether the server answers that this viewer may not look: then trying again is no use. */
  async isRefused() {
    try {
      const answer = await fetch(this.door, {
        redirect: "manual", cache: "no-store", signal: AbortSignal.timeout(5000),
      });
      return [401, 403, 404].includes(answer.status);
    } catch {
      return false; // nobody there: try again
    }
  }
}
