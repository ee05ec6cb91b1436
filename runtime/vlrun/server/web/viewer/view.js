// Where the picture lies in its pane. A view maps a point of the picture to the pane: `x + scale * pointX`.

/** @typedef {{width: number, height: number}} Size */
/** @typedef {{x: number, y: number}} Point */
/** @typedef {{scale: number, x: number, y: number}} View */

const MARGIN = 12;
/** Pane pixels per picture pixel, at most: single pixels are well visible. */
const MAX_SCALE = 16;
/** How far a small picture is enlarged to fill the pane. */
const MAX_FIT = 6;
/** The factor of one step by button or key. */
export const STEP = 1.4;

/**
 * The view that shows the whole picture in the middle of the pane.
 *
 * @param {Size} pane
 * @param {Size} picture
 * @returns {View}
 */
export function fit(pane, picture) {
  const across = Math.max(1, pane.width - 2 * MARGIN) / picture.width;
  const down = Math.max(1, pane.height - 2 * MARGIN) / picture.height;
  const scale = Math.min(across, down, MAX_FIT);
  return {
    scale,
    x: (pane.width - picture.width * scale) / 2,
    y: (pane.height - picture.height * scale) / 2,
  };
}

/**
 * Zoom around a point of the pane.
 *
 * @param {View} view
 * @param {number} factor
 * @param {Point} centre
 * @param {Size} pane
 * @param {Size} picture
 */
export function zoom(view, factor, centre, pane, picture) {
  const least = fit(pane, picture).scale;
  const scale = Math.min(Math.max(view.scale * factor, least), Math.max(MAX_SCALE, least));
  const ratio = scale / view.scale;
  const x = centre.x - (centre.x - view.x) * ratio;
  const y = centre.y - (centre.y - view.y) * ratio;
  return bounded({ scale, x, y }, pane, picture);
}

/** @param {View} view @param {Point} by @param {Size} pane @param {Size} picture */
export function pan(view, by, pane, picture) {
  return bounded({ scale: view.scale, x: view.x + by.x, y: view.y + by.y }, pane, picture);
}

/** @param {View} view @param {Size} pane @param {Size} picture */
export function isFitted(view, pane, picture) {
  return view.scale <= fit(pane, picture).scale * 1.001;
}

/** @param {View} view @param {Point} point In the pane. @returns {Point} In the picture. */
export function toPicture(view, point) {
  return { x: (point.x - view.x) / view.scale, y: (point.y - view.y) / view.scale };
}

/**
 * Pan so that a rectangle of the picture is visible, and zoom out if it is larger than the pane.
 *
 * @param {View} view
 * @param {readonly [number, number, number, number]} box Left, top, right, bottom.
 * @param {Size} pane
 * @param {Size} picture
 */
export function reveal(view, box, pane, picture) {
  const [left, top, right, bottom] = box;
  const factor = Math.min(
    1,
    (pane.width - 2 * MARGIN) / (view.scale * (right - left)),
    (pane.height - 2 * MARGIN) / (view.scale * (bottom - top)),
  );
  const middle = { x: pane.width / 2, y: pane.height / 2 };
  const smaller = factor < 1 ? zoom(view, factor, middle, pane, picture) : view;
  const by = {
    x: shift(smaller.x + left * smaller.scale, smaller.x + right * smaller.scale, pane.width),
    y: shift(smaller.y + top * smaller.scale, smaller.y + bottom * smaller.scale, pane.height),
  };
  return by.x || by.y || factor < 1 ? pan(smaller, by, pane, picture) : view;
}

/** @param {number} begin @param {number} end @param {number} side */
function shift(begin, end, side) {
  if (begin >= 0 && end <= side) return 0;
  return side / 2 - (begin + end) / 2;
}

/** @param {View} view @param {Size} picture @returns {Record<string, string>} Its place in the pane, as style. */
export function frameOf(view, picture) {
  return {
    width: `${picture.width * view.scale}px`,
    height: `${picture.height * view.scale}px`,
    transform: `translate(${view.x}px, ${view.y}px)`,
  };
}

/** @param {View} view @param {Size} pane @param {Size} picture @returns {View} */
function bounded(view, pane, picture) {
  return {
    scale: view.scale,
    x: boundedAxis(view.x, picture.width * view.scale, pane.width),
    y: boundedAxis(view.y, picture.height * view.scale, pane.height),
  };
}

/** @param {number} offset @param {number} length @param {number} side */
function boundedAxis(offset, length, side) {
  if (length + 2 * MARGIN <= side) return (side - length) / 2;
  return Math.min(MARGIN, Math.max(side - length - MARGIN, offset));
}
