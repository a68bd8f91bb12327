/**
 * The HTTP API of the server: one function for each request.
 *
 * @typedef {object} Option
 * @property {string} name
 * @property {string} label
 * @property {string} description
 * @property {"number" | "integer" | "choice" | "text" | "list"} type
 * @property {any} default
 * @property {number | null} [minimum]
 * @property {number | null} [maximum]
 * @property {string[] | null} [choices]
 *
 * @typedef {object} Preset
 * @property {string} name
 * @property {string} description
 * @property {Record<string, any>} values
 *
 * @typedef {{name: string, file: string}} Sample
 *
 * @typedef {object} About
 * @property {string} program
 * @property {boolean} locked
 * @property {string | null} live
 * @property {Record<string, number | null>} limits
 * @property {Preset[]} presets
 * @property {Option[]} options
 * @property {{content: Sample[], style: Sample[]}} samples
 *
 * @typedef {{id: string, width: number, height: number, bytes: number}} Upload
 *
 * @typedef {object} Job
 * @property {string} id
 * @property {"waiting" | "running" | "finished" | "cancelled" | "failed"} state
 * @property {number | null} position
 * @property {string | null} created
 * @property {string | null} content
 * @property {string[]} styles
 * @property {string | null} preset
 * @property {Record<string, any>} options
 * @property {number} iteration
 * @property {number} iterations
 * @property {number | null} loss
 * @property {number} seconds
 * @property {number | null} seconds_left
 * @property {number | null} width
 * @property {number | null} height
 * @property {number} scale
 * @property {number} scales
 * @property {boolean} has_image
 * @property {string | null} reason
 * @property {string | null} problem
 *
 * @typedef {{content: string, styles: string[], preset: string | null, options: Record<string, any>}} NewJob
 */

import { serverIsAway } from "./connection.js";
import { sentence } from "./format.js";

/** A request that the server refused; the message is the server's sentence. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   * @param {number | null} [retryAfter] seconds
   */
  constructor(status, detail, retryAfter = null) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** A request that got no answer. */
export class NoAnswer extends Error {
  constructor() {
    super("The server does not answer.");
  }
}

/** The event of the document when the server asks for a token. */
export const LOCKED = "gramstyle-locked";

/** What a proxy answers while no server is behind it. */
const AWAY = new Set([502, 503, 504]);

/**
 * @param {string} method
 * @param {string} path
 * @param {BodyInit | null} [body]
 * @param {Record<string, string>} [headers]
 * @returns {Promise<Response>}
 */
async function request(method, path, body = null, headers = {}) {
  let response;
  try {
    response = await fetch(path, { method, body, headers, cache: "no-store" });
  } catch {
    serverIsAway();
    throw new NoAnswer();
  }
  if (response.ok) return response;
  if (AWAY.has(response.status)) {
    serverIsAway();
    throw new NoAnswer();
  }
  if (response.status === 401 && path !== "/session") document.dispatchEvent(new Event(LOCKED));
  throw await problemOf(response);
}

/** @param {Response} response */
async function problemOf(response) {
  let detail = "";
  try {
    detail = (await response.json()).detail;
  } catch {
    // The body is not JSON: the status has to do.
  }
  const seconds = Number(response.headers.get("Retry-After"));
  return new Problem(
    response.status,
    typeof detail === "string" && detail ? sentence(detail) : `The server answers ${response.status}.`,
    seconds > 0 ? seconds : null,
  );
}

/** @param {any} value @returns {[string, Record<string, string>]} */
const asJson = (value) => [JSON.stringify(value), { "Content-Type": "application/json" }];

/** @returns {Promise<About>} */
export const about = async () => (await request("GET", "/about")).json();

/** @param {string} id @returns {Promise<boolean>} whether the server has an upload */
export async function hasUpload(id) {
  try {
    await request("GET", uploadPath(id, "thumbnail"));
    return true;
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
}

/** @param {string} token */
export const signIn = (token) => request("POST", "/session", ...asJson({ token }));

export const signOut = () => request("DELETE", "/session");

/** @param {Blob} image @param {string} name @returns {Promise<Upload>} */
export const upload = async (image, name) =>
  (await request("POST", `/uploads?name=${encodeURIComponent(name.slice(-200))}`, image)).json();

/** @param {NewJob} job @returns {Promise<Job>} */
export const startJob = async (job) => (await request("POST", "/jobs", ...asJson(job))).json();

/** @param {string} id @returns {Promise<Job>} */
export const getJob = async (id) => (await request("GET", jobPath(id))).json();

/** @param {string} id @returns {Promise<Job>} */
export const cancelJob = async (id) => (await request("POST", jobPath(id, "cancel"))).json();

/** @param {string} id */
export const deleteJob = (id) => request("DELETE", jobPath(id));

/**
 * Return the address of a job, or of a part of it.
 * @param {string} id
 * @param {string} [part]
 */
export const jobPath = (id, part) => `/jobs/${encodeURIComponent(id)}${part ? `/${part}` : ""}`;

/**
 * Return the address of an upload, as a small or as a large image.
 * @param {string} id
 * @param {"thumbnail" | "image"} part
 */
export const uploadPath = (id, part) => `/uploads/${encodeURIComponent(id)}/${part}`;

/** @param {Job} job */
export const hasEnded = (job) => job.state !== "waiting" && job.state !== "running";
