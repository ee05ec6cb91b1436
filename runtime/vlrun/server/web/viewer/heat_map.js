// What the model looked at: decodes the API's heat map and paints it over the picture.
// Colours and opacity are those of runtime/vlrun/heatmap/overlay.py.

import { html, useLayoutEffect, useRef } from "../vendor/preact.js";
import { frameOf } from "./view.js";

/** @typedef {import("../api/types.js").HeatMap} EncodedHeatMap */
/** @typedef {import("../api/types.js").HeatMapImage["corners"]} Corners */
/** @typedef {{rows: number, columns: number, values: Float32Array, corners?: Corners}} Heat `values`: 0 to 1. */

/** Inferno by N. J. Smith and S. van der Walt in ten even steps. */
const INFERNO = ["000004", "1b0c41", "4a0c6b", "781c6d", "a52c60", "cf4446", "ed6925", "fb9b06", "f7d13d", "fcffa4"];
/** Of cells with at least half of the highest value; less value, less opacity. */
const OPACITY = 0.72;
/** Longer side of the painted map; the browser enlarges it smoothly. */
const PAINTED_SIDE = 512;
/** Visual tokens of one image are at most some thousands. */
const MAX_CELLS = 1 << 18;

/**
 * The mean attention of an answer, or of some of its tokens, relative to its highest value.
 *
 * @param {{heatmap?: EncodedHeatMap | null} | null | undefined} vlrun The extension of a choice.
 * @param {readonly [number, number] | null} tokenRange First token and the one after the last; null: the whole answer.
 * @param {number} [image] Which picture of the request.
 * @returns {Heat | null} Null if there is none, or it is malformed.
 */
export function heatOf(vlrun, tokenRange, image = 0) {
  const encoded = vlrun?.heatmap?.images?.[image];
  if (!encoded) return null;
  const { rows, columns, corners } = encoded;
  const cells = rows * columns;
  if (!Number.isInteger(rows) || !Number.isInteger(columns) || rows < 1 || columns < 1 || cells > MAX_CELLS) return null;
  const bytes = decoded(encoded.values);
  const tokens = bytes ? bytes.length / cells : 0;
  if (!bytes || !tokens || !Number.isInteger(tokens)) return null;
  const first = Math.max(0, tokenRange ? tokenRange[0] : 0);
  const last = Math.min(tokens, tokenRange ? tokenRange[1] : tokens);
  const values = new Float32Array(cells);
  for (let token = first; token < last; token++) {
    for (let cell = 0; cell < cells; cell++) values[cell] += bytes[token * cells + cell];
  }
  const highest = values.reduce((most, value) => Math.max(most, value), 0);
  if (!highest) return null;
  return { rows, columns, values: values.map((value) => value / highest), corners };
}

/** Decoding is repeated for every word, and the text is long. @type {{text: string, bytes: Uint8Array} | null} */
let latest = null;

/** @param {string} text @returns {Uint8Array | null} */
function decoded(text) {
  if (latest?.text === text) return latest.bytes;
  try {
    latest = { text, bytes: Uint8Array.from(atob(text), (character) => character.charCodeAt(0)) };
    return latest.bytes;
  } catch {
    return null;
  }
}

/**
 * The heat over the picture, with its corners where the model saw them: in a region, or turned.
 *
 * @param {{heat: Heat, view: import("./view.js").View, picture: import("./view.js").Size}} props
 */
export function HeatLayer({ heat, view, picture }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useLayoutEffect(() => {
    if (canvas.current) paint(canvas.current, heat);
  }, [heat]);
  const frame = frameOf(view, picture);
  return html`<div class="heat-frame" style=${frame} aria-hidden="true">
    <canvas ref=${canvas} class="heat" style=${placeOf(heat.corners ?? cornersOf(picture), view.scale)}></canvas>
  </div>`;
}

