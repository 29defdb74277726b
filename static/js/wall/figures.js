// Numbers in the viewer's locale. Every function takes null for "nobody can say".

const small = new Intl.NumberFormat(undefined, { maximumFractionDigits: 2 });
const medium = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const large = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const percentFine = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const percentWhole = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
const UNKNOWN = "–";

export const count = (number) => large.format(number);

export function rate(perSecond) {
  const form = perSecond < 1 ? small : perSecond < 10 ? medium : large;
  return form.format(perSecond);
}

export function share(part) {
  if (part === null || part === undefined) return UNKNOWN;
  return (part > 0 && part < 0.1 ? percentFine : percentWhole).format(part);
}

/** Whole units of what goes by: "3 s", "14 min". */
export function age(seconds) {
  return seconds < 120 ? `${large.format(Math.floor(seconds))} s` : duration(seconds);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 1) return `${large.format(seconds * 1000)} ms`;
  if (seconds < 120) return `${medium.format(seconds)} s`;
  return seconds < 7200 ? `${large.format(seconds / 60)} min` : `${medium.format(seconds / 3600)} h`;
}
