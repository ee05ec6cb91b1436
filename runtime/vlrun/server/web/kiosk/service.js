// Waits for the service: after a restart, while it loads its model, at boot.

import { ApiError, readiness } from "../api/client.js";

const FIRST_MS = 500;
const LONGEST_MS = 5000;
const PATIENCE_MS = 10_000; // of one request: a service that hangs must not stop the kiosk

/**
 * Wait until the service answers questions.
 *
 * @param {AbortSignal} signal Ends the wait.
 * @returns {Promise<void>} Rejected with an AbortError if the signal ends it.
 */
export async function untilReady(signal) {
  for (let pause = FIRST_MS; !(await isReady(signal)); pause = Math.min(pause * 2, LONGEST_MS)) {
    await delay(pause, signal);
  }
}

/** @param {AbortSignal} [signal] @returns {Promise<boolean>} */
export async function isReady(signal) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  try {
    return (await readiness(signal ? AbortSignal.any([signal, patience]) : patience)).ready;
  } catch {
    signal?.throwIfAborted();
    return false;
  }
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export function delay(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", abort, { once: true });
  });
}

/** @param {unknown} error @returns {boolean} Whether the service is away or loading, so that waiting helps. */
export function isAway(error) {
  return error instanceof ApiError && (error.status === 0 || error.status === 502 || error.status === 503);
}
