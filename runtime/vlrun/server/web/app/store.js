// The one store of the page, and changes that several parts make.

import { loadSettings } from "./settings.js";
import { Store, newConversation } from "./state.js";

/** @type {Store<import("./state.js").State>} */
export const app = new Store(
  /** @type {import("./state.js").State} */ ({
    conversation: newConversation(),
    draft: "",
    task: null,
    json: false,
    schema: "",
    picture: null,
    region: null,
    enhance: false,
    heat: false,
    shownTurn: null,
    activeMark: null,
    tokens: null,
    dialog: null,
    pageChoice: null,
    moment: null,
    keyNeeded: false,
    keyWrong: false,
    server: null,
    offline: false,
    tasks: [],
    settings: loadSettings(),
    toasts: [],
    adding: false,
  }),
);

/** @param {Partial<import("./state.js").Conversation>} changes */
export function changeConversation(changes) {
  app.set({ conversation: { ...app.value.conversation, updated: Date.now(), ...changes } });
}

/** @param {string} id @param {Partial<import("./state.js").Turn>} changes */
export function changeTurn(id, changes) {
  const { turns } = app.value.conversation;
  if (!turns.some((turn) => turn.id === id)) return; // another conversation is shown
  changeConversation({ turns: turns.map((turn) => (turn.id === id ? { ...turn, ...changes } : turn)) });
}

/** @returns {import("./state.js").Turn | undefined} The turn that is being answered. */
export function runningTurn() {
  return app.value.conversation.turns.find(isRunning);
}

/** @param {import("./state.js").Turn} turn */
export function isRunning(turn) {
  return ["sending", "waiting", "reading", "answering"].includes(turn.status);
}

/** @param {import("./state.js").DialogName} dialog */
export function openDialog(dialog) {
  app.set({ dialog });
}

const TOAST_SECONDS = 8;
let toastNumber = 0;

/**
 * Show a message for some seconds.
 *
 * @param {string} text
 * @param {{kind?: "info" | "danger", action?: {label: string, run: () => void} | null}} [options]
 */
export function toast(text, { kind = "info", action = null } = {}) {
  const id = ++toastNumber;
  app.set({ toasts: [...app.value.toasts.slice(-2), { id, text, kind, action }] });
  setTimeout(() => dismissToast(id), TOAST_SECONDS * 1000);
}

/** @param {number} id */
export function dismissToast(id) {
  if (app.value.toasts.some((shown) => shown.id === id))
    app.set({ toasts: app.value.toasts.filter((shown) => shown.id !== id) });
}
