/**
 * The events of a job, through lost connections and restarts of the server.
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
  while (!stopped.aborted) {
    const { ended, heard } = await listen(id, listener, stopped);
    if (ended || stopped.aborted) return;
    if (heard) delay = FIRST_DELAY;
    // The stream broke. A request tells a server that is away from a job that is gone.
    try {
      const job = await getJob(id);
      if (stopped.aborted) return;
      listener.job(job);
    } catch (error) {
      if (error instanceof Problem && error.status < 500 && error.status !== 429) {
        if (!stopped.aborted) listener.refused(error);
        return;
      }
      await serverIsBack();
    }
    await pause(delay);
    delay = Math.min(2 * delay, LONGEST_DELAY);
  }
}

/**
 * Listen on one connection until it breaks, the job ends, or a caller stops it.
 * @param {string} id
 * @param {Listener} listener
 * @param {AbortSignal} stopped
 * @returns {Promise<{ended: boolean, heard: boolean}>}
 */
function listen(id, listener, stopped) {
  return new Promise((resolve) => {
    const source = new EventSource(jobPath(id, "events"));
    let heard = false;
    /** @param {boolean} ended */
    const close = (ended) => {
      source.close();
      stopped.removeEventListener("abort", stop);
      resolve({ ended, heard });
    };
    const stop = () => close(true);
    stopped.addEventListener("abort", stop);
    source.onerror = () => close(false);
    for (const kind of /** @type {const} */ (["job", "losses", "progress", "preview"])) {
      source.addEventListener(kind, (event) => {
        heard = true;
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
      source.onerror = () => close(true);
      setTimeout(() => close(true), 2000);
    }
  });
}
