// Pictures at the service: each is sent once and then named by reference, and sent again when the service forgot it.

import { ApiError, send, sendJson } from "./client.js";

/** @typedef {import("./types.js").ImageObject} ImageObject */

/** @type {WeakMap<Blob, Promise<ImageObject>>} */
const sent = new WeakMap();

/**
 * The image object of a picture, which is sent if it was not before.
 *
 * @param {Blob} blob
 * @returns {Promise<ImageObject>}
 * @throws {ApiError}
 */
export function upload(blob) {
  const known = sent.get(blob);
  if (known) return known;
  const form = new FormData();
  form.append("image", blob, "picture");
  const answer = sendJson("/v1/images", { body: form });
  sent.set(blob, answer);
  answer.catch(() => sent.delete(blob));
  return answer;
}

/** @param {Blob} blob Send this picture again at its next use. */
export function forget(blob) {
  sent.delete(blob);
}

/**
 * Run `use` with the references of pictures. If the service no longer has one, all are sent again and `use` runs once
 * more. `signal` ends the wait for pictures that are on their way, which go on.
 *
 * @template T
 * @param {Blob[]} blobs
 * @param {(images: ImageObject[]) => Promise<T>} use
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export async function withImages(blobs, use, signal) {
  const uploaded = () => unlessAborted(Promise.all(blobs.map(upload)), signal);
  try {
    return await use(await uploaded());
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "image_not_found") throw error;
    blobs.forEach(forget);
    return use(await uploaded());
  }
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>} Rejected as soon as the signal is aborted.
 */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const abort = () => reject(signal?.reason);
    signal?.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal?.removeEventListener("abort", abort));
  });
}

/**
 * A smaller JPEG of a picture, or of a page of a document, as the model would get it.
 *
 * @param {Blob} blob
 * @param {{enhance?: boolean, region?: string, page?: number | null, side?: number, signal?: AbortSignal}} [options]
 *   `side`: its longest side.
 * @returns {Promise<Blob>}
 */
export function preview(blob, { enhance = false, region, page, side, signal } = {}) {
  const draw = async (/** @type {ImageObject[]} */ [image]) => {
    const wanted = { enhance: enhance || undefined, region, page: page ?? undefined, side };
    const given = Object.entries(wanted).filter(([, value]) => value !== undefined);
    const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
    const path = `/v1/images/${encodeURIComponent(image.id)}/preview?${query}`;
    return (await send(path, { signal })).blob();
  };
  return withImages([blob], draw, signal);
}

/** @param {string} url Of a sent file. @param {number | null} page @returns {string} The URL of the page. */
export function pageUrl(url, page) {
  return page ? `${url}#page=${page}` : url;
}

/** @param {import("./types.js").Region} region @returns {string} As requests name it. */
export function regionText({ x, y, width, height }) {
  return `${[x, y, width, height].map(Math.round).join(",")}/1000`;
}
