// The part of the picture that is asked about: a box, drawn and changed by pointer or keyboard. In thousandths.

import { html } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";

/** @typedef {import("./view.js").Point} Point */
/** @typedef {import("./view.js").Size} Size */
/** @typedef {import("./view.js").View} View */
/** @typedef {{x: number, y: number, width: number, height: number}} Region In thousandths of the picture. */
/** @typedef {"nw" | "n" | "ne" | "e" | "se" | "s" | "sw" | "w"} Handle */

const t = translator(messages);

const WHOLE = 1000;
/** The shortest side; a smaller part of a picture has next to no pixels. */
const MIN_SIDE = 20;
const KEY_STEP = 10;
/** What the keyboard starts with. */
export const START = Object.freeze({ x: 250, y: 250, width: 500, height: 500 });
/** @type {readonly Handle[]} */
const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
/** @type {Record<string, Point>} */
const ARROWS = {
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
};

/**
 * The region between two points of the picture, or null if they lie too close for a box.
 *
 * @param {Point} a In picture pixels.
 * @param {Point} b
 * @param {Size} picture
 * @returns {Region | null}
 */
export function between(a, b, picture) {
  const [left, right] = ordered((a.x / picture.width) * WHOLE, (b.x / picture.width) * WHOLE);
  const [top, bottom] = ordered((a.y / picture.height) * WHOLE, (b.y / picture.height) * WHOLE);
  if (right - left < MIN_SIDE || bottom - top < MIN_SIDE) return null;
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/** @param {Region} region @param {number} byX @param {number} byY In thousandths. @returns {Region} */
export function moved(region, byX, byY) {
  return {
    ...region,
    x: clamp(Math.round(region.x + byX), 0, WHOLE - region.width),
    y: clamp(Math.round(region.y + byY), 0, WHOLE - region.height),
  };
}

/**
 * Move the edges that a handle holds.
 *
 * @param {Region} region
 * @param {Handle} handle
 * @param {number} byX In thousandths.
 * @param {number} byY
 * @returns {Region}
 */
export function resized(region, handle, byX, byY) {
  let { x: left, y: top } = region;
  let [right, bottom] = [left + region.width, top + region.height];
  if (handle.includes("w")) left = clamp(Math.round(left + byX), 0, right - MIN_SIDE);
  if (handle.includes("e")) right = clamp(Math.round(right + byX), left + MIN_SIDE, WHOLE);
  if (handle.includes("n")) top = clamp(Math.round(top + byY), 0, bottom - MIN_SIDE);
  if (handle.includes("s")) bottom = clamp(Math.round(bottom + byY), top + MIN_SIDE, WHOLE);
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/**
 * What a key does to the box: arrows move it, with shift they move its right and bottom edges, with alt finely.
 *
 * @param {Region} region
 * @param {KeyboardEvent} event
 * @returns {Region | null} Null if the key means nothing here.
 */
export function keyed(region, event) {
  const arrow = ARROWS[event.key];
  if (!arrow) return null;
  const step = event.altKey ? 1 : KEY_STEP;
  return event.shiftKey
    ? resized(region, "se", arrow.x * step, arrow.y * step)
    : moved(region, arrow.x * step, arrow.y * step);
}

/**
 * A region of whole thousandths inside the picture, or null if the value is none.
 *
 * @param {Region | null | undefined} region
 * @returns {Region | null}
 */
export function validRegion(region) {
  if (!region || ![region.x, region.y, region.width, region.height].every(Number.isFinite)) return null;
  const corner = { x: region.x + region.width, y: region.y + region.height };
  return between(region, corner, { width: WHOLE, height: WHOLE });
}

/** @param {Region} region The sentence for screen readers. */
export function describe(region) {
  const percent = (/** @type {number} */ value) => Math.round(value / 10);
  return t("regionAt", {
    left: percent(region.x),
    top: percent(region.y),
    width: percent(region.width),
    height: percent(region.height),
  });
}

/**
 * The box with its handles; the rest of the picture is darkened.
 *
 * @param {object} props
 * @param {Region} props.region
 * @param {boolean} props.editing
 * @param {View} props.view
 * @param {Size} props.picture
 * @param {(event: KeyboardEvent) => void} props.onKey
 */
export function RegionBox({ region, editing, view, picture, onKey }) {
  const left = view.x + (region.x / WHOLE) * picture.width * view.scale;
  const top = view.y + (region.y / WHOLE) * picture.height * view.scale;
  const width = (region.width / WHOLE) * picture.width * view.scale;
  const height = (region.height / WHOLE) * picture.height * view.scale;
  const [across, down] = [picture.width * view.scale, picture.height * view.scale];
  const shade = `M${view.x} ${view.y}h${across}v${down}h${-across}Z M${left} ${top}v${height}h${width}v${-height}Z`;
  const style = { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` };
  return html`
    <svg class="region-shade" aria-hidden="true"><path fill-rule="evenodd" d=${shade} /></svg>
    ${editing
      ? html`<div
          class="region-box editing"
          data-region="move"
          style=${style}
          tabindex="0"
          role="application"
          aria-roledescription=${t("regionRole")}
          aria-label=${`${describe(region)} ${t("regionKeys")}`}
          onKeyDown=${onKey}
        >
          ${HANDLES.map((handle) => html`<span key=${handle} class=${`region-handle ${handle}`} data-region=${handle}></span>`)}
        </div>`
      : html`<div class="region-box" style=${style}></div>`}
  `;
}

/** @param {number} a @param {number} b @returns {[number, number]} */
function ordered(a, b) {
  const [low, high] = [a, b].map((value) => clamp(Math.round(value), 0, WHOLE)).sort((one, other) => one - other);
  return [low, high];
}

/** @param {number} value @param {number} low @param {number} high */
function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
