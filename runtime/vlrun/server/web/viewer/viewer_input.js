// What pointers and keys do to the picture viewer.

import { markAt } from "./marks.js";
import { between, keyed, moved, resized } from "./region.js";
import { fit, isFitted, pan, STEP, toPicture, zoom } from "./view.js";

/** @typedef {import("./view.js").Point} Point */
/** @typedef {import("./view.js").Size} Size */
/** @typedef {import("./view.js").View} View */
/** @typedef {import("./region.js").Region} Region */
/** @typedef {import("./region.js").Handle} Handle */
/**
 * @typedef {object} Surface The state of a viewer, as its input needs it.
 * @property {Size} pane
 * @property {Size} picture
 * @property {View} view
 * @property {(view: View | ((view: View) => View)) => void} setView
 * @property {readonly import("./marks.js").DrawnMark[]} marks
 * @property {import("./active_mark.js").Marking} marking
 * @property {Region | null} region
 * @property {boolean} focusing
 * @property {(region: Region | null) => void} setDraft
 * @property {(region: Region | null) => void} changeRegion
 */

const PAN_STEP = 60;
/** How close a double tap brings the picture. */
const DOUBLE_TAP_ZOOM = 2.5;
/** @type {Record<string, Point>} */
const PANS = {
  ArrowLeft: { x: PAN_STEP, y: 0 },
  ArrowRight: { x: -PAN_STEP, y: 0 },
  ArrowUp: { x: 0, y: PAN_STEP },
  ArrowDown: { x: 0, y: -PAN_STEP },
};
/** @type {Record<string, number>} */
const ZOOMS = { "+": STEP, "=": STEP, "-": 1 / STEP, _: 1 / STEP };

/** @param {Surface} surface @param {number} factor Around the middle of the pane. */
export function zoomBy({ view, setView, pane, picture }, factor) {
  setView(zoom(view, factor, { x: pane.width / 2, y: pane.height / 2 }, pane, picture));
}

/**
 * Do what a key means.
 *
 * @param {KeyboardEvent} event
 * @param {Surface} surface
 * @returns {boolean} Whether it meant something.
 */
export function keyAction(event, surface) {
  if (event.ctrlKey || event.metaKey) return false;
  const target = /** @type {Element} */ (event.target);
  if (target instanceof HTMLInputElement) return false;
  if (event.key === "Escape") return escape(surface);
  const { region, view, setView, pane, picture } = surface;
  if (region && target.closest(".region-box")) {
    const next = keyed(region, event);
    if (next) surface.changeRegion(next);
    if (next) return true;
  }
  if (event.key in ZOOMS) zoomBy(surface, ZOOMS[event.key]);
  else if (event.key === "0") setView(fit(pane, picture));
  else if (event.key in PANS && !isFitted(view, pane, picture)) setView(pan(view, PANS[event.key], pane, picture));
  else return false;
  return true;
}

/** @param {Surface} surface */
function escape(surface) {
  if (surface.region && surface.focusing) surface.changeRegion(null);
  else if (surface.marking.active !== null) surface.marking.choose(null);
  else return false;
  return true;
}

/**
 * What pointers do; a drag draws, moves or resizes the focus box, or moves the picture.
 *
 * @param {() => Surface} current The state when something happens.
 * @returns {import("./gestures.js").Gestures}
 */
export function pointerActions(current) {
  /** @type {((at: Point, from: Point) => void) | null} */
  let drag = null;
  /** @type {Region | null} */
  let draft = null;
  const draw = (/** @type {Region | null} */ region) => current().setDraft((draft = region));
  return {
    start: (from, event) => {
      drag = dragFrom(current(), from, event, draw);
    },
    drag: (at, from) => drag?.(at, from),
    end: () => {
      if (draft) current().changeRegion(draft);
      drag = draft = null;
    },
    cancel: () => {
      current().setDraft(null);
      drag = draft = null;
    },
    tap: (at) => {
      const { marks, view, focusing, marking } = current();
      if (!focusing) marking.choose(markAt(marks, toPicture(view, at), view.scale));
    },
    doubleTap: (at) => {
      const { view, setView, pane, picture, focusing } = current();
      if (focusing) return;
      setView(isFitted(view, pane, picture) ? zoom(view, DOUBLE_TAP_ZOOM, at, pane, picture) : fit(pane, picture));
    },
    hover: (at) => {
      const { marks, view, marking, focusing } = current();
      if (!focusing) marking.hover(at && markAt(marks, toPicture(view, at), view.scale));
    },
    pinch: (factor, centre, by) => {
      const { pane, picture, setView } = current();
      setView((view) => zoom(pan(view, by, pane, picture), factor, centre, pane, picture));
    },
    wheel: (factor, at) => {
      const { pane, picture, view, setView } = current();
      const next = zoom(view, factor, at, pane, picture);
      setView((now) => zoom(now, factor, at, pane, picture));
      return next.scale !== view.scale;
    },
  };
}

/**
 * @param {Surface} surface
 * @param {Point} from
 * @param {PointerEvent} event
 * @param {(region: Region | null) => void} draw
 * @returns {(at: Point, from: Point) => void}
 */
function dragFrom({ focusing, region, view, pane, picture, setView }, from, event, draw) {
  if (!focusing) return (at) => setView(pan(view, { x: at.x - from.x, y: at.y - from.y }, pane, picture));
  const target = /** @type {Element} */ (event.target);
  const part = target instanceof HTMLElement ? target.dataset.region : undefined;
  if (!region || !part) return (at) => draw(between(toPicture(view, from), toPicture(view, at), picture));
  const [across, down] = [1000 / (picture.width * view.scale), 1000 / (picture.height * view.scale)];
  return (at) => {
    const [byX, byY] = [(at.x - from.x) * across, (at.y - from.y) * down];
    draw(part === "move" ? moved(region, byX, byY) : resized(region, /** @type {Handle} */ (part), byX, byY));
  };
}
