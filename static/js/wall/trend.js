// The line of a tile: calls as a line, failed ones as an area below it, both to the same scale.

import { gettext, interpolate } from "../words.js";
import { rate, share } from "./figures.js";

const WIDTH = 120; // of the drawing's own coordinates, whatever its size on the page
const HEIGHT = 24;
const SPAN_SECONDS = 20; // of a point

function corners(points, most) {
  const step = WIDTH / (points.length - 1);
  return points
    .map((number, at) => `${(at * step).toFixed(1)},${(HEIGHT - 1 - (number / most) * (HEIGHT - 3)).toFixed(1)}`)
    .join(" L");
}

function describe({ calls, errors }) {
  const shares = calls.map((number, at) => (number ? Math.min(1, errors[at] / number) : 0));
  return interpolate(
    gettext("Last 10 minutes: %(least)s to %(most)s calls per second, at most %(errors)s failed"),
    {
      least: rate(Math.min(...calls) / SPAN_SECONDS),
      most: rate(Math.max(...calls) / SPAN_SECONDS),
      errors: share(Math.max(...shares)),
    },
  );
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Draws `trend` into the SVG element, and says it in words. */
export function draw(svg, trend) {
  const most = Math.max(1, ...trend.calls, ...trend.errors);
  const [errors, calls] = svg.querySelectorAll("path");
  set(calls, "d", `M${corners(trend.calls, most)}`);
  const isClean = !trend.errors.some(Boolean);
  set(errors, "d", isClean ? "" : `M0,${HEIGHT} L${corners(trend.errors, most)} L${WIDTH},${HEIGHT}Z`);
  set(svg, "aria-label", describe(trend));
}
