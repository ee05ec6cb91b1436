// The request of a question: which earlier turns and pictures it has, and how.

import { regionText } from "../api/images.js";

/** @typedef {import("./state.js").Conversation} Conversation */
/** @typedef {import("./state.js").Turn} Turn */

/**
 * @typedef {object} RequestOptions
 * @property {boolean} heat Whether a heat map is wanted.
 * @property {string} language
 * @property {boolean} thinks Whether the model can think.
 * @property {import("../api/types.js").TaskObject[]} tasks
 */

/**
 * Earlier turns that a question continues: those about the same pictures and the same part. The answers of tasks are
 * left out, because a task is always asked on its own.
 *
 * @param {Conversation} conversation
 * @param {Turn} turn
 * @returns {Turn[]}
 */
export function earlierTurns(conversation, turn) {
  if (turn.task || turn.json) return [];
  const view = viewOf(turn);
  const before = conversation.turns.slice(0, conversation.turns.indexOf(turn));
  return before.filter(
    (earlier) => !earlier.task && !earlier.json && earlier.text && !earlier.error && startsWith(view, viewOf(earlier)),
  );
}

/** @param {Turn} turn What it shows, as text for each picture. */
function viewOf({ pictures, region }) {
  return pictures.map((key, index) => (index === 0 && region ? `${key} ${regionText(region)}` : key));
}

/** @param {string[]} view @param {string[]} earlier */
function startsWith(view, earlier) {
  return earlier.every((name, index) => view[index] === name);
}

/**
 * The body of a chat completion.
 *
 * @param {Conversation} conversation
 * @param {Turn} turn
 * @param {import("./settings.js").Settings} settings
 * @param {Map<string, string>} urls The URL of each picture by its key.
 * @param {RequestOptions} options
 * @returns {object}
 */
export function requestBody(conversation, turn, settings, urls, options) {
  const turns = [...earlierTurns(conversation, turn), turn];
  const messages = turns.flatMap((each, index) => {
    const seen = index ? turns[index - 1].pictures.length : 0;
    const pictures = each.pictures.slice(seen).map((key, number) => {
      const url = /** @type {string} */ (urls.get(key));
      return isVideo(conversation, key) ? videoOf(url, settings) : pictureOf(url, seen + number, turn, settings);
    });
    const text = each.question ? [{ type: "text", text: each.question }] : [];
    const question = { role: "user", content: [...pictures, ...text] };
    return each === turn ? [question] : [question, { role: "assistant", content: each.text }];
  });
  const system = settings.system.trim();
  return {
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    ...numbers(settings, turn),
    ...(turn.json ? { response_format: formatOf(turn.schema) } : {}),
    ...(options.thinks && !settings.thinking ? { enable_thinking: false } : {}),
    ...extension(turn, settings, { ...options, heat: options.heat && !turn.pictures.some((key) => isVideo(conversation, key)) }),
  };
}

/** @param {Conversation} conversation @param {string} key */
function isVideo({ pictures }, key) {
  return pictures.some((picture) => picture.key === key && picture.seconds);
}

/** @param {string} url @param {import("./settings.js").Settings} settings */
function videoOf(url, { detail }) {
  return { type: "video_url", video_url: { url, ...(detail === "auto" ? {} : { detail }) } };
}

/**
 * @param {string} url
 * @param {number} index
 * @param {Turn} turn
 * @param {import("./settings.js").Settings} settings
 */
function pictureOf(url, index, turn, settings) {
  return {
    type: "image_url",
    image_url: {
      url,
      ...(settings.detail === "auto" ? {} : { detail: settings.detail }),
      ...(index === 0 && turn.region ? { region: regionText(turn.region) } : {}),
      ...(turn.enhance ? { enhance: true } : {}),
    },
  };
}

/** @param {import("./settings.js").Settings} settings @param {Turn} turn With temperature 0, all votes are the same. */
function numbers({ temperature, topP, maxTokens, seed, votes }, { task, json }) {
  const isVote = (task !== null || json) && votes > 1;
  const all = { temperature: isVote && temperature === 0 ? null : temperature, top_p: topP, max_tokens: maxTokens, seed };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
}

/** @param {string} schema */
function formatOf(schema) {
  if (!schema.trim()) return { type: "json_object" };
  return { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(schema) } };
}

/** @typedef {Pick<Turn, "task" | "json" | "pictures">} Asked What is asked. */

/**
 * The answers that the settings make of one. Tiles need a single picture.
 *
 * @param {Asked} asked
 * @param {import("./settings.js").Settings} settings
 * @param {import("../api/types.js").TaskObject[]} tasks
 */
function severalAnswers({ task, json, pictures }, settings, tasks) {
  const canTile = pictures.length === 1 && tasks.some(({ id, merge }) => id === task?.id && merge);
  return {
    ...((task || json) && settings.votes > 1 ? { votes: settings.votes } : {}),
    ...(canTile && settings.tiles ? { tiles: settings.tiles } : {}),
    ...(task && settings.steps ? { steps: true } : {}),
  };
}

/** @param {import("./state.js").State} state @returns {boolean} Whether the next answer can have a heat map: a single one. */
export function canHaveHeat({ task, json, conversation, settings, tasks }) {
  const asked = { task, json: json && !task, pictures: conversation.pictures.map(({ key }) => key) };
  return !Object.keys(severalAnswers(asked, settings, tasks)).length;
}

/**
 * What the settings add to a question.
 *
 * @param {Turn} turn
 * @param {import("./settings.js").Settings} settings
 * @param {RequestOptions} options
 */
function extension(turn, settings, { heat, language, tasks }) {
  const { task, pictures } = turn;
  const several = severalAnswers(turn, settings, tasks);
  const isSingle = !Object.keys(several).length;
  const fields = {
    ...(task ? { task: task.id, language } : {}),
    ...(task?.items.length ? { items: task.items } : {}),
    ...(task?.fields.length ? { fields: task.fields } : {}),
    ...several,
    ...(heat && isSingle && pictures.length ? { heatmap: true } : {}),
  };
  return Object.keys(fields).length ? { vlrun: fields } : {};
}
