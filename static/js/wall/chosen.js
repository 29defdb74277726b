// One service, by `#service=`: all its tiles, also where the wall itself has room for few.

import { pagesOf } from "./links.js";
import { updateService } from "./services.js";
import { mark, show } from "./slots.js";

const LOOK_MS = 1000;

export class Chosen {
  constructor(wall, address) {
    this.wall = wall;
    this.address = address;
    this.place = wall.querySelector('[data-part="chosen-card"]');
    address.addEventListener("change", () => this.follow());
    wall.querySelector('[data-part="chosen"] .act').addEventListener("click", (event) => {
      event.preventDefault();
      this.leave();
    });
    setInterval(() => this.look(), LOOK_MS);
    this.follow();
  }

  get slug() {
    return this.address.get("service");
  }

  leave() {
    this.address.set("service", "");
  }

  follow() {
    mark(this.wall, { chosen: this.slug ? "yes" : "no" });
    show(this.wall, { chosen: this.slug });
    if (this.slug !== this.place.firstElementChild?.dataset.service) this.place.replaceChildren();
    if (this.wall.frame) this.show(this.wall.frame);
    else this.look();
  }

  /** Shows the chosen service as `frame` has it, if that is all of it. */
  show(frame) {
    if (!this.slug) return;
    const row = frame.services.find((each) => each.slug === this.slug);
    show(this.wall, { unknown: !row });
    if (row && !row.folded.length) this.fill(row);
    else if (!this.place.firstElementChild) this.look();
  }

  async look() {
    const row = this.wall.frame?.services.find((each) => each.slug === this.slug);
    if (!this.slug || this.isAsking || document.hidden || (row && !row.folded.length)) return;
    const { detail, environment } = this.wall.dataset;
    const query = new URLSearchParams({ environment, service: this.slug });
    this.isAsking = true;
    try {
      const answer = await fetch(`${detail}?${query}`, { cache: "no-store", redirect: "error" });
      if (answer.ok) this.fill(await answer.json());
      show(this.wall, { unknown: answer.status === 404 });
    } catch {
      // The server is away: the wall says so, and the next look is in a second.
    } finally {
      this.isAsking = false;
    }
  }

  fill(row) {
    if (row.slug !== this.slug || !this.wall.frame) return;
    const { templates } = this.wall;
    const card = this.place.firstElementChild
      ?? templates.service.content.firstElementChild.cloneNode(true);
    if (card.shown === row) return;
    updateService(card, row, templates, pagesOf(this.wall, this.wall.frame));
    card.shown = row;
    if (!card.isConnected) this.place.append(card);
  }
}
