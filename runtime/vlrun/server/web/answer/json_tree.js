// A JSON value as a tree. Only open branches are drawn, as a flat list of rows: very deep values need no recursion.

import { html, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";
import { isNumber, isScalar, textOf } from "./json_value.js";

/**
 * @typedef {object} TreeRow
 * @property {string} path
 * @property {string | null} name Its key, or null for the root.
 * @property {unknown} value
 * @property {number} level From 1.
 * @property {number} size Number of siblings.
 * @property {number} position Among them, from 1.
 * @property {boolean} open
 * @property {number} hidden For the row that shows more: how many siblings are not drawn. Else 0.
 */

const t = translator(messages);

/** Rows that are open at first. */
const FIRST_ROWS = 60;
/** Children of one branch that are drawn before "Show more", and with it. */
const PAGE = 100;
const MAX_TEXT = 2000;
/** Deeper levels are no longer indented. */
const MAX_INDENT = 24;
/** "Expand" opens at most so many rows. */
const MAX_EXPANDED = 1000;

/**
 * @param {object} props
 * @param {unknown} props.value
 * @param {Map<unknown, number>} props.marks The marks of its objects.
 * @param {import("../viewer/active_mark.js").Marking} props.marking
 */
export function JsonTree({ value, marks, marking }) {
  const [open, setOpen] = useState(() => openedTo(value, FIRST_ROWS));
  const [pages, setPages] = useState(() => /** @type {Map<string, number>} */ (new Map()));
  const [current, setCurrent] = useState("");
  const tree = useRef(/** @type {HTMLElement | null} */ (null));
  const rows = useMemo(() => rowsOf(value, open, pages), [value, open, pages]);
  const focusNext = useRef(false);
  // An effect after the paint could run between the next key and its rendering, and take that key's focus away.
  useLayoutEffect(() => {
    if (focusNext.current) /** @type {HTMLElement | null | undefined} */ (tree.current?.querySelector('[tabindex="0"]'))?.focus();
    focusNext.current = false;
  });
  const at = Math.max(0, rows.findIndex((row) => row.path === current));

  /** @param {TreeRow} row */
  const toggle = (row) => {
    if (row.hidden) setPages(new Map(pages).set(row.path.slice(0, -1), (pages.get(row.path.slice(0, -1)) ?? PAGE) + PAGE));
    else if (!isScalar(row.value)) setOpen(toggled(open, row.path));
  };
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    const next = keyTarget(event.key, rows, at, toggle);
    if (next === null) return;
    event.preventDefault();
    event.stopPropagation();
    focusNext.current = true;
    setCurrent(rows[next].path);
  };
  return html`
    <div class="answer-actions">
      <button type="button" class="answer-button" onClick=${() => setOpen(openedTo(value, MAX_EXPANDED))}>${t("expandAll")}</button>
      <button type="button" class="answer-button" onClick=${() => setOpen(new Set([""]))}>${t("collapseAll")}</button>
    </div>
    <div class="json-tree" role="tree" aria-label=${t("treeLabel")} ref=${tree} onKeyDown=${onKey}>
      ${rows.map((row, index) => {
        const mark = marks.get(row.value);
        return html`<${RowView}
          key=${row.path}
          row=${row}
          current=${index === at}
          active=${mark !== undefined && mark === marking.active}
          onHover=${(/** @type {boolean} */ over) => mark !== undefined && marking.hover(over ? mark : null)}
          onChoose=${() => {
            setCurrent(row.path);
            toggle(row);
            if (mark !== undefined) marking.choose(mark);
          }}
        />`;
      })}
    </div>
  `;
}

/** @param {{row: TreeRow, current: boolean, active: boolean, onHover: (over: boolean) => void, onChoose: () => void}} props */
function RowView({ row, current, active, onHover, onChoose }) {
  const branch = !isScalar(row.value) && !row.hidden;
  return html`<div
    class=${`tree-row${active ? " active" : ""}`}
    role="treeitem"
    aria-level=${row.level}
    aria-setsize=${row.size}
    aria-posinset=${row.position}
    aria-expanded=${branch ? String(row.open) : undefined}
    aria-selected=${active ? "true" : undefined}
    tabindex=${current ? 0 : -1}
    style=${{ paddingInlineStart: `${Math.min(row.level - 1, MAX_INDENT) * 1.25}rem` }}
    onClick=${onChoose}
    onPointerEnter=${(/** @type {PointerEvent} */ event) => event.pointerType === "mouse" && onHover(true)}
    onPointerLeave=${(/** @type {PointerEvent} */ event) => event.pointerType === "mouse" && onHover(false)}
  >
    <span class="tree-twist" aria-hidden="true">${branch ? (row.open ? "▾" : "▸") : ""}</span>
    ${row.hidden
      ? html`<span class="tree-more">${t("more", { n: Math.min(row.hidden, PAGE) })}</span>`
      : html`${row.name !== null && html`<span class="tree-key">${shortened(row.name)}</span>`}<${Value} value=${row.value} />`}
  </div>`;
}

