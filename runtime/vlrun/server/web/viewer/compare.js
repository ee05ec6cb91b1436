// The enhanced picture beside the original: a divider, moved by a range input, shows one left and the other right.

import { html, useState } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";
import { frameOf } from "./view.js";

/** @typedef {import("./view.js").Size} Size */
/** @typedef {import("./view.js").View} View */

const t = translator(messages);

/** The width of the range input's thumb, as in viewer.css: its middle does not reach the edges of the pane. */
const THUMB = 44;

/**
 * @param {object} props
 * @param {string} props.src The enhanced picture; it covers the right side.
 * @param {View} props.view
 * @param {Size} props.pane
 * @param {Size} props.picture
 */
export function Compare({ src, view, pane, picture }) {
  const [share, setShare] = useState(50);
  const divider = THUMB / 2 + (share / 100) * (pane.width - THUMB);
  const width = picture.width * view.scale;
  const hidden = Math.min(Math.max(divider - view.x, 0), width);
  const frame = { ...frameOf(view, picture), clipPath: `inset(0 0 0 ${hidden}px)` };
  return html`
    <img class="picture compared" src=${src} alt="" draggable=${false} style=${frame} />
    <span class="compare-line" style=${{ left: `${divider}px` }} aria-hidden="true"></span>
    <span class="compare-side before" aria-hidden="true">${t("before")}</span>
    <span class="compare-side after" aria-hidden="true">${t("after")}</span>
    <input
      class="compare"
      type="range"
      min="0"
      max="100"
      value=${share}
      aria-label=${t("compare")}
      aria-valuetext=${t("comparedAt", { share })}
      onInput=${(/** @type {InputEvent} */ event) => setShare(Number(/** @type {HTMLInputElement} */ (event.target).value))}
    />
  `;
}
