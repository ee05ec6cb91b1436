// Boxes and points on the picture: which are drawn, in what colour, and which one lies under the pointer.

import { html, useMemo } from "../vendor/preact.js";
import { placeLabels } from "./mark_labels.js";

/** @typedef {import("./view.js").Point} Point */
/** @typedef {import("./view.js").Size} Size */
/** @typedef {import("./view.js").View} View */
/** @typedef {{label: string, box?: readonly number[] | null, point?: readonly number[] | null}} Mark In pixels. */
/** @typedef {readonly [number, number, number, number]} Box Left, top, right, bottom. */
/**
 * @typedef {object} DrawnMark
 * @property {number} index In the marks of the answer.
 * @property {string} label
 * @property {Box} box A point is an empty box.
 * @property {boolean} isPoint
 * @property {string} colour
 * @property {boolean} dashed
 */

/** Colours that colour-blind readers can tell apart (Okabe and Ito), without black. */
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"];
/** More would hide the picture and slow down zooming; the chosen one is always drawn. */
export const MAX_DRAWN = 500;
const POINT_RADIUS = 7;
/** How close to a point or a thin box the pointer must be, in pane pixels. */
const REACH = 10;

/**
 * The marks that lie in the picture, with their colours: one for each label.
 *
 * @param {readonly Mark[] | null | undefined} marks
 * @param {Size} picture
 * @returns {DrawnMark[]}
 */
export function drawnMarks(marks, picture) {
  /** @type {Map<string, number>} */
  const labels = new Map();
  /** @type {DrawnMark[]} */
  const drawn = [];
  (marks ?? []).forEach((mark, index) => {
    const box = boxOf(mark, picture);
    if (!box) return;
    const label = String(mark.label ?? "");
    const order = labels.get(label) ?? labels.size;
    labels.set(label, order);
    const [colour, dashed] = [COLOURS[order % COLOURS.length], order >= COLOURS.length];
    drawn.push({ index, label, box, isPoint: box[0] === box[2] && box[1] === box[3], colour, dashed });
  });
  return drawn;
}

/** @param {Mark} mark @param {Size} picture @returns {Box | null} Null if nothing of it lies in the picture. */
function boxOf(mark, picture) {
  const edges = mark?.box ?? (mark?.point ? [...mark.point, ...mark.point] : null);
  if (!Array.isArray(edges) || edges.length !== 4 || !edges.every(Number.isFinite)) return null;
  const [left, right] = [Math.min(edges[0], edges[2]), Math.max(edges[0], edges[2])];
  const [top, bottom] = [Math.min(edges[1], edges[3]), Math.max(edges[1], edges[3])];
  if (right < 0 || bottom < 0 || left > picture.width || top > picture.height) return null;
  return [Math.max(0, left), Math.max(0, top), Math.min(picture.width, right), Math.min(picture.height, bottom)];
}

/**
 * The index of the smallest mark at a point of the picture, or null.
 *
 * @param {readonly DrawnMark[]} marks
 * @param {Point} point
 * @param {number} scale Pane pixels per picture pixel.
 */
export function markAt(marks, point, scale) {
  /** @type {DrawnMark | null} */
  let best = null;
  for (const mark of marks) {
    const [left, top, right, bottom] = mark.box;
    const reach = mark.isPoint || Math.min(right - left, bottom - top) * scale < 2 * REACH ? REACH / scale : 0;
    const inside =
      point.x >= left - reach && point.x <= right + reach && point.y >= top - reach && point.y <= bottom + reach;
    if (inside && (!best || area(mark) < area(best))) best = mark;
  }
  return best ? best.index : null;
}

/** @param {DrawnMark} mark */
function area({ box: [left, top, right, bottom] }) {
  return (right - left) * (bottom - top);
}

/**
 * Draws marks over the pane, in the picture's coordinates.
 *
 * @param {object} props
 * @param {readonly DrawnMark[]} props.marks
 * @param {number | null} props.activeMark
 * @param {View} props.view
 * @param {Size} props.pane
 * @param {number} [props.zoom] Of the labels.
 */
export function Marks({ marks, activeMark, view, pane, zoom = 1 }) {
  const shown = useMemo(() => {
    const first = marks.slice(0, MAX_DRAWN);
    const active = marks.find((mark) => mark.index === activeMark);
    // The last one lies on top of the others.
    return active ? [...first.filter((mark) => mark !== active), active] : first;
  }, [marks, activeMark]);
  const unit = 1 / view.scale;
  const viewBox = [-view.x * unit, -view.y * unit, pane.width * unit, pane.height * unit].join(" ");
  const labelPane = { width: pane.width / zoom, height: pane.height / zoom };
  const labelView = { ...view, x: view.x / zoom, y: view.y / zoom, scale: view.scale / zoom };
  const labels = placeLabels(shown, activeMark, labelView, labelPane);
  return html`
    <svg class=${`marks${activeMark === null ? "" : " has-active"}`} viewBox=${viewBox} aria-hidden="true">
      ${shown.map((mark) => html`<${Shape} key=${mark.index} mark=${mark} active=${mark.index === activeMark} unit=${unit} />`)}
    </svg>
    <svg class="mark-labels" viewBox=${`0 0 ${labelPane.width} ${labelPane.height}`} aria-hidden="true">
      ${labels.map(
        (label) => html`<g key=${label.index} transform=${`translate(${label.x} ${label.y})`}>
          <rect width=${label.width} height=${label.height} rx="4" fill=${label.colour} />
          <text x="6" y="14" class=${label.dark ? "on-dark" : ""}>${label.text}</text>
        </g>`,
      )}
    </svg>
  `;
}

/** @param {{mark: DrawnMark, active: boolean, unit: number}} props A dark line below keeps it visible on any picture. */
function Shape({ mark, active, unit }) {
  const [left, top, right, bottom] = mark.box;
  const classes = `mark${active ? " active" : ""}${mark.dashed ? " dashed" : ""}`;
  if (mark.isPoint) {
    return html`<g class=${classes}>
      <circle class="mark-halo" cx=${left} cy=${top} r=${POINT_RADIUS * unit} />
      <circle class="mark-line" cx=${left} cy=${top} r=${POINT_RADIUS * unit} stroke=${mark.colour} fill=${mark.colour} />
    </g>`;
  }
  const frame = { x: left, y: top, width: right - left, height: bottom - top };
  return html`<g class=${classes}>
    <rect class="mark-halo" ...${frame} />
    <rect class="mark-line" ...${frame} stroke=${mark.colour} fill=${mark.colour} />
  </g>`;
}
