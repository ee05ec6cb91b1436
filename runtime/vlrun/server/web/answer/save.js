// Buttons that copy a text or save it as a file.

import { html, useEffect, useState } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";

const t = translator(messages);

const SHOWN_MS = 2000;

/**
 * @param {object} props
 * @param {string} props.label
 * @param {() => string} props.text
 */
export function CopyButton({ label, text }) {
  const [state, setState] = useState(/** @type {"" | "copied" | "copyFailed"} */ (""));
  useEffect(() => {
    const timer = state ? setTimeout(() => setState(""), SHOWN_MS) : undefined;
    return () => clearTimeout(timer);
  }, [state]);
  const copy = async () => setState((await copyText(text())) ? "copied" : "copyFailed");
  return html`<button type="button" class="answer-button" onClick=${copy}>
    <span aria-live="polite">${state ? t(state) : label}</span>
  </button>`;
}

/**
 * @param {object} props
 * @param {string} props.label
 * @param {string} props.name Of the file.
 * @param {string} props.type
 * @param {() => string} props.text
 */
export function SaveButton({ label, name, type, text }) {
  return html`<button type="button" class="answer-button" onClick=${() => saveText(text(), name, type)}>${label}</button>`;
}

/**
 * Copy a text, also where the clipboard is closed to pages: over plain HTTP from another machine.
 *
 * @param {string} text
 * @returns {Promise<boolean>}
 */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

/** @param {string} text */
function copySelected(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  const focused = document.activeElement;
  // Inside an open dialog, nothing outside it can have the focus.
  (focused?.closest("dialog") ?? document.body).append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return copied;
}

/** @param {string} text @param {string} name @param {string} type */
export function saveText(text, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
