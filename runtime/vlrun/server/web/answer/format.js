// Whether an answer is shown as a JSON value or as words.

/** How models begin an answer about places that is JSON although none was asked for. */
const JSON_START = /^\s*[[{]/;

/**
 * @param {string} text
 * @param {{value?: unknown, marks?: readonly unknown[] | null}} extension What the service tells about the answer.
 * @returns {"json" | "text"}
 */
export function formatOf(text, { value, marks }) {
  return value !== undefined || (marks?.length && JSON_START.test(text)) ? "json" : "text";
}
