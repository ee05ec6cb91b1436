// Wraps parts of rendered text: the words of marks, and single words that can be chosen for the heat map.

import { sourceOffsets } from "./source_map.js";

/** @typedef {import("./spans.js").Span} Span */

/** So many words of an answer can be chosen; each is an element. */
export const MAX_WORDS = 3000;
const UNTOUCHED = "button, .link-target, .formula, math";

/**
 * Wrap the text of each span in an element with `data-mark`.
 *
 * @param {HTMLElement} container
 * @param {string} source The Markdown of the container's text.
 * @param {number} start The offset of `source` in the answer.
 * @param {readonly (Span | null)[]} spans
 */
export function wrapMarks(container, source, start, spans) {
  const inside = spans.flatMap((span, mark) =>
    span && span[1] > start && span[0] < start + source.length ? [{ mark, from: span[0] - start, to: span[1] - start }] : [],
  );
  if (!inside.length) return;
  // Where spans lie in each other, the shorter one counts.
  const owner = new Int32Array(source.length).fill(-1);
  inside.sort((a, b) => b.to - b.from - (a.to - a.from));
  for (const { mark, from, to } of inside) owner.fill(mark, Math.max(0, from), to);
  const first = new Set();
  for (const [node, offsets] of sourceOffsets(container, source)) {
    if (!node.parentElement?.closest(UNTOUCHED)) wrap(node, runs(offsets, owner), (mark) => markElement(mark, first));
  }
}

/** @param {number} mark @param {Set<unknown>} seen Only the first part of a mark can have the focus. */
function markElement(mark, seen) {
  const element = document.createElement("span");
  element.className = "mark-words";
  element.dataset.mark = String(mark);
  if (!seen.has(mark)) {
    element.tabIndex = 0;
    element.role = "button";
  }
  seen.add(mark);
  return element;
}

/**
 * @param {Int32Array} offsets
 * @param {Int32Array} owner
 * @returns {{from: number, to: number, key: number}[]} Runs of characters with the same owner.
 */
function runs(offsets, owner) {
  /** @type {{from: number, to: number, key: number}[]} */
  const found = [];
  offsets.forEach((offset, at) => {
    const key = offset < 0 ? -1 : owner[offset];
    const last = found.at(-1);
    if (key < 0) return;
    if (last && last.key === key && last.to === at) last.to = at + 1;
    else found.push({ from: at, to: at + 1, key });
  });
  return found;
}

/**
 * Replace parts of a text node by elements with the same text.
 *
 * @param {Text} node
 * @param {{from: number, to: number, key: number}[]} parts In order, without overlap.
 * @param {(key: number) => HTMLElement} create
 */
function wrap(node, parts, create) {
  if (!parts.length) return;
  const pieces = document.createDocumentFragment();
  let end = 0;
  for (const { from, to, key } of parts) {
    if (from > end) pieces.append(node.data.slice(end, from));
    const element = create(key);
    element.append(node.data.slice(from, to));
    pieces.append(element);
    end = to;
  }
  if (end < node.data.length) pieces.append(node.data.slice(end));
  node.replaceWith(pieces);
}

/**
 * Make the words of a container choosable: elements with `data-start` and `data-end`, offsets in the answer.
 *
 * @param {HTMLElement} container
 * @param {string} source
 * @param {number} start
 * @param {string} language
 */
export function wrapWords(container, source, start, language) {
  const segmenter = new Intl.Segmenter(language, { granularity: "word" });
  let count = 0;
  for (const [node, offsets] of sourceOffsets(container, source)) {
    if (node.parentElement?.closest(UNTOUCHED)) continue;
    /** @type {{from: number, to: number, key: number}[]} */
    const words = [];
    for (const { segment, index, isWordLike } of segmenter.segment(node.data)) {
      if (!isWordLike || offsets[index] < 0 || count >= MAX_WORDS) continue;
      words.push({ from: index, to: index + segment.length, key: words.length });
      count += 1;
    }
    wrap(node, words, (key) => {
      const element = document.createElement("span");
      element.className = "word";
      element.role = "button";
      element.tabIndex = -1;
      element.dataset.start = String(start + offsets[words[key].from]);
      element.dataset.end = String(start + offsets[words[key].to - 1] + 1);
      return element;
    });
  }
}
