// Tables as CSV (RFC 4180) that spreadsheets open without running anything.

import { isNumber, textOf } from "./json_value.js";

/** @typedef {import("./tables.js").Table} Table */

/** Spreadsheets take such text for a formula, also behind spaces and in full width. */
const FORMULA = /^[\s\0]*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r]/;
const PLAIN_NUMBER = /^[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
/** Tells spreadsheets that the file is UTF-8. */
export const BYTE_ORDER_MARK = "\ufeff";

/**
 * @param {Table} table
 * @returns {string} A line of column names and one for each row, each ended by CRLF.
 */
export function toCsv({ columns, rows }) {
  const width = columns.length;
  const lines = rows.map((row) => Array.from({ length: width }, (_, column) => cell(row[column])).join(","));
  return [columns.map(cell).join(","), ...lines].map((line) => `${line}\r\n`).join("");
}

/** @param {unknown} value */
function cell(value) {
  if (isNumber(value)) return String(value);
  const text = textOf(value);
  const safe = FORMULA.test(text) && !PLAIN_NUMBER.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
