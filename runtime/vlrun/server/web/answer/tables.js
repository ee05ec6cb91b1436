// The tables in a JSON value: lists of objects, columns with rows, counted items, series of a chart, fields.

import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";
import { isObject, isScalar } from "./json_value.js";

/** @typedef {{title: string, columns: string[], rows: unknown[][]}} Table */
/** @typedef {{name: string, points: {x: string, y: number}[]}} Series */

const t = translator(messages);

/** More would be unreadable; the tree shows all. */
const MAX_COLUMNS = 50;
/** Tables of one value: an object with thousands of lists is better read as a tree. */
const MAX_TABLES = 20;

/**
 * The tables of a value, in its order; empty if it has none.
 *
 * @param {unknown} value
 * @returns {Table[]}
 */
export function tablesOf(value) {
  if (Array.isArray(value)) return listTables("", value);
  if (!isObject(value)) return [];
  if (isPlace(value)) return listTables("", [value]);
  const counts = countsOf(value);
  if (counts) return [{ title: "", columns: [t("item"), t("count")], rows: [...counts.items, [t("total"), counts.total]] }];
  const series = seriesOf(value);
  if (series.length) return [seriesTable(series)];
  if (isGrid(value)) return [...fieldTables(value), gridTable(value)];
  const lists = Object.entries(value).flatMap(([key, part]) => (Array.isArray(part) ? listTables(key, part) : []));
  return [...fieldTables(value), ...lists].slice(0, MAX_TABLES);
}

/** @param {string} title @param {unknown[]} list @returns {Table[]} */
function listTables(title, list) {
  if (!list.length) return [];
  if (list.every(isScalar)) return [{ title, columns: [title || t("value")], rows: list.map((item) => [item]) }];
  if (list.every(Array.isArray)) return [rowsTable(title, list)];
  const columns = new Set(list.flatMap((item) => (isObject(item) ? Object.keys(item) : [])).slice(0, 100_000));
  const shown = [...columns].slice(0, MAX_COLUMNS);
  const rows = list.map((item) => (isObject(item) ? shown.map((column) => own(item, column)) : [item]));
  return shown.length ? [{ title, columns: shown, rows }] : [];
}

/** @param {string} title @param {unknown[][]} list @returns {Table} */
function rowsTable(title, list) {
  const width = Math.min(MAX_COLUMNS, Math.max(...list.slice(0, 1000).map((row) => row.length)));
  return { title, columns: Array.from({ length: width }, (_, column) => String(column + 1)), rows: list };
}

/** @param {Record<string, unknown>} value Its scalars as one table of fields. @returns {Table[]} */
function fieldTables(value) {
  const rows = Object.entries(value).filter(([, part]) => isScalar(part) || isObject(part));
  return rows.length ? [{ title: "", columns: [t("field"), t("value")], rows }] : [];
}

/** @param {Record<string, unknown>} value */
function isGrid(value) {
  return Array.isArray(value.columns) && value.columns.every(isScalar) && Array.isArray(value.rows) && value.rows.every(Array.isArray);
}

/** @param {Record<string, unknown>} value @returns {Table} */
function gridTable({ columns, rows }) {
  const names = /** @type {unknown[]} */ (columns).slice(0, MAX_COLUMNS).map(String);
  return { title: "", columns: names, rows: /** @type {unknown[][]} */ (rows) };
}

/**
 * The counted items of a count, or null for other values.
 *
 * @param {unknown} value
 * @returns {{items: [string, number][], total: number} | null}
 */
export function countsOf(value) {
  if (!isObject(value) || typeof value.total !== "number" || !isObject(value.items)) return null;
  const items = Object.entries(value.items);
  if (Object.keys(value).length !== 2 || !items.every(([, count]) => typeof count === "number")) return null;
  return { items: /** @type {[string, number][]} */ (items), total: value.total };
}

/**
 * The series of a chart; empty for other values.
 *
 * @param {unknown} value
 * @returns {Series[]}
 */
export function seriesOf(value) {
  if (!isObject(value) || !Array.isArray(value.series)) return [];
  const series = value.series.filter((part) => isObject(part) && Array.isArray(part.points));
  return series.map(({ name, points }) => ({
    name: String(name ?? ""),
    points: /** @type {unknown[]} */ (points).flatMap((point) =>
      isObject(point) && Number.isFinite(Number(point.y)) ? [{ x: String(point.x ?? ""), y: Number(point.y) }] : [],
    ),
  }));
}

/** @param {Series[]} series One row for each x, one column for each series. @returns {Table} */
function seriesTable(series) {
  /** @type {Map<string, unknown[]>} */
  const rows = new Map();
  series.forEach(({ points }, column) => {
    for (const { x, y } of points) {
      const row = rows.get(x) ?? [x, ...series.map(() => null)];
      row[column + 1] = y;
      rows.set(x, row);
    }
  });
  return { title: "", columns: ["x", ...series.map(({ name }) => name || t("series"))], rows: [...rows.values()] };
}

/** @param {Record<string, unknown>} object @param {string} key Inherited properties such as `constructor` do not count. */
function own(object, key) {
  return Object.hasOwn(object, key) ? object[key] : null;
}

/** @param {unknown} value @returns {boolean} Whether it is a box or a point. */
function isPlace(value) {
  return isObject(value) && ("bbox_2d" in value || "point_2d" in value);
}

/**
 * The objects of a value that are boxes or points, in order: the n-th one is the n-th mark.
 *
 * @param {unknown} value
 * @param {number} count How many marks there are.
 * @returns {Map<unknown, number>} Empty if the numbers differ.
 */
export function markIndexes(value, count) {
  /** @type {Map<unknown, number>} */
  const indexes = new Map();
  const open = [value];
  while (open.length && indexes.size <= count) {
    const part = open.pop();
    if (isPlace(part)) indexes.set(part, indexes.size);
    if (!isScalar(part)) open.push(...Object.values(/** @type {object} */ (part)).reverse().slice(0, 100_000));
  }
  return indexes.size === count ? indexes : new Map();
}
