// Words in the reader's language, from the catalogue of scripts that pages load before their modules
// (`/words.js`); in English without it. Messages are collected by these functions' names.

/** The translation of `text`. */
export const gettext = (text) => globalThis.gettext?.(text) ?? text;

/** The translation that goes with `number`. */
export const ngettext = (one, many, number) =>
  globalThis.ngettext?.(one, many, number) ?? (number === 1 ? one : many);

/** `format` with each %(name)s replaced by that member of `values`. */
export const interpolate = (format, values) =>
  format.replace(/%\((\w+)\)s/g, (_whole, name) => String(values[name]));
