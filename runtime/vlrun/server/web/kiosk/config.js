// What the operator has configured: `vlrun serve --kiosk-config FILE`.

import { sendJson } from "../api/client.js";
import { language } from "../i18n/index.js";

/** @typedef {string | {en?: string, zh?: string}} Localized */

/**
 * @typedef {object} Question
 * @property {Localized} label What the button says.
 * @property {Localized} [question] What the model is asked; by default the label, or what the task asks.
 * @property {string} [task]
 * @property {string[]} [items]
 * @property {string[]} [fields]
 */

/**
 * @typedef {object} Config
 * @property {Localized | null} [title]
 * @property {string | null} [logo] The path of a picture.
 * @property {number} idle_seconds
 * @property {"en" | "zh" | "auto"} language
 * @property {"auto" | "light" | "dark"} theme
 * @property {boolean} free_text
 * @property {Question[]} questions
 */

/** @returns {Promise<Config>} */
export function readConfig() {
  return sendJson("/kiosk/config.json");
}

/** @param {Localized | null | undefined} text @returns {string} The text in the language of the page, or in the other one. */
export function localized(text) {
  if (!text || typeof text === "string") return text ?? "";
  return text[language()] ?? text.en ?? text.zh ?? "";
}
