// What a frame says of services and their tiles, put into the page.

import { count, duration, rate, share } from "./figures.js";
import { point } from "./links.js";
import { atOnce } from "./slices.js";
import { fill, mark, reconcile, setShape, setTime, show } from "./slots.js";
import { draw } from "./trend.js";

function updateTile(element, tile, row, pages) {
  mark(element, {
    service: row.slug, dependency: tile.dependency, state: tile.state, condition: tile.condition,
  });
  setShape(element, "shape", tile.condition);
  fill(element, {
    dependency: tile.dependency,
    rate: rate(tile.calls_per_second),
    errors: share(tile.error_rate),
    samples: count(tile.samples),
    p95: duration(tile.p95),
    override: (tile.override || "").replace("_", " "),
    share: tile.partial,
  });
  show(element, { override: tile.override, share: tile.partial, since: tile.since });
  setTime(element, "since", tile.since);
  updateHealth(element, tile.health);
  const trend = element.querySelector('[data-part="trend"]');
  trend.toggleAttribute("hidden", !tile.trend);
  if (tile.trend) draw(trend, tile.trend);
  point(element, "history", pages.history({ service: row.slug, dependency: tile.dependency }));
  point(element, "override", pages.override(row, tile));
}

function updateHealth(element, health) {
  show(element, { health });
  if (!health) return;
  mark(element.querySelector('[data-part="health"]'), {
    health: health.status, stale: health.stale ? "yes" : "no",
  });
  setShape(element, "health-shape", health.status);
}

/** Fills a card: a service with its tiles. */
export function updateService(element, row, templates, pages) {
  mark(element, {
    service: row.slug,
    applied: row.applied,
    total: row.total,
    behind: row.laggards.length ? "yes" : "no",
    running: row.total ? "yes" : "no",
    old: row.old ? "yes" : "no",
  });
  element.setAttribute("aria-label", row.slug);
  const head = element.querySelector("header");
  updateHead(head, row);
  point(head, "history", pages.history({ service: row.slug }));
  point(head, "read-only", pages.readOnly(row));
  head.querySelector("h2 a").href = chosen(row.slug);
  atOnce(reconcile(element.querySelector('[data-part="tiles"]'), row.tiles, {
    key: (tile) => tile.dependency,
    keyOf: (child) => child.dataset.dependency,
    template: templates.tile,
    update: (child, tile) => updateTile(child, tile, row, pages),
  }));
  atOnce(reconcile(element.querySelector('[data-part="folded"]'), row.folded, {
    key: (fold) => fold.condition,
    keyOf: (child) => child.dataset.condition,
    template: templates.fold,
    update: updateFold,
  }));
  show(element, { folded: row.folded.length });
}

function updateHead(head, row) {
  const own = row.requests;
  fill(head, {
    slug: row.slug,
    score: count(row.score ?? 0),
    applied: count(row.applied),
    total: count(row.total),
    target: count(row.target),
    laggards: row.laggards.join(", "),
    behind: duration(row.behind),
    delay: duration(row.delay),
    measured: count(row.measured),
    refused: row.refused.join("; "),
    "silent-count": count(row.silent.length),
    silent: row.silent.join(", "),
    stopping: count(row.stopping),
    letters: count(row.letters),
    "traffic-rate": own ? rate(own.per_second) : "",
    "traffic-errors": own ? share(own.error_rate) : "",
    "traffic-p95": own ? duration(own.p95) : "",
  });
  mark(head.querySelector('[data-part="score"]'), { status: row.status });
  show(head, {
    score: row.score !== null,
    laggards: row.laggards.length,
    delay: row.measured,
    refused: row.refused.length,
    silent: row.silent.length,
    stopping: row.stopping,
    letters: row.letters,
    traffic: own,
  });
  const [applied, silent] = head.querySelectorAll("summary");
  applied.title = row.laggards.join(", ");
  silent.title = row.silent.join(", ");
  const progress = head.querySelector("progress");
  progress.max = row.total || 1;
  progress.value = row.applied;
}

function updateFold(element, fold) {
  mark(element, { condition: fold.condition });
  setShape(element, "shape", fold.condition);
  fill(element, { count: count(fold.count) });
}

/** Fills a line: a service of a large fleet that needs no look, or finds no room for more. */
export function updateLine(element, row) {
  mark(element, {
    service: row.slug,
    condition: row.worst,
    behind: row.laggards.length ? "yes" : "no",
    old: row.old ? "yes" : "no",
  });
  element.firstElementChild.href = chosen(row.slug);
  setShape(element, "shape", row.worst);
  fill(element, { slug: row.slug, said: said(row) });
}

function said(row) {
  if (row.laggards.length) return `${count(row.applied)}/${count(row.total)}`;
  return row.troubled ? `× ${count(row.troubled)}` : "";
}

const chosen = (slug) => `#${new URLSearchParams({ service: slug })}`;
