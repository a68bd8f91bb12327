/**
 * The earlier images of this browser. The browser keeps the ids of its jobs, the server all else.
 * Tabs share the ids.
 */

import { Problem, getJob, hasEnded, jobPath } from "./api.js";
import { serverIsBack } from "./connection.js";
import { byId, element } from "./dom.js";
import { capital, when } from "./format.js";
import { look } from "./run.js";
import { showUpload } from "./upload.js";

/** @typedef {import("./api.js").Job} Job */

const KEY = "gramstyle.jobs";
const MOST = 60;
/** How often the cards of unfinished jobs are brought up to date, in milliseconds. */
const INTERVAL = 4000;

/** @returns {string[]} the ids, the newest first */
export function remembered() {
  try {
    const ids = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string") : [];
  } catch {
    return [];
  }
}

/** @param {Job} job */
const sizeOf = ({ width, height }) => (width && height ? `${width} × ${height}` : "");

/** @param {string[]} ids */
function store(ids) {
  try {
    localStorage.setItem(KEY, JSON.stringify(ids.slice(0, MOST)));
  } catch {
    // Without storage the history lasts as long as the page.
  }
}

/** @param {string} id */
export const remember = (id) => store([id, ...remembered().filter((other) => other !== id)]);

/** @param {string} id */
export const forget = (id) => store(remembered().filter((other) => other !== id));

/**
 * @param {object} told
 * @param {(job: Job) => void} told.again
 * @param {(job: Job) => void} told.remove
 */
export function historyView(told) {
  const section = byId("history");
  const list = byId("history-list");
  /** @type {Map<string, {job: Job | null, node: HTMLElement}>} */
  const cards = new Map();
  let timer = 0;
  let refreshes = 0;

  /** Show a card for each id, and bring the cards of unfinished jobs up to date. */
  async function refresh() {
    const mine = (refreshes += 1);
    clearTimeout(timer);
    const ids = remembered();
    for (const [id, { node }] of cards) {
      if (ids.includes(id)) continue;
      node.remove();
      cards.delete(id);
    }
    for (const id of ids) {
      if (!cards.has(id)) cards.set(id, { job: null, node: element("li") });
    }
    const nodes = ids.map((id) => /** @type {{node: HTMLElement}} */ (cards.get(id)).node);
    if (nodes.some((node, at) => list.children[at] !== node)) list.replaceChildren(...nodes);
    section.hidden = byId("to-history").hidden = ids.length === 0;
    const open = ids.filter((id) => {
      const job = cards.get(id)?.job;
      return !job || !hasEnded(job);
    });
    for (const id of open) await load(id);
    // A later refresh has its own timer.
    if (open.length && mine === refreshes) timer = window.setTimeout(() => void refresh(), INTERVAL);
  }

  /** @param {string} id */
  async function load(id) {
    try {
      show(await getJob(id));
    } catch (error) {
      if (error instanceof Problem && error.status === 404) {
        forget(id);
        cards.get(id)?.node.remove();
        cards.delete(id);
      }
      await serverIsBack();
    }
  }

  /** @param {Job} job */
  function show(job) {
    const card = cards.get(job.id);
    if (!card || (card.job && card.job.state === job.state && card.job.has_image === job.has_image)) return;
    card.job = job;
    const image = element("img", { alt: "", loading: "lazy" });
    if (job.has_image && hasEnded(job)) image.src = jobPath(job.id, "image.webp");
    else if (job.content) showUpload(image, job.content, "thumbnail");
    const state = hasEnded(job) && job.has_image ? "" : job.state;
    const link = element(
      "a",
      { href: `#job=${job.id}`, "aria-label": `Open: ${look(job)}, ${state || when(job.created ?? "")}` },
      image,
    );
    const again = element("button", { type: "button", class: "plain" }, "Again");
    again.setAttribute("aria-label", `Again with the settings of: ${look(job)}`);
    again.addEventListener("click", () => told.again(job));
    const remove = element("button", { type: "button", class: "plain" }, "Delete");
    remove.setAttribute("aria-label", `Delete: ${look(job)}`);
    remove.addEventListener("click", () => told.remove(job));
    card.node.replaceChildren(
      link,
      element("span", { class: "name" }, capital(job.preset ?? "balanced")),
      element("span", { class: "soft" }, [state || sizeOf(job), when(job.created ?? "")].filter(Boolean).join(" · ")),
      element("span", { class: "buttons" }, again, remove),
    );
  }

  window.addEventListener("storage", (event) => {
    if (event.key === KEY) void refresh();
  });

  return {
    refresh,
    /** @param {Job} job */
    update: (job) => show(job),
    /** The newest job that has not ended, or null. */
    async unfinished() {
      for (const id of remembered().slice(0, 5)) {
        const job = await getJob(id).catch(() => null);
        if (job && !hasEnded(job)) return job.id;
      }
      return null;
    },
  };
}