/** @param {{value: unknown}} props */
function Value({ value }) {
  if (Array.isArray(value)) return html`<span class="tree-size">${t("items", { n: value.length })}</span>`;
  if (!isScalar(value)) return html`<span class="tree-size">${t("keys", { n: Object.keys(/** @type {object} */ (value)).length })}</span>`;
  const kind = value === null ? "null" : isNumber(value) ? "number" : typeof value;
  const text = value === null ? "null" : textOf(value);
  return html`<span class=${`tree-value ${kind}`}>${kind === "string" && !text ? html`<i>${t("empty")}</i>` : shortened(text)}</span>`;
}

/**
 * The rows that are visible.
 *
 * @param {unknown} root
 * @param {Set<string>} open Paths of open branches.
 * @param {Map<string, number>} pages How many children of a branch are drawn, if not PAGE.
 * @returns {TreeRow[]}
 */
export function rowsOf(root, open, pages) {
  /** @type {TreeRow[]} */
  const rows = [];
  /** @type {TreeRow[]} */
  const next = [{ path: "", name: null, value: root, level: 1, size: 1, position: 1, open: open.has(""), hidden: 0 }];
  for (let row = next.pop(); row; row = next.pop()) {
    rows.push(row);
    if (!row.open || row.hidden || isScalar(row.value)) continue;
    next.push(...childrenOf(row, open, pages.get(row.path) ?? PAGE).reverse());
  }
  return rows;
}

/** @param {TreeRow} row @param {Set<string>} open @param {number} limit @returns {TreeRow[]} */
function childrenOf(row, open, limit) {
  const { value, path, level } = row;
  const names = Array.isArray(value) ? [...value.slice(0, limit).keys()].map(String) : Object.keys(/** @type {object} */ (value));
  const size = Array.isArray(value) ? value.length : names.length;
  const children = names.slice(0, limit).map((name, at) => {
    const child = /** @type {Record<string, unknown>} */ (value)[name];
    const childPath = `${path}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
    return { path: childPath, name, value: child, level: level + 1, size, position: at + 1, open: open.has(childPath), hidden: 0 };
  });
  const rest = { path: `${path}~`, name: null, value: null, level: level + 1, size, position: limit + 1, open: false, hidden: size - limit };
  return size > limit ? [...children, rest] : children;
}

/**
 * The branches to open, level by level, until so many rows are visible.
 *
 * @param {unknown} root
 * @param {number} limit
 */
function openedTo(root, limit) {
  const open = new Set([""]);
  let room = limit;
  let level = rowsOf(root, new Set(), new Map());
  while (level.length) {
    /** @type {TreeRow[]} */
    const below = [];
    for (const row of level) {
      const children = childrenOf(row, open, PAGE);
      room -= children.length;
      if (room < 0) return open;
      open.add(row.path);
      below.push(...children.filter((child) => !child.hidden && !isScalar(child.value)));
    }
    level = below;
  }
  return open;
}

/** @param {Set<string>} open @param {string} path */
function toggled(open, path) {
  const next = new Set(open);
  if (!next.delete(path)) next.add(path);
  return next;
}

/**
 * Where a key goes; it may open or close the row first.
 *
 * @param {string} key
 * @param {TreeRow[]} rows
 * @param {number} at
 * @param {(row: TreeRow) => void} toggle
 * @returns {number | null}
 */
function keyTarget(key, rows, at, toggle) {
  const row = rows[at];
  const branch = !isScalar(row.value) && !row.hidden;
  if (key === "ArrowDown") return Math.min(at + 1, rows.length - 1);
  if (key === "ArrowUp") return Math.max(at - 1, 0);
  if (key === "Home") return 0;
  if (key === "End") return rows.length - 1;
  if (key === "Enter" || key === " ") toggle(row);
  else if (key === "ArrowRight" && branch && !row.open) toggle(row);
  else if (key === "ArrowRight" && branch) return Math.min(at + 1, rows.length - 1);
  else if (key === "ArrowLeft" && branch && row.open) toggle(row);
  else if (key === "ArrowLeft") return Math.max(0, rows.findLastIndex((other, index) => index < at && other.level < row.level));
  else return null;
  return at;
}

/** @param {string} text */
function shortened(text) {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}… (${t("longText", { n: text.length })})` : text;
}
