// Instants in the viewer's zone and locale, as long as the time shown needs them.

const DAY = 86_400;
const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const DATE = { day: "numeric", month: "short" };

/** The viewer's zone by name, and how far it is from UTC now. */
export const zone = (() => {
  const parts = new Intl.DateTimeFormat(undefined, { timeZoneName: "longOffset" }).formatToParts();
  const offset = parts.find((part) => part.type === "timeZoneName").value;
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return name === "UTC" ? name : `${name} (${offset})`;
})();

const axisClock = new Intl.DateTimeFormat(undefined, CLOCK);
const axisSeconds = new Intl.DateTimeFormat(undefined, { ...CLOCK, second: "2-digit" });
const axisDate = new Intl.DateTimeFormat(undefined, DATE);
const exact = new Intl.DateTimeFormat(undefined, { ...DATE, ...CLOCK, second: "2-digit" });

/** Labels of an axis whose ticks are `increment` seconds apart; midnight is told by its date. */
export function ticks(splits, increment) {
  return splits.map((seconds) => {
    const instant = new Date(1000 * seconds);
    const isMidnight = instant.getHours() === 0 && instant.getMinutes() === 0;
    if (increment >= DAY || (isMidnight && increment >= 60)) return axisDate.format(instant);
    return (increment < 60 ? axisSeconds : axisClock).format(instant);
  });
}

/** "22 Nov, 14:03:07" of seconds since 1970, or of a text. */
export function when(instant) {
  return exact.format(typeof instant === "number" ? new Date(1000 * instant) : new Date(instant));
}
