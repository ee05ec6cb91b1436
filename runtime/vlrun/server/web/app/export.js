// Conversations as JSON, with their pictures as data URLs; and finding words in them.

import { saveText } from "../answer/save.js";
import { loadConversation } from "../store/conversations.js";
import { taskName } from "./task_texts.js";

/** @typedef {import("./state.js").Conversation} Conversation */

const TITLE_LENGTH = 80;

/** @param {Conversation} conversation */
export function titleOf({ turns, pictures }) {
  const [first] = turns;
  const text = first ? first.question || taskName(first.task ?? { id: "" }) : (pictures[0]?.name ?? "");
  return text.length > TITLE_LENGTH ? `${text.slice(0, TITLE_LENGTH)}…` : text;
}

/** @param {Conversation} conversation @param {string} query @returns {boolean} Whether it has all words. */
export function matches({ turns, pictures }, query) {
  const texts = turns.flatMap(({ question, text, task }) => [question, text, task ? taskName(task) : ""]);
  const all = [...texts, ...pictures.map(({ name }) => name)].join("\n").toLocaleLowerCase();
  return query.toLocaleLowerCase().split(/\s+/).every((word) => all.includes(word));
}

/** @param {Conversation[]} conversations Save them as a file. */
export async function downloadConversations(conversations) {
  const whole = await Promise.all(conversations.map(async (each) => (await loadConversation(each.id)) ?? each));
  const exported = await Promise.all(whole.map(exportOf));
  const text = JSON.stringify({ format: "vlrun conversations", version: 1, conversations: exported }, null, 2);
  saveText(text, `vlrun-${new Date().toISOString().slice(0, 10)}.json`, "application/json");
}

/** @param {Conversation} conversation */
async function exportOf({ id, created, updated, pictures, turns }) {
  const firstOf = (/** @type {string} */ file) => pictures.find((each) => each.file === file)?.key;
  return {
    id,
    created: new Date(created).toISOString(),
    updated: new Date(updated).toISOString(),
    pictures: await Promise.all(
      pictures.map(async ({ key, name, page, file, width, height, blob }) => {
        const same = file && firstOf(file) !== key ? { data_of: firstOf(file) } : null; // a document is written once
        return { key, name, ...(page ? { page } : {}), width, height, ...(same ?? { data: blob && (await dataUrl(blob)) }) };
      }),
    ),
    turns: turns.map(({ question, task, pictures: keys, region, enhance, text, reasoning, extension, timings, usage }) => {
      const { value, marks, votes } = extension;
      return { question, task, pictures: keys, region, enhance, text, reasoning, value, marks, votes, timings, usage };
    }),
  };
}

/** @param {Blob} blob @returns {Promise<string>} */
function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
