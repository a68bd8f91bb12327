/**
 * Images from the user to the server, and where the browser finds them again.
 *
 * @typedef {object} Source an image on the server
 * @property {string} id
 * @property {string} name
 * @property {number} [width] unknown for an image of an earlier run, until it is loaded
 * @property {number} [height]
 */

import { hasUpload, upload, uploadPath } from "./api.js";
import { serverIsBack } from "./connection.js";
import { bytes } from "./format.js";

/**
 * The images of this visit as the browser has them, by the ids of their uploads.
 * @type {Map<string, {image: Blob, url: string}>}
 */
const seen = new Map();

/**
 * Send an image to the server.
 * @param {Blob} image
 * @param {string} name
 * @param {Record<string, number | null>} limits
 * @returns {Promise<Source>}
 */
export async function send(image, name, limits) {
  const most = limits.upload_bytes;
  if (most && image.size > most) {
    throw new Error(
      `${name} has ${bytes(image.size)}; this server takes images of at most ${bytes(most)}.`,
    );
  }
  if (image.size === 0) throw new Error(`${name} is empty.`);
  const { id, width, height } = await upload(image, name);
  if (!seen.has(id)) seen.set(id, { image, url: URL.createObjectURL(image) });
  return { id, name, width, height };
}

/**
 * Send an image again that has been removed from the server, for example with its last job.
 * @param {Source} source gets its new id
 */
export async function renew(source) {
  if (await hasUpload(source.id)) return;
  const own = seen.get(source.id);
  if (!own) throw new Error(`The server no longer has this image: ${source.name}. Choose it again.`);
  source.id = (await upload(own.image, source.name)).id;
  seen.set(source.id, own);
}

/**
 * Show an upload in an image element: as the browser has it, else from the server.
 * @param {HTMLImageElement} image
 * @param {string} id
 * @param {"image" | "thumbnail"} part
 * @param {() => void} [gone] is told if the server no longer has it
 */
export function showUpload(image, id, part, gone) {
  const own = part === "image" ? seen.get(id)?.url : undefined;
  image.onerror = () => {
    image.onerror = null;
    // A server that is away is not one without the image.
    hasUpload(id).then(
      (there) => there || gone?.(),
      () => serverIsBack().then(() => showUpload(image, id, part, gone)),
    );
  };
  image.src = own ?? uploadPath(id, part);
}

/**
 * Return the image files of a drop or of the clipboard.
 * @param {DataTransfer | null} transfer
 * @returns {File[]}
 */
export function filesIn(transfer) {
  return [...(transfer?.files ?? [])];
}
