// What an error means in plain words, and what to do about it.

import { ApiError } from "../api/client.js";
import messages from "../i18n/errors.js";
import { translator } from "../i18n/index.js";

const t = translator(messages);

/** @typedef {keyof typeof messages.en} Key */

/** @type {Record<string, string>} Texts of codes that need a text of their own. */
const CODES = {
  busy: "busy",
  connection_lost: "connection",
  context_length_exceeded: "context",
  deadline_exceeded: "deadline",
  host_not_allowed: "forbidden",
  image_not_found: "imageGone",
  invalid_answer: "answer",
  invalid_api_key: "key",
  invalid_image: "image",
  invalid_schema: "schema",
  missing_extra: "extra",
  model_not_found: "model",
  origin_not_allowed: "forbidden",
  stopping: "stopping",
  too_many_images: "images",
  unreachable: "unreachable",
  unsupported_image: "format",
  unsupported_video: "format",
};

/** @type {Record<number, string>} Texts of the statuses of all other codes. */
const STATUSES = {
  400: "request",
  401: "key",
  403: "forbidden",
  404: "missing",
  408: "slow",
  413: "large",
  414: "large",
  415: "format",
  422: "answer",
  429: "busy",
  500: "fault",
  502: "unreachable",
  503: "stopping",
  504: "deadline",
};

/** Codes that the same question gets again: something else must change first. */
const FINAL = new Set(["context", "extra", "image", "format", "images", "schema", "large", "forbidden", "model"]);

/**
 * @param {unknown} error An ApiError, or the error of a turn.
 * @returns {{title: string, advice: string, detail: string, retry: boolean}} `detail`: the service's own words.
 */
export function explain(error) {
  const { status, code, message } = /** @type {{status?: number, code?: string, message?: string}} */ (error ?? {});
  const known = status !== undefined && code !== undefined && status >= 0;
  const name = (known && (CODES[code] ?? STATUSES[status])) || "page";
  const detail = message && message !== code ? message : "";
  return { title: text(`${name}Title`), advice: text(`${name}Advice`), detail, retry: !FINAL.has(name) };
}

/** @param {string} key */
function text(key) {
  return t(/** @type {Key} */ (key));
}

/** @param {unknown} error @returns {boolean} Whether the service cannot be reached. */
export function isOffline(error) {
  return error instanceof ApiError && (error.status === 0 || error.status === 502);
}
