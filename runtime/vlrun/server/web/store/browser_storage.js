// Small values in the browser: `local` ones stay, `session` ones are forgotten with the tab. Where the person has
// forbidden it, they are kept until the page is closed.

/** @type {Record<string, string>} */
const kept = {};

/** @param {"local" | "session"} kind @returns {Storage | null} */
function storage(kind) {
  try {
    return kind === "local" ? localStorage : sessionStorage;
  } catch {
    return null;
  }
}

/** @param {"local" | "session"} kind @param {string} name @returns {string | null} */
export function readValue(kind, name) {
  return kept[name] ?? storage(kind)?.getItem(name) ?? null;
}

/** @param {"local" | "session"} kind @param {string} name @param {string} value Empty to forget it. */
export function writeValue(kind, name, value) {
  delete kept[name];
  try {
    if (value) storage(kind)?.setItem(name, value);
    else storage(kind)?.removeItem(name);
  } catch {
    kept[name] = value; // the storage is full
  }
  if (value && !storage(kind)) kept[name] = value;
}
