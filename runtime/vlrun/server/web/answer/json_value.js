// JSON values as they were written: `12.50` stays `12.50`, and long numbers keep all their digits.

/** A number whose notation a JavaScript number would lose. */
export class ExactNumber {
  /** @param {string} source */
  constructor(source) {
    this.source = source;
  }

  toString() {
    return this.source;
  }

  toJSON() {
    const raw = /** @type {{rawJSON?: (source: string) => unknown}} */ (/** @type {unknown} */ (JSON)).rawJSON;
    return raw ? raw(this.source) : Number(this.source);
  }
}

/**
 * Parse an answer that is an object or a list.
 *
 * @param {string} text
 * @returns {object | null} Null if it is not, or not yet complete.
 */
export function parseJson(text) {
  const start = text.trimStart()[0];
  if (start !== "{" && start !== "[") return null;
  try {
    return JSON.parse(text, /** @type {(key: string, value: unknown) => unknown} */ (exact));
  } catch (error) {
    // Browsers revive values recursively, so very deep ones fail.
    return error instanceof RangeError ? parsePlain(text) : null;
  }
}

/** @param {string} text @returns {object | null} */
function parsePlain(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {string} _key @param {unknown} value @param {{source?: string}} [context] */
function exact(_key, value, context) {
  const source = context?.source;
  return typeof value === "number" && source && String(value) !== source ? new ExactNumber(source) : value;
}

/** @param {unknown} value @returns {value is Record<string, unknown>} */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof ExactNumber);
}

/** @param {unknown} value @returns {value is number | ExactNumber} */
export function isNumber(value) {
  return typeof value === "number" || value instanceof ExactNumber;
}

/** @param {unknown} value Whether it has no parts. */
export function isScalar(value) {
  return !Array.isArray(value) && !isObject(value);
}

/** @param {unknown} value @returns {string} A scalar as it is, anything else as JSON. */
export function textOf(value) {
  if (value === null || value === undefined) return "";
  return isScalar(value) ? String(value) : formatted(value, 0);
}

/**
 * @param {unknown} value
 * @param {number} [indent]
 * @returns {string} JSON; very deep values cannot be formatted and give "…".
 */
export function formatted(value, indent = 2) {
  try {
    return JSON.stringify(value, null, indent) ?? "";
  } catch {
    return "…";
  }
}
