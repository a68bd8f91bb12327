/** Whether the server answers: a banner while it does not, and a promise for when it does again. */

import { byId, say } from "./dom.js";

const FIRST_DELAY = 500;
const LONGEST_DELAY = 5000;

/** @type {Promise<void> | null} */
let probing = null;

/** Record that a request got no answer: show the banner, and ask until the server answers. */
export function serverIsAway() {
  probing ??= probe().finally(() => {
    probing = null;
  });
}

/**
 * Resolve at once while the server answers, else when it answers again.
 * @returns {Promise<void>}
 */
export function serverIsBack() {
  return probing ?? Promise.resolve();
}

async function probe() {
  const banner = byId("connection");
  say(banner, "The server does not answer. Trying again…");
  for (let delay = FIRST_DELAY; !(await answers()); delay = Math.min(2 * delay, LONGEST_DELAY)) {
    await pause(delay);
  }
  say(banner, "");
}

async function answers() {
  try {
    const response = await fetch("/healthz", { cache: "no-store" });
    return response.ok;
  } catch {
    return false;
  }
}

/**
 * Wait; a tab that comes to the front, or a network that comes back, ends the wait.
 * @param {number} milliseconds
 * @returns {Promise<void>}
 */
export function pause(milliseconds) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      document.removeEventListener("visibilitychange", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    window.addEventListener("online", end);
    document.addEventListener("visibilitychange", end);
  });
}
