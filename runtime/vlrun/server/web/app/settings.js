// What the person chose, kept in the browser. An absent number means the model's default.

import { readValue, writeValue } from "../store/browser_storage.js";

const NAME = "vlrun.settings";

/**
 * @typedef {object} Settings
 * @property {"light" | "dark" | "auto"} theme
 * @property {"low" | "auto" | "high"} detail
 * @property {number | null} temperature
 * @property {number | null} topP
 * @property {number | null} maxTokens
 * @property {number | null} seed
 * @property {string} system
 * @property {boolean} thinking
 * @property {number} votes
 * @property {string} tiles
 * @property {boolean} steps
 * @property {boolean} timings Whether they are shown under each answer.
 */

/** @type {Settings} */
export const DEFAULTS = {
  theme: "auto",
  detail: "auto",
  temperature: null,
  topP: null,
  maxTokens: null,
  seed: null,
  system: "",
  thinking: true,
  votes: 1,
  tiles: "",
  steps: false,
  timings: false,
};

/** @returns {Settings} */
export function loadSettings() {
  try {
    const saved = JSON.parse(readValue("local", NAME) ?? "{}");
    const known = Object.entries(DEFAULTS).filter(([name, value]) => sameKind(saved?.[name], value));
    return { ...DEFAULTS, ...Object.fromEntries(known.map(([name]) => [name, saved[name]])) };
  } catch {
    return { ...DEFAULTS };
  }
}

/** @param {unknown} saved @param {unknown} value A default; null stands for a number. */
function sameKind(saved, value) {
  return value === null ? saved === null || typeof saved === "number" : typeof saved === typeof value;
}

/** @param {Settings} settings */
export function saveSettings(settings) {
  writeValue("local", NAME, JSON.stringify(settings));
  applyTheme(settings.theme);
}

/** @param {Settings["theme"]} theme */
export function applyTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
