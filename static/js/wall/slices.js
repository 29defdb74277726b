// Long work in short pieces, so that the page answers to fingers and keys meanwhile.

const MOST_MS = 12; // of one piece

/** Ends in a new turn of the page's loop, also in a tab nobody sees (timers are held back there). */
const turn = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(undefined);
});

/** Runs a generator to its end, with pauses. */
export async function inSlices(steps) {
  let began = performance.now();
  while (!steps.next().done) {
    if (performance.now() - began > MOST_MS) {
      await turn();
      began = performance.now();
    }
  }
}

/** Runs a generator to its end, at once. */
export function atOnce(steps) {
  while (!steps.next().done);
}
