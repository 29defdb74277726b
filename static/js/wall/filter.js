// Only services and dependencies whose name holds what was typed; `#filter=` keeps it.

import { show } from "./slots.js";

const set = (element, isOut) => element.toggleAttribute("data-out", isOut);

export class Filter {
  constructor(wall, address) {
    this.wall = wall;
    this.address = address;
    this.field = wall.querySelector('[data-part="filter"]');
    this.field.addEventListener("input", () => {
      address.set("filter", this.field.value.trim(), { replace: true });
    });
    address.addEventListener("change", () => this.follow());
    this.follow();
  }

  follow() {
    const asked = this.address.get("filter");
    if (this.field.value.trim() !== asked) this.field.value = asked;
    this.words = asked.toLowerCase().split(/\s+/).filter(Boolean);
    this.apply();
  }

  clear() {
    if (this.words.length) this.address.set("filter", "", { replace: true });
  }

  holds(name) {
    return this.words.every((word) => name.includes(word));
  }

  apply() {
    if (!this.words.length && !this.isApplied) return;
    this.isApplied = this.words.length > 0;
    let found = 0;
    for (const card of this.wall.querySelectorAll('[data-part="board"] > .service')) {
      const { service } = card.dataset;
      const tiles = [...card.querySelectorAll(".tile")];
      const isMine = this.holds(service);
      const within = tiles.filter((tile) => this.holds(`${service} ${tile.dataset.dependency}`));
      for (const tile of tiles) set(tile, !isMine && !within.includes(tile));
      set(card, !isMine && !within.length);
      found += isMine || within.length ? 1 : 0;
    }
    for (const line of this.wall.querySelectorAll(".line")) {
      const isMine = this.holds(line.dataset.service);
      set(line, !isMine);
      found += isMine ? 1 : 0;
    }
    show(this.wall, { "nothing-found": this.isApplied && !found });
  }
}
