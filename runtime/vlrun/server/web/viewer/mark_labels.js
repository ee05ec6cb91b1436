// Where the labels of marks go: inside the pane, without overlap, the chosen one first.

/** @typedef {import("./marks.js").DrawnMark} DrawnMark */
/** @typedef {import("./view.js").Size} Size */
/** @typedef {import("./view.js").View} View */
/**
 * @typedef {object} PlacedLabel In pane pixels.
 * @property {number} index
 * @property {string} text
 * @property {string} colour
 * @property {boolean} dark Whether the colour is dark, so that the text must be light.
 * @property {number} x
 * @property {number} y
 * @property {number} width
 * @property {number} height
 */

const FONT = '600 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans CJK SC", sans-serif';
const HEIGHT = 20;
const PADDING = 6;
const MAX_CHARACTERS = 40;
/** With more marks than this, labels would hide the picture: only the chosen mark has one. */
const MAX_LABELLED = 30;
const DARK_COLOURS = new Set(["#0072b2"]);

/**
 * @param {readonly DrawnMark[]} marks
 * @param {number | null} activeMark
 * @param {View} view
 * @param {Size} pane
 * @returns {PlacedLabel[]}
 */
export function placeLabels(marks, activeMark, view, pane) {
  const labelled = marks.filter((mark) => mark.label && (marks.length <= MAX_LABELLED || mark.index === activeMark));
  labelled.sort((a, b) => Number(b.index === activeMark) - Number(a.index === activeMark));
  /** @type {PlacedLabel[]} */
  const placed = [];
  for (const mark of labelled) {
    const label = place(mark, view, pane);
    if (label && !placed.some((other) => overlap(label, other))) placed.push(label);
  }
  return placed;
}

/** @param {DrawnMark} mark @param {View} view @param {Size} pane @returns {PlacedLabel | null} */
function place(mark, view, pane) {
  const [left, top, right, bottom] = mark.box.map((edge, axis) => (axis % 2 ? view.y : view.x) + edge * view.scale);
  if (right < 0 || bottom < 0 || left > pane.width || top > pane.height) return null;
  const text = shortened(mark.label, Math.max(40, pane.width * 0.6));
  const width = Math.min(textWidth(text) + 2 * PADDING, pane.width);
  const gap = mark.isPoint ? 10 : 2;
  const above = top - HEIGHT - gap;
  const below = mark.isPoint ? bottom + gap : Math.max(top, 0) + gap;
  return {
    index: mark.index,
    text,
    colour: mark.colour,
    dark: DARK_COLOURS.has(mark.colour),
    x: Math.min(Math.max(left - (mark.isPoint ? width / 2 : 1), 0), pane.width - width),
    y: Math.min(Math.max(above >= 0 ? above : below, 0), Math.max(0, pane.height - HEIGHT)),
    width,
    height: HEIGHT,
  };
}

/** @param {PlacedLabel} a @param {PlacedLabel} b */
function overlap(a, b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** @type {Map<string, number>} */
const widths = new Map();
/** @type {CanvasRenderingContext2D | null} */
let ruler = null;

/** @param {string} text */
function textWidth(text) {
  const known = widths.get(text);
  if (known !== undefined) return known;
  ruler ??= document.createElement("canvas").getContext("2d");
  if (ruler) ruler.font = FONT;
  const width = ruler ? ruler.measureText(text).width : text.length * 8;
  if (widths.size > 2000) widths.clear();
  widths.set(text, width);
  return width;
}

/** @param {string} label @param {number} width In pixels. */
function shortened(label, width) {
  const characters = Array.from(label.slice(0, 2 * MAX_CHARACTERS).replace(/\s+/g, " "));
  let length = Math.min(characters.length, MAX_CHARACTERS);
  const text = () => characters.slice(0, length).join("") + (length < characters.length ? "…" : "");
  while (length > 1 && textWidth(text()) > width) length -= 1;
  return text();
}
