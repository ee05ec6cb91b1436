// Requests to the service that sent this page, with its API key, and errors as values.

import { readValue, writeValue } from "../store/browser_storage.js";

const KEY = "vlrun.api-key";
const JSON_TYPE = { "Content-Type": "application/json" };

/** An error of the service, or of the way to it. */
export class ApiError extends Error {
  /**
   * @param {object} error
   * @param {number} error.status The HTTP status; 0 if the service was not reached or the connection broke.
   * @param {string} error.code
   * @param {string} [error.message]
   * @param {string | null} [error.param]
   * @param {number | null} [error.retryAfter] Seconds to wait.
   */
  constructor({ status, code, message = "", param = null, retryAfter = null }) {
    super(message || code);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

/** @type {Set<(wrong: boolean) => void>} */
const keyListeners = new Set();

/** @returns {string} The API key of this session; empty if there is none. */
export function apiKey() {
  return readValue("session", KEY) ?? "";
}

/** @param {string} key The key; empty to forget it. Browsers keep it until the tab is closed. */
export function setApiKey(key) {
  writeValue("session", KEY, key);
}

/**
 * Call `listener` when the service asks for a key, with whether one was sent.
 *
 * @param {(wrong: boolean) => void} listener
 * @returns {() => void} Ends it.
 */
export function onKeyNeeded(listener) {
  keyListeners.add(listener);
  return () => void keyListeners.delete(listener);
}

/** @param {unknown} error @returns {boolean} Whether the caller itself stopped the request. */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/**
 * Send a request. An object as body is sent as JSON.
 *
 * @param {string} path
 * @param {{method?: string, body?: FormData | object, signal?: AbortSignal, accept?: string}} [options]
 * @returns {Promise<Response>} An answer with a good status.
 * @throws {ApiError}
 */
export async function send(path, { method, body, signal, accept } = {}) {
  const isForm = body instanceof FormData;
  const key = apiKey();
  /** @type {Record<string, string>} */
  const headers = { ...(body && !isForm ? JSON_TYPE : {}), ...(accept ? { Accept: accept } : {}) };
  if (key) headers.Authorization = `Bearer ${key}`;
  const content = body === undefined || isForm ? body : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method: method ?? (body ? "POST" : "GET"), body: content, headers, signal });
  } catch (error) {
    throw isAbort(error) ? error : new ApiError({ status: 0, code: "unreachable" });
  }
  if (response.ok) return response;
  if (response.status === 401) for (const listener of keyListeners) listener(key !== "");
  throw await errorOf(response);
}

/**
 * Send a request and read the JSON of its answer.
 *
 * @param {string} path
 * @param {Parameters<typeof send>[1]} [options]
 * @returns {Promise<any>}
 */
export async function sendJson(path, options) {
  const response = await send(path, options);
  try {
    return await response.json();
  } catch (error) {
    throw isAbort(error) ? error : new ApiError({ status: 0, code: "connection_lost" });
  }
}

/**
 * The state of the service. It answers with 503 while it is not ready, which is no error here.
 *
 * @param {AbortSignal} [signal]
 * @returns {Promise<import("./types.js").Readiness>}
 */
export async function readiness(signal) {
  try {
    return await sendJson("/health/ready", { signal });
  } catch (error) {
    const body = error instanceof ApiError ? bodies.get(error) : undefined;
    if (body && typeof body === "object" && "status" in body) return /** @type {any} */ (body);
    throw error;
  }
}

/** @type {WeakMap<ApiError, unknown>} The bodies of errors. */
const bodies = new WeakMap();

/** @param {Response} response @returns {Promise<ApiError>} */
async function errorOf(response) {
  /** @type {any} */
  let body;
  try {
    body = await response.json();
  } catch {
    body = {};
  }
  const { message, code, param } = body?.error ?? {};
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const error = new ApiError({
    status: response.status,
    code: code ?? `http_${response.status}`,
    message,
    param,
    retryAfter: Number.isNaN(seconds) ? null : seconds,
  });
  bodies.set(error, body);
  return error;
}
