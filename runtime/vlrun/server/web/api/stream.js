// Streamed chat completions: server-sent events, read as they come.

import { ApiError, isAbort, send } from "./client.js";

/**
 * @typedef {{type: "waiting"} | {type: "chunk", chunk: import("./types.js").Chunk}} StreamEvent
 * `waiting`: the request is in the queue.
 */

/**
 * Ask, and yield the answer piece by piece. Aborting `signal` stops the model.
 *
 * @param {object} body The request, without `stream`.
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<StreamEvent, void>}
 * @throws {ApiError} With code `connection_lost` if the stream broke off.
 */
export async function* streamChat(body, signal) {
  const options = { include_usage: true, include_progress: true };
  const request = { ...body, stream: true, stream_options: options };
  const response = await send("/v1/chat/completions", { body: request, signal, accept: "text/event-stream" });
  let complete = false;
  for await (const line of lines(response, signal)) {
    if (line === ": waiting") yield { type: "waiting" };
    if (line === "data: [DONE]") complete = true;
    else if (line.startsWith("data: ")) yield { type: "chunk", chunk: parsed(line.slice("data: ".length)) };
  }
  if (!complete) throw new ApiError({ status: 0, code: "connection_lost" });
}

/**
 * The lines of a streamed body.
 *
 * @param {Response} response
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<string, void>}
 */
async function* lines(response, signal) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop() ?? "";
      yield* parts;
    }
  } catch (error) {
    if (signal.aborted || isAbort(error)) throw new DOMException("stopped", "AbortError");
    if (error instanceof ApiError) throw error;
    throw new ApiError({ status: 0, code: "connection_lost" });
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

/** @param {string} data @returns {import("./types.js").Chunk} */
function parsed(data) {
  const chunk = JSON.parse(data);
  if (chunk.error) throw streamError(chunk.error);
  return chunk;
}

/** @type {Record<string, number>} Statuses of the codes of errors that end a stream. */
const STATUSES = {
  busy: 429,
  deadline_exceeded: 504,
  image_not_found: 404,
  internal_error: 500,
  model_failed: 500,
  stopping: 503,
};

/** @param {{message?: string, code?: string, param?: string | null}} error */
function streamError({ message, code = "internal_error", param }) {
  return new ApiError({ status: STATUSES[code] ?? 400, code, message, param });
}
