// A socket that comes back: with growing, jittered pauses, and at once when the network does.

const FIRST_PAUSE = 500; // milliseconds
const LONGEST_PAUSE = 15000;
const NO_LEAVE = 4403; // the server's close code: this viewer may not look any more

export class Connection {
  /** `on` has frame(object), lost() and out(). */
  constructor(address, on) {
    this.address = address;
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
    this.socket = new WebSocket(this.address);
    this.socket.addEventListener("message", (event) => {
      this.failures = 0;
      this.on.frame(JSON.parse(event.data));
    });
    this.socket.addEventListener("close", (event) => this.closed(event));
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

  /** Whether the server answers, but would have this page log in: then trying again is no use. */
  async isRefused() {
    try {
      const answer = await fetch(location.href, {
        method: "GET", redirect: "manual", cache: "no-store", signal: AbortSignal.timeout(5000),
      });
      return answer.type === "opaqueredirect" || [401, 403, 404].includes(answer.status);
    } catch {
      return false; // nobody there: try again
    }
  }
}
