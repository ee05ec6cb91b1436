// One person's picture, questions and answer. `reset` forgets all of it, here and at the service.

import { ApiError, isAbort, send } from "../api/client.js";
import { forget, upload, withImages } from "../api/images.js";
import { streamChat } from "../api/stream.js";
import { requestBody } from "./request.js";
import { delay, isAway, untilReady } from "./service.js";

/** @typedef {import("./config.js").Question} Question */
/** @typedef {"sending" | "queued" | "reading" | "thinking" | "writing" | "waiting" | "busy" | "done" | "stopped"} Phase */

/**
 * @typedef {object} Answer
 * @property {string} text
 * @property {import("../api/types.js").Extension | null} result What the service says about the whole answer.
 */

/**
 * @typedef {object} State
 * @property {"home" | "camera" | "ask" | "answer"} screen
 * @property {File | Blob | null} picture
 * @property {{width: number, height: number} | null} size Of the upright picture, when the service has it.
 * @property {string} draft What was typed.
 * @property {Question | null} question The question that is answered.
 * @property {Phase} phase
 * @property {Answer} answer
 * @property {{percent: number, since: number} | null} progress
 * @property {"badPicture" | "largePicture" | "tooLong" | "failed" | "refused" | "cameraProblem" | null} problem
 * @property {boolean} needsKey
 */

const MOST_BREAKS = 5; // a question that ends the service each time is not asked for ever
const BUSY_SECONDS = 3; // until it is asked again, if the service does not say
const LONGEST_BUSY_SECONDS = 30;
const NO_ANSWER = { text: "", result: null };

/** @type {State} */
const FRESH = {
  screen: "home",
  picture: null,
  size: null,
  draft: "",
  question: null,
  phase: "done",
  answer: NO_ANSWER,
  progress: null,
  problem: null,
  needsKey: false,
};

export class Session {
  /** @type {State} */
  state = FRESH;
  /** @type {Set<() => void>} */
  #listeners = new Set();
  #asked = new AbortController();
  /** @type {Promise<string | null>} The id of the picture at the service. */
  #sent = Promise.resolve(null);

  /** @param {() => void} listener Called after each change. @returns {() => void} Ends it. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Called when everything was forgotten. */
  onReset = () => {};

  /** @param {Partial<State>} change */
  update(change) {
    this.state = { ...this.state, ...change };
    for (const listener of this.#listeners) listener();
  }

  /** @returns {boolean} Whether there is nothing to forget. */
  get isFresh() {
    return this.state.screen === "home" && this.state.problem === null;
  }

  /** @returns {boolean} Whether the service works on the question. */
  get isAnswering() {
    return this.state.screen === "answer" && !["done", "stopped"].includes(this.state.phase);
  }

  /** Forget everything. */
  reset() {
    this.#forget();
    this.onReset();
  }

  #forget() {
    this.#asked.abort();
    const { picture, needsKey } = this.state;
    if (picture) {
      forget(picture);
      void this.#sent.then(remove);
    }
    this.#sent = Promise.resolve(null);
    this.update({ ...FRESH, needsKey });
  }

  /** @param {File | Blob} picture */
  show(picture) {
    this.#forget(); // but not the language
    this.update({ screen: "ask", picture });
    this.#sent = this.#send(picture);
  }

  /**
   * Send the picture early, so that a bad one is found before a question is chosen.
   *
   * @param {Blob} picture
   * @returns {Promise<string | null>}
   */
  async #send(picture) {
    try {
      const image = await upload(picture);
      if (this.state.picture === picture) this.update({ size: image });
      return image.id;
    } catch (error) {
      if (this.state.picture === picture && error instanceof ApiError) this.#explain(error);
      return null;
    }
  }

  /** @param {Question} question */
  async ask(question) {
    this.#asked.abort();
    const asked = new AbortController();
    this.#asked = asked;
    this.update({ screen: "answer", question, problem: null });
    for (let breaks = 0; ; breaks += 1) {
      this.update({ phase: "sending", answer: NO_ANSWER, progress: null });
      try {
        await this.#stream(question, asked.signal);
        return this.update({ phase: "done", progress: null });
      } catch (error) {
        if (asked.signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        if (breaks >= MOST_BREAKS || !(await this.#recovered(error, asked.signal))) return this.#explain(error);
      }
    }
  }

  /** Stop the answer; what has come of it stays. */
  stop() {
    this.#asked.abort();
    this.update({ phase: "stopped", progress: null });
  }

  /**
   * Wait until it makes sense to ask again.
   *
   * @param {ApiError} error
   * @param {AbortSignal} signal
   * @returns {Promise<boolean>} False if waiting does not help, or nobody wants the answer.
   */
  async #recovered(error, signal) {
    try {
      if (error.status === 429) {
        this.update({ phase: "busy", progress: null });
        await delay(Math.min(error.retryAfter ?? BUSY_SECONDS, LONGEST_BUSY_SECONDS) * 1000, signal);
        return true;
      }
      if (!isAway(error)) return false;
      this.update({ phase: "waiting", progress: null });
      await untilReady(signal);
      return true;
    } catch (stopped) {
      if (isAbort(stopped)) return false;
      throw stopped;
    }
  }

  /**
   * @param {Question} question
   * @param {AbortSignal} signal
   */
  async #stream(question, signal) {
    const { picture } = this.state;
    if (!picture) return;
    await withImages([picture], async ([image]) => {
      // The person may have left while it was sent once more.
      if (signal.aborted) return this.state.picture === picture ? undefined : remove(image.id);
      this.#sent = Promise.resolve(image.id);
      this.update({ size: image });
      for await (const event of streamChat(requestBody(image, question), signal)) {
        if (signal.aborted) return;
        if (event.type === "waiting") this.update({ phase: "queued" });
        else this.#take(event.chunk);
      }
    });
  }

  /** @param {import("../api/types.js").Chunk} chunk */
  #take(chunk) {
    const { progress } = chunk.vlrun ?? {};
    if (progress) {
      const since = this.state.progress?.since ?? performance.now();
      this.update({ phase: "reading", progress: { percent: progress.percent, since } });
    }
    const [choice] = chunk.choices;
    if (!choice) return;
    const { answer } = this.state;
    const text = answer.text + (choice.delta.content ?? "");
    const thinks = !text && choice.delta.reasoning_content;
    const phase = thinks ? "thinking" : text ? "writing" : this.state.phase;
    this.update({ phase, answer: { text, result: choice.vlrun ?? answer.result } });
  }

  /** @param {ApiError} error */
  #explain(error) {
    if (isAbort(error) || isAway(error)) {
      // The picture is sent again with the question.
      if (this.state.screen === "answer" && !isAbort(error)) this.update({ phase: "stopped", problem: "failed" });
      return;
    }
    if (error.status === 401 || error.status === 403) return this.update({ needsKey: true, phase: "stopped" });
    const ofPicture = { 400: "badPicture", 413: "largePicture", 415: "badPicture", 422: "badPicture" }[error.status];
    if (this.state.screen !== "answer" && ofPicture) {
      this.#forget();
      return this.update({ problem: /** @type {State["problem"]} */ (ofPicture) });
    }
    const problem = error.status === 504 ? "tooLong" : error.status === 400 ? "refused" : "failed";
    this.update({ phase: "stopped", problem });
  }
}

/**
 * Delete a picture at the service. If it is away it has forgotten the picture, which it keeps in memory only.
 *
 * @param {string | null} id
 */
async function remove(id) {
  try {
    if (id) await send(`/v1/images/${id}`, { method: "DELETE" });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}
