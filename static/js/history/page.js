// The page of how something went: fetches the figures and shows them as charts and tables.

import "../live.js";
import { gettext, interpolate } from "../words.js";
import {
  callCharts, DRAWN, eventLines, laneChart, requestCharts, sizeAll, startAnew,
} from "./charts.js";
import { callFigures, requestFigures } from "./figures.js";
import { eventTable, instanceTable, laneTable, stepTable } from "./tables.js";
import { zone } from "./times.js";

const LEAST_REFRESH_SECONDS = 10;

class Went extends HTMLElement {
  connectedCallback() {
    this.said = this.querySelector(".hf-said");
    // The server's clock: a viewer's wrong one would ask for another time.
    this.ahead = Date.parse(this.dataset.now) - Date.now();
    this.querySelector(".hf-zone").textContent = interpolate(gettext("Times in %(zone)s."), { zone });
    this.fromOwnForm();
    addEventListener("resize", () => sizeAll());
    // Charts are drawn in colours of the mode.
    new MutationObserver(() => this.show()).observe(document.documentElement, {
      attributeFilter: ["class"],
    });
    this.load();
  }

  /** What the address asks for; relative spans end now. */
  query() {
    const query = new URLSearchParams({ environment: this.dataset.environment });
    for (const name of ["service", "dependency"]) {
      if (this.dataset[name]) query.set(name, this.dataset[name]);
    }
    if (this.dataset.seconds) {
      const now = Date.now() + this.ahead;
      query.set("since", new Date(now - 1000 * Number(this.dataset.seconds)).toISOString());
    } else {
      for (const name of ["since", "until"]) {
        if (this.dataset[name]) query.set(name, this.dataset[name]);
      }
    }
    return query;
  }

  async load() {
    const answer = await this.fetched(this.dataset.api, this.query());
    if (answer) {
      this.told = answer;
      this.events = await this.happened(answer);
      this.show();
    }
    if (!this.dataset.until) this.later();
  }

  later() {
    const seconds = Math.max(LEAST_REFRESH_SECONDS, (this.told?.step_seconds ?? 0) / 2);
    setTimeout(() => (document.hidden ? this.later() : this.load()), 1000 * seconds);
  }

  async fetched(address, query) {
    let answer;
    try {
      answer = await fetch(`${address}?${query}`, { headers: { Accept: "application/json" } });
    } catch {
      this.say(gettext("The server does not answer; what is shown is older."));
      return null;
    }
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) {
      this.say("");
      return body;
    }
    const errors = Object.values(body.errors ?? {}).flat();
    this.say([body.detail, ...errors].filter(Boolean).join(" ") || `HTTP ${answer.status}`);
    return null;
  }

  /** The timeline's entries of the same time; null where there is no timeline. */
  async happened(told) {
    if (!this.dataset.timeline) return null;
    const query = this.query();
    query.set("since", told.start);
    query.set("until", told.end);
    query.set("kind", DRAWN.join(","));
    query.set("limit", "200");
    return (await this.fetched(this.dataset.timeline, query))?.results ?? [];
  }

  say(text) {
    this.said.textContent = text;
    this.said.hidden = !text;
  }

  show() {
    if (!this.told) return;
    this.querySelector("[data-shown]").hidden = false;
    startAnew(this.told, eventLines(this.events ?? []));
    this.part("calls", this.told.total.calls > 0, callFigures(this.told), callCharts);
    this.part(
      "requests", this.told.requests?.total.count > 0,
      this.told.requests && requestFigures(this.told), requestCharts,
    );
    this.lanes();
    this.table("events", this.events?.length, () => eventTable(this.events));
    this.table("instances", this.told.instances.length, () => instanceTable(this.told.instances));
    this.table("table", true, () => stepTable(this.told));
  }

  section(name) {
    return this.querySelector(`[data-of="${name}"]`);
  }

  part(name, isAny, figures, charts) {
    const section = this.section(name);
    if (!section || !figures) return;
    section.querySelector(".hf-nothing").hidden = isAny;
    section.querySelector(".hf-figures").replaceChildren(...(isAny ? figures : []));
    const place = section.querySelector(".hf-plots");
    place.replaceChildren();
    if (isAny) charts(place);
  }

  lanes() {
    const section = this.section("lanes");
    const { lanes, more_lanes: more, lanes_cut: isCut } = this.told;
    section.querySelector(".hf-nothing").hidden = lanes.length > 0;
    const words = [
      more && interpolate(gettext("%(more)s more were open for a shorter time."), { more }),
      isCut && gettext("Breakers moved too often for everything to be drawn; choose a shorter time."),
    ];
    const line = section.querySelector("[data-more]");
    line.textContent = words.filter(Boolean).join(" ");
    line.hidden = !line.textContent;
    const place = section.querySelector(".hf-plots");
    place.replaceChildren();
    const details = section.querySelector("details");
    details.hidden = !lanes.length;
    if (!lanes.length) return;
    laneChart(place, lanes);
    details.querySelector(".hf-scroll").replaceChildren(laneTable(lanes));
  }

  table(name, isAny, make) {
    const section = this.section(name);
    if (!section) return;
    if (name === "events") section.hidden = !this.dataset.timeline;
    const nothing = section.querySelector(".hf-nothing");
    if (nothing) nothing.hidden = Boolean(isAny);
    section.querySelector(".hf-scroll").replaceChildren(...(isAny ? [make()] : []));
  }

  /** The form of an own time speaks the viewer's zone; the address is in UTC. */
  fromOwnForm() {
    const form = document.querySelector("[data-own]");
    const fields = [form.elements.since, form.elements.until];
    for (const field of fields) {
      const given = new Date(this.dataset[field.name] || NaN);
      if (!Number.isNaN(given.getTime())) {
        const local = new Date(given - 60_000 * given.getTimezoneOffset());
        field.value = local.toISOString().slice(0, 16);
      }
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const [since, until] = fields.map((field) => field.value && new Date(field.value));
      this.go(since, until);
    });
  }

  /** The same page of another time. */
  go(since, until) {
    const query = new URLSearchParams(location.search);
    for (const name of ["span", "since", "until"]) query.delete(name);
    query.set("since", since.toISOString());
    if (until) query.set("until", until.toISOString());
    location.search = query;
  }
}

customElements.define("hf-went", Went);
