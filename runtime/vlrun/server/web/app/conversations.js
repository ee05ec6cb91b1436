// Which conversation the page shows, and keeping it in the browser.

import {
  deleteAllConversations,
  deleteConversation,
  loadConversation,
  onHistoryTrouble,
  saveAtOnce,
  saveConversation,
} from "../store/conversations.js";
import { readValue, writeValue } from "../store/browser_storage.js";
import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { stop } from "./ask.js";
import { newConversation } from "./state.js";
import { app, isRunning, runningTurn, toast } from "./store.js";

const t = translator(messages);

const OPEN = "vlrun.conversation";
const DRAFT = "vlrun.draft";
const SAVE_MILLISECONDS = 400;

const CLEARED = { region: null, shownTurn: null, activeMark: null, tokens: null, task: null };

/** @type {import("./state.js").Conversation | null} As it was last saved or opened. */
let saved = null;

/** Show an empty conversation. The present one stays in the history. */
export function startConversation() {
  stop();
  void saveNow();
  show(newConversation(), { enhance: false, draft: "" });
  document.getElementById("question")?.focus();
}

/** @param {import("./state.js").Picture} picture Show a conversation about it alone. The present one stays in the history. */
export function startWith(picture) {
  stop();
  void saveNow();
  show({ ...newConversation(), pictures: [picture] });
}

/** @param {string} id Show a conversation of the history. */
export async function openConversation(id) {
  const conversation = await loadConversation(id);
  if (!conversation) return;
  stop();
  await saveNow();
  showSaved(conversation);
}

/** @param {import("./state.js").Conversation} conversation */
function showSaved(conversation) {
  saved = interrupted(conversation);
  show(saved);
}

/**
 * @param {import("./state.js").Conversation} conversation
 * @param {Partial<import("./state.js").State>} [changes]
 */
function show(conversation, changes) {
  app.set({ ...CLEARED, conversation, picture: conversation.pictures.at(-1)?.key ?? null, ...changes });
}

/** @param {string} id Delete a conversation for good, with what is being saved of it. */
export async function removeConversation(id) {
  if (app.value.conversation.id === id) leave();
  await deleteConversation(id);
}

/** Delete all conversations for good, with what is being saved of them. */
export async function removeAllConversations() {
  leave();
  await deleteAllConversations();
}

/** Show an empty conversation instead of one that is deleted; what is typed stays. */
function leave() {
  stop();
  show(newConversation());
}

/**
 * A conversation as it was saved: an answer that was coming when the page was closed was not finished.
 *
 * @param {import("./state.js").Conversation} conversation
 * @returns {import("./state.js").Conversation}
 */
function interrupted(conversation) {
  const turns = conversation.turns.map((turn) =>
    isRunning(turn) ? { ...turn, status: /** @type {const} */ ("stopped"), progress: null } : turn,
  );
  return { ...conversation, turns };
}

/** Keep the conversation and the draft from now on, and show again what the tab showed before it was reloaded. */
export async function keepConversations() {
  onHistoryTrouble(() => toast(t("historyFull"), { kind: "danger" }));
  app.set({ draft: readValue("session", DRAFT) ?? "" });
  const { conversation: first } = app.value;
  const open = await loadConversation(readValue("session", OPEN) ?? "");
  if (open && app.value.conversation === first) showSaved(open);
  let { conversation: seen } = app.value;
  /** @type {number | undefined} */
  let timer;
  app.listeners.add(() => {
    const { conversation, draft } = app.value;
    if ((readValue("session", DRAFT) ?? "") !== draft) writeValue("session", DRAFT, draft);
    if (conversation === seen) return;
    seen = conversation;
    clearTimeout(timer);
    timer = setTimeout(() => void saveNow(), runningTurn() ? 5 * SAVE_MILLISECONDS : SAVE_MILLISECONDS);
  });
  addEventListener("pagehide", () => {
    const { conversation } = app.value;
    writeValue("session", OPEN, conversation.id);
    saveAtOnce(conversation === saved ? null : conversation);
  });
}

/** Save the conversation without delay, if it has changed. */
export async function saveNow() {
  const { conversation } = app.value;
  writeValue("session", OPEN, conversation.id);
  if (conversation === saved) return;
  saved = conversation;
  if ((await saveConversation(conversation)) || app.value.conversation.id !== conversation.id) return;
  leave();
  toast(t("deletedElsewhere"));
}
