// Texts in English and Chinese. Each part of the page has a file of its own: `const t = translator(messages)`.

import { readValue, writeValue } from "../store/browser_storage.js";

const LANGUAGE = "vlrun.language";

/** @typedef {"en" | "zh"} Language */
/** @typedef {string | {one: string, other: string}} Message With `{name}` for values; forms for `{n}`. */

/** @type {Set<() => void>} */
const listeners = new Set();

/** @type {Language} */
let current = initial();

/** @returns {Language} */
function initial() {
  const chosen = readValue("local", LANGUAGE);
  if (chosen === "en" || chosen === "zh") return chosen;
  const known = navigator.languages.find((name) => /^(en|zh)\b/i.test(name));
  return known?.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** @returns {Language} */
export function language() {
  return current;
}

/**
 * Change the language of the page.
 *
 * @param {Language} next
 * @param {{remember?: boolean}} [options]
 */
export function setLanguage(next, { remember = true } = {}) {
  current = next;
  if (remember) writeValue("local", LANGUAGE, next);
  document.documentElement.lang = tag();
  for (const listener of listeners) listener();
}

/** @param {() => void} listener Called after the language changed. @returns {() => void} Ends it. */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** @returns {string} The language tag of the page. */
export function tag() {
  return current === "zh" ? "zh-CN" : "en";
}

/**
 * The function that looks up texts of one file.
 *
 * @template {Record<string, Message>} M
 * @param {{en: M, zh: {[K in keyof M]: Message}}} messages
 * @returns {(key: keyof M & string, values?: Record<string, string | number>) => string}
 */
export function translator(messages) {
  return (key, values = {}) => {
    const message = messages[current][key];
    return fill(typeof message === "string" ? message : message[form(values.n)], values);
  };
}

/** @param {string | number | undefined} n @returns {"one" | "other"} */
function form(n) {
  return new Intl.PluralRules(tag()).select(Number(n ?? 0)) === "one" ? "one" : "other";
}

/** @param {string} text @param {Record<string, string | number>} values */
function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? shown(values[name]) : whole));
}

/** @param {string | number} value */
function shown(value) {
  return typeof value === "number" ? value.toLocaleString(tag()) : value;
}