/** @param {import("./view.js").Size} picture @returns {Corners} */
function cornersOf({ width, height }) {
  return [[0, 0], [width, 0], [0, height]];
}

/** @param {Corners} corners @param {number} scale Pane pixels per picture pixel. */
function placeOf([[left, top], right, low], scale) {
  const across = [right[0] - left, right[1] - top];
  const down = [low[0] - left, low[1] - top];
  const [width, height] = [Math.hypot(...across), Math.hypot(...down)];
  const matrix = [...across.map((side) => side / width), ...down.map((side) => side / height), left * scale, top * scale];
  return { width: `${width * scale}px`, height: `${height * scale}px`, transform: `matrix(${matrix.join(", ")})` };
}

/** @param {HTMLCanvasElement} canvas @param {Heat} heat */
function paint(canvas, heat) {
  const factor = PAINTED_SIDE / Math.max(heat.rows, heat.columns);
  const [width, height] = [Math.ceil(heat.columns * factor), Math.ceil(heat.rows * factor)];
  const context = canvas.getContext("2d");
  if (!context) return;
  [canvas.width, canvas.height] = [width, height];
  const image = context.createImageData(width, height);
  const smooth = resized(heat.values, heat.columns, heat.rows, width, height);
  const table = colourTable();
  smooth.forEach((value, pixel) => {
    const share = Math.min(1, Math.max(0, value)); // bicubic interpolation overshoots
    const colour = 3 * Math.round(share * 255);
    image.data.set(table.subarray(colour, colour + 3), 4 * pixel);
    image.data[4 * pixel + 3] = 255 * OPACITY * Math.min(2 * share, 1);
  });
  context.putImageData(image, 0, 0);
}

/** @type {Uint8ClampedArray | null} */
let colours = null;

/** @returns {Uint8ClampedArray} 256 colours, 3 bytes each. */
function colourTable() {
  if (colours) return colours;
  const anchors = INFERNO.map((colour) => [0, 2, 4].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  colours = new Uint8ClampedArray(256 * 3);
  for (let step = 0; step < 256; step++) {
    const position = (step / 255) * (anchors.length - 1);
    const below = Math.min(Math.floor(position), anchors.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [low, high] = [anchors[below][channel], anchors[below + 1][channel]];
      colours[3 * step + channel] = low + (position - below) * (high - low);
    }
  }
  return colours;
}

/**
 * Bicubic interpolation as in Pillow, to a larger size.
 *
 * @param {Float32Array} values
 * @param {number} columns
 * @param {number} rows
 * @param {number} width
 * @param {number} height
 */
export function resized(values, columns, rows, width, height) {
  const across = weights(columns, width);
  const down = weights(rows, height);
  const wide = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    across.forEach((taps, x) => {
      for (const [column, weight] of taps) wide[row * width + x] += weight * values[row * columns + column];
    });
  }
  const result = new Float32Array(width * height);
  down.forEach((taps, y) => {
    for (const [row, weight] of taps) {
      for (let x = 0; x < width; x++) result[y * width + x] += weight * wide[row * width + x];
    }
  });
  return result;
}

/** @param {number} from @param {number} to @returns {[number, number][][]} For each target: sources and weights. */
function weights(from, to) {
  return Array.from({ length: to }, (_, target) => {
    const centre = ((target + 0.5) * from) / to - 0.5;
    /** @type {[number, number][]} */
    const taps = [];
    for (let source = Math.floor(centre) - 1; source <= Math.floor(centre) + 2; source++) {
      if (source >= 0 && source < from) taps.push([source, cubic(Math.abs(source - centre))]);
    }
    const sum = taps.reduce((total, [, weight]) => total + weight, 0);
    return taps.map(([source, weight]) => [source, weight / sum]);
  });
}

/** @param {number} distance The kernel of Keys with a = -0.5. */
function cubic(distance) {
  if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1;
  if (distance < 2) return ((-0.5 * distance + 2.5) * distance - 4) * distance + 2;
  return 0;
}
