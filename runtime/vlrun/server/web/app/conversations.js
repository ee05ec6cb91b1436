// Which conversation the page shows, and keeping it in the browser.

import { deleteConversation, loadConversation, onHistoryTrouble, saveConversation } from "../store/conversations.js";
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

/** Show an empty conversation. The present one stays in the history, unless `keep` is false. */
export function startConversation({ keep = true } = {}) {
  stop();
  if (keep) void saveNow();
  app.set({ ...CLEARED, conversation: newConversation(), picture: null, enhance: false, draft: "" });
  document.getElementById("question")?.focus();
}

/** @param {string} id Show a conversation of the history. */
export async function openConversation(id) {
  const conversation = await loadConversation(id);
  if (!conversation) return;
  stop();
  await saveNow();
  app.set({ ...CLEARED, conversation: interrupted(conversation), picture: conversation.pictures.at(-1)?.key ?? null });
}

/** @param {import("./state.js").Conversation} conversation Delete it for good. */
export async function removeConversation(conversation) {
  await deleteConversation(conversation);
  if (app.value.conversation.id !== conversation.id) return;
  stop();
  app.set({ ...CLEARED, conversation: newConversation(), picture: null });
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
  const open = readValue("session", OPEN);
  if (open) await openConversation(open);
  /** @type {import("./state.js").Conversation} */
  let saved = app.value.conversation;
  /** @type {number | undefined} */
  let timer;
  app.listeners.add(() => {
    const { conversation, draft } = app.value;
    if ((readValue("session", DRAFT) ?? "") !== draft) writeValue("session", DRAFT, draft);
    if (conversation === saved) return;
    saved = conversation;
    clearTimeout(timer);
    timer = setTimeout(() => void saveNow(), runningTurn() ? 5 * SAVE_MILLISECONDS : SAVE_MILLISECONDS);
  });
  addEventListener("pagehide", () => void saveNow());
}

/** Save the conversation without delay. */
export async function saveNow() {
  const { conversation } = app.value;
  writeValue("session", OPEN, conversation.id);
  if (conversation.turns.length || conversation.pictures.length) await saveConversation(conversation);
}
