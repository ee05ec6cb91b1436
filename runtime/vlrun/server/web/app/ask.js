// Asks a question, and puts its answer into the conversation as it comes.

import { ApiError, isAbort } from "../api/client.js";
import { pageUrl, withImages } from "../api/images.js";
import { streamChat } from "../api/stream.js";
import { language } from "../i18n/index.js";
import { requestBody } from "./request.js";
import { randomId } from "./state.js";
import { app, changeConversation, changeTurn, runningTurn } from "./store.js";

/** @typedef {import("./state.js").Turn} Turn */

/** @type {AbortController | null} */
let running = null;

/** @typedef {Pick<Turn, "progress" | "text" | "reasoning" | "extension" | "usage" | "timings" | "finish" | "error">} AnswerParts */

/** @type {AnswerParts} */
const EMPTY = {
  progress: null,
  text: "",
  reasoning: "",
  extension: {},
  usage: null,
  timings: null,
  finish: null,
  error: null,
};

/** Ask what is typed and chosen. Nothing happens while another question is being answered. */
export function askDraft() {
  const { draft, task, json, schema, picture, region, enhance, conversation } = app.value;
  const question = draft.trim();
  if ((!question && !task) || runningTurn()) return;
  const all = conversation.pictures.map(({ key }) => key);
  const id = randomId();
  /** @type {Turn} */
  const turn = {
    ...EMPTY,
    id,
    question,
    task,
    json: json && !task,
    schema,
    pictures: region && picture ? [picture] : all,
    region,
    enhance,
    status: "sending",
    attempts: 0,
  };
  changeConversation({ turns: [...conversation.turns, turn] });
  app.set({ draft: "", task: null, shownTurn: null, activeMark: null, tokens: null });
  void answer(id);
}

/** @param {string} id Ask a question of the conversation once more. */
export function askAgain(id) {
  if (runningTurn()) return;
  app.set({ shownTurn: null, activeMark: null, tokens: null });
  void answer(id);
}

/** Stop the model. What it wrote stays. */
export function stop() {
  running?.abort();
}

/** @param {string} id */
async function answer(id) {
  const controller = new AbortController();
  running = controller;
  const turn = turnOf(id);
  const pictures = turn.pictures.flatMap((key) => app.value.conversation.pictures.find((each) => each.key === key) ?? []);
  const keys = pictures.map(({ key }) => key); // the person may have removed some since
  const region = keys[0] === turn.pictures[0] ? turn.region : null;
  changeTurn(id, { ...EMPTY, status: "sending", attempts: turn.attempts + 1, pictures: keys, region });
  try {
    await withImages(
      pictures.map(({ blob }) => blob),
      async (images) => {
        const urls = new Map(pictures.map(({ key, page }, index) => [key, pageUrl(images[index].url, page)]));
        await receive(id, urls, controller.signal);
      },
      controller.signal,
    );
    changeTurn(id, { status: "done", progress: null });
  } catch (error) {
    if (isAbort(error)) changeTurn(id, { status: "stopped", progress: null });
    else changeTurn(id, { status: "failed", progress: null, error: errorOf(error) });
  } finally {
    if (running === controller) running = null;
  }
}

/** @param {string} id @returns {Turn} */
function turnOf(id) {
  const turn = app.value.conversation.turns.find((each) => each.id === id);
  if (!turn) throw new Error("the turn is gone");
  return turn;
}

/** @param {string} id @param {Map<string, string>} urls @param {AbortSignal} signal */
async function receive(id, urls, signal) {
  const { conversation, settings, server, heat, tasks } = app.value;
  const turn = turnOf(id);
  const body = requestBody(conversation, turn, settings, urls, {
    heat,
    language: language(),
    thinks: server?.thinks === true,
    tasks,
  });
  let answer = { ...EMPTY };
  const estimate = secondsLeft();
  changeTurn(id, { ...EMPTY, status: turn.pictures.length ? "reading" : "answering" });
  for await (const event of streamChat(body, signal)) {
    if (event.type === "waiting") {
      changeTurn(id, { status: "waiting" });
      continue;
    }
    const { choices, vlrun, usage, timings } = event.chunk;
    if (vlrun?.progress) {
      const progress = { ...vlrun.progress, secondsLeft: estimate(vlrun.progress) };
      changeTurn(id, { status: "reading", progress });
      continue;
    }
    answer = { ...answer, usage: usage ?? answer.usage, timings: timings ?? answer.timings };
    for (const choice of choices) answer = withChoice(answer, choice);
    const status = answer.text || answer.reasoning ? "answering" : turnOf(id).status;
    changeTurn(id, { ...answer, status, ...(status === "answering" ? {} : { progress: turnOf(id).progress }) });
  }
}

/**
 * @param {AnswerParts} answer
 * @param {import("../api/types.js").Chunk["choices"][0]} choice
 * @returns {AnswerParts}
 */
function withChoice(answer, { delta, vlrun, finish_reason: finish }) {
  return {
    ...answer,
    text: answer.text + (delta.content ?? ""),
    reasoning: answer.reasoning + (delta.reasoning_content ?? ""),
    extension: { ...answer.extension, ...vlrun },
    finish: finish ?? answer.finish,
  };
}

/** @returns {(progress: import("../api/types.js").Progress) => number | null} Estimates the rest of each phase. */
function secondsLeft() {
  let phase = "";
  let start = 0;
  let first = 0;
  return ({ phase: name, done, total }) => {
    const now = performance.now();
    if (name !== phase) [phase, start, first] = [name, now, done];
    const rate = (done - first) / (now - start);
    return rate > 0 ? (total - done) / rate / 1000 : null;
  };
}

/** @param {unknown} error @returns {import("./state.js").TurnError} */
function errorOf(error) {
  if (!(error instanceof ApiError)) return { status: -1, code: "page", message: String(error), param: null, retryAt: null };
  const { status, code, message, param, retryAfter } = error;
  return { status, code, message, param, retryAt: retryAfter === null ? null : Date.now() + retryAfter * 1000 };
}
