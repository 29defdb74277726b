// Filling a piece of the page: the server's templates say what it looks like, a frame what is in it.

import { localTime } from "../leases.js";

/** Sets the text of the `data-field` slots below `root`; only what differs is touched. */
export function fill(root, texts) {
  for (const [name, text] of Object.entries(texts)) {
    const slot = root.querySelector(`[data-field="${name}"]`);
    const wanted = text === null || text === undefined ? "" : String(text);
    if (slot && slot.textContent !== wanted) slot.textContent = wanted;
  }
}

/** Shows or hides the `data-part` elements below `root`. */
export function show(root, parts) {
  for (const [name, isShown] of Object.entries(parts)) {
    const part = root.querySelector(`[data-part="${name}"]`);
    if (part && part.hidden === Boolean(isShown)) part.hidden = !isShown;
  }
}

/** Sets the time in a `data-field` slot, in the viewer's zone. */
export function setTime(root, name, instant) {
  const time = root.querySelector(`[data-field="${name}"]`);
  if (!time || !instant) return;
  if (time.dateTime !== instant) time.dateTime = instant;
  const text = localTime(instant);
  if (time.textContent !== text) time.textContent = text;
}

/** Sets the shape in a `data-field` slot. */
export function setShape(root, name, shape) {
  const use = root.querySelector(`[data-field="${name}"]`);
  const address = `#shape-${shape}`;
  if (use.getAttribute("href") !== address) use.setAttribute("href", address);
}

/** Sets `data-*` attributes of one element. */
export function mark(element, values) {
  for (const [name, value] of Object.entries(values)) {
    const wanted = value === null || value === undefined ? "" : String(value);
    if (element.dataset[name] !== wanted) element.dataset[name] = wanted;
  }
}

/**
 * Makes the children of `container` those of `items`, in their order, and keeps an element as long
 * as its key stays: what is open, focused or hovered stays so. An element that shows the very same
 * item already is not touched. Pauses (`yield`) after each one.
 */
export function* reconcile(container, items, { key, keyOf, template, update }) {
  const present = new Map([...container.children].map((child) => [keyOf(child), child]));
  let cursor = container.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const element = present.get(name) || template.content.firstElementChild.cloneNode(true);
    present.delete(name);
    const isNew = element.shown !== item;
    if (isNew) {
      update(element, item);
      element.shown = item;
    }
    if (element === cursor) cursor = cursor.nextElementSibling;
    else container.insertBefore(element, cursor);
    if (isNew) yield;
  }
  for (const gone of present.values()) gone.remove();
}
