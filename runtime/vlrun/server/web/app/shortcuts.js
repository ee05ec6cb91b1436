// Keys that work everywhere on the page.

import { stop } from "./ask.js";
import { startConversation } from "./conversations.js";
import { app, openDialog } from "./store.js";

/** @type {Record<string, () => void>} By the key's place on the keyboard, with Alt. */
const WITH_ALT = {
  KeyN: () => startConversation(),
  KeyO: () => document.querySelector(".composer input[type=file]")?.dispatchEvent(new MouseEvent("click")),
  KeyH: () => openDialog("history"),
  KeyS: () => openDialog("settings"),
};

/** @param {KeyboardEvent} event */
export function onShortcut(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || app.value.dialog) return;
  const target = event.target instanceof HTMLElement ? event.target : null;
  const isTyping = target?.matches("input:not([type=radio], [type=checkbox], [type=range]), textarea, select, [contenteditable]");
  const action = event.altKey ? WITH_ALT[event.code] : plain(event.key, isTyping === true);
  if (!action) return;
  event.preventDefault();
  action();
}

/** @param {string} key @param {boolean} isTyping @returns {(() => void) | undefined} */
function plain(key, isTyping) {
  if (key === "Escape") return stop;
  if (isTyping) return undefined;
  if (key === "/") return () => document.getElementById("question")?.focus();
  return key === "?" ? () => openDialog("help") : undefined;
}
