/**
 * The events of a job, through lost connections and restarts of the server. A hidden tab asks for
 * the job now and then instead: a browser opens only six connections to a server without HTTP/2, and
 * each stream of events holds one.
 *
 * @typedef {[number, number, Record<string, number>]} Point iteration, loss, weighted terms
 * @typedef {{iteration: number, iterations: number, loss: number, terms: Record<string, number>,
 *   seconds: number, seconds_left: number | null, width: number, height: number, scale: number,
 *   scales: number, points?: Point[]}} Progress
 * @typedef {{iteration: number, width: number, height: number, image: string}} Preview
 *
 * @typedef {object} Listener
 * @property {(job: import("./api.js").Job) => void} job
 * @property {(points: Point[]) => void} losses
 * @property {(progress: Progress) => void} progress
 * @property {(preview: Preview) => void} preview
 * @property {(problem: Problem) => void} refused is told if the server does not show the job
 */

import { Problem, getJob, hasEnded, jobPath } from "./api.js";
import { pause, serverIsBack } from "./connection.js";

const FIRST_DELAY = 500;
const LONGEST_DELAY = 8000;
/** The longest time of a timer. */
const NEVER = 2 ** 31 - 1;

/**
 * Listen to a job until it ends.
 * @param {string} id
 * @param {Listener} listener
 * @returns {() => void} a function that ends it
 */
export function follow(id, listener) {
  const stopping = new AbortController();
  void keepListening(id, listener, stopping.signal);
  return () => stopping.abort();
}

/**
 * @param {string} id
 * @param {Listener} listener
 * @param {AbortSignal} stopped
 */
async function keepListening(id, listener, stopped) {
  let delay = FIRST_DELAY;
  let last = "";
  while (!stopped.aborted) {
    let broken = false;
    if (!document.hidden) {
      const stream = await listen(id, last, listener, stopped);
      if (stream.ended || stopped.aborted) return;
      if (stream.heard) delay = FIRST_DELAY;
      ({ broken, last } = stream);
    }
    let ended = false;
    // A request tells a server that is away from a job that is gone.
    try {
      const job = await getJob(id);
      if (stopped.aborted) return;
      listener.job(job);
      ended = hasEnded(job);
    } catch (error) {
      if (error instanceof Problem && error.status < 500 && error.status !== 429) {
        if (!stopped.aborted) listener.refused(error);
        return;
      }
      await serverIsBack();
    }
    if (!broken && !document.hidden) continue; // it came to the front during the request
    await pause(document.hidden && ended ? NEVER : delay);
    delay = Math.min(2 * delay, LONGEST_DELAY);
  }
}

/**
 * Listen on one connection until it breaks, the tab is hidden, the job ends, or a caller stops it.
 * @param {string} id
 * @param {string} after the id of the last event before
 * @param {Listener} listener
 * @param {AbortSignal} stopped
 * @returns {Promise<{ended: boolean, broken: boolean, heard: boolean, last: string}>} and the id of
 *   the last event
 */
function listen(id, after, listener, stopped) {
  return new Promise((resolve) => {
    const source = new EventSource(jobPath(id, `events?after=${encodeURIComponent(after)}`));
    let heard = false;
    let last = after;
    /** @param {{ended?: boolean, broken?: boolean}} how */
    const close = ({ ended = false, broken = false }) => {
      source.close();
      stopped.removeEventListener("abort", stop);
      document.removeEventListener("visibilitychange", hide);
      resolve({ ended, broken, heard, last });
    };
    const stop = () => close({ ended: true });
    const hide = () => document.hidden && close({});
    stopped.addEventListener("abort", stop);
    document.addEventListener("visibilitychange", hide);
    source.onerror = () => close({ broken: true });
    for (const kind of /** @type {const} */ (["job", "losses", "progress", "preview"])) {
      source.addEventListener(kind, (event) => {
        heard = true;
        last = event.lastEventId || last;
        const data = JSON.parse(event.data);
        listener[kind](data);
        if (kind === "job" && hasEnded(data)) ending();
      });
    }
    // The last losses and the last preview follow the final state; then the server closes.
    let closing = false;
    function ending() {
      if (closing) return;
      closing = true;
      source.onerror = stop;
      setTimeout(stop, 2000);
    }
  });
}
