// What the whole time came to, each share and quantile with the number it was taken of.

import { gettext, interpolate } from "../words.js";
import { count, duration, rate, share } from "../wall/figures.js";

const REJECTED = {
  rejected_open: gettext("breaker open"),
  rejected_forced: gettext("forced open"),
  rejected_bulkhead: gettext("bulkhead full"),
  rejected_rate_limit: gettext("rate limit"),
  rejected_throttle: gettext("throttle"),
  rejected_budget: gettext("retry budget"),
  rejected_degraded: gettext("degraded"),
};
const FALLBACKS = {
  fallbacks_value: gettext("value"),
  fallbacks_function: gettext("function"),
  fallbacks_cached: gettext("cached"),
  fallbacks_queue: gettext("queued"),
};
const SHARES = { error_rate: "judged", availability: "wanted" };

export function callFigures({ total, least_samples: least }) {
  return [
    figure(gettext("Calls"), count(total.calls), perSecond(total)),
    ...Object.entries(SHARES).map(([name, of]) => ratio(TITLES[name], total[name], total[of], least)),
    ...durations(total, least),
    figure(gettext("Failures"), count(total.failures), timeouts(total)),
    figure(gettext("Retries"), count(total.retries), ""),
    kinds(gettext("Rejected"), total, REJECTED),
    kinds(gettext("Fallbacks"), total, FALLBACKS),
  ];
}

export function requestFigures({ requests: { total }, least_samples: least }) {
  return [
    figure(gettext("Requests"), count(total.count), perSecond(total)),
    ratio(gettext("Client errors (4xx)"), total.client_error_rate, total.count, least),
    ratio(gettext("Server errors (5xx)"), total.server_error_rate, total.count, least),
    ratio(TITLES.availability, total.availability, total.count, least),
    ...durations(total, least),
  ];
}

const TITLES = { error_rate: gettext("Error rate"), availability: gettext("Availability") };

/** Percent with enough digits that 99.95 % is not 100 %. */
export function percent(part) {
  if (part === null || part === undefined) return "–";
  const isNearWhole = part > 0.99 && part < 1;
  if (!isNearWhole) return share(part);
  const form = { style: "percent", maximumFractionDigits: 3, roundingMode: "floor" };
  return new Intl.NumberFormat(undefined, form).format(part);
}

const exactly = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 2 });

/** Percent at the ticks of an axis, which may lie close together. */
export const percentExactly = (part) => exactly.format(part);

const perSecond = (total) =>
  total.per_second === null
    ? ""
    : interpolate(gettext("%(rate)s per second"), { rate: rate(total.per_second) });

const timeouts = (total) =>
  interpolate(gettext("%(timeouts)s timed out, %(slow)s slow"), {
    timeouts: count(total.timeouts), slow: count(total.slow),
  });

function ratio(title, part, of, least) {
  return figure(title, part === null ? notEnough(of, least) : percent(part), `n = ${count(of)}`);
}

function durations(total, least) {
  return ["p50", "p95", "p99"].map((name) => {
    const text = total[name] === null ? notEnough(total.timed, least) : duration(total[name]);
    return figure(name.toUpperCase(), text, `n = ${count(total.timed)}`);
  });
}

function kinds(title, total, names) {
  const found = Object.entries(names).filter(([name]) => total[name]);
  const sum = found.reduce((so_far, [name]) => so_far + total[name], 0);
  const told = found.map(([name, text]) => `${text} ${count(total[name])}`);
  return figure(title, count(sum), told.join(", "));
}

const notEnough = (of, least) => (of < least ? gettext("not enough data") : "–");

function figure(title, text, note) {
  const place = document.createElement("div");
  const [name, value, small] = ["dt", "dd", "dd"].map((tag) => document.createElement(tag));
  name.textContent = title;
  value.textContent = text;
  small.textContent = note;
  small.className = "hf-quiet";
  place.append(name, value, small);
  return place;
}
