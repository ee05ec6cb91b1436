// The buttons below the picture.

import { html } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";
import { MAX_DRAWN } from "./marks.js";
import { fit, isFitted, STEP } from "./view.js";
import { zoomBy } from "./viewer_input.js";

const t = translator(messages);

/** @type {Record<string, string>} Paths in a box of 20 by 20. */
const ICONS = {
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  fit: "M3 8V3h5M12 3h5v5M17 12v5h-5M8 17H3v-5",
  focus: "M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4M10 7v6M7 10h6",
  close: "M5 5l10 10M15 5L5 15",
  previous: "M12 4l-6 6 6 6",
  next: "M8 4l6 6-6 6",
};

/**
 * @param {object} props
 * @param {import("./viewer_input.js").Surface} props.surface
 * @param {(text: string) => void} props.announce
 * @param {((byKeyboard: boolean) => void) | null} props.onFocus
 */
export function Toolbar({ surface, announce, onFocus }) {
  const { view, setView, pane, picture, region, focusing, marks } = surface;
  const fitted = isFitted(view, pane, picture);
  return html`
    <div class="viewer-bar" role="group" aria-label=${t("viewer")}>
      <div class="viewer-group">
        <${IconButton} icon="minus" label=${t("zoomOut")} disabled=${fitted} onClick=${() => zoomBy(surface, 1 / STEP)} />
        <span class="viewer-zoom">${percentOf(view.scale)} %</span>
        <${IconButton} icon="plus" label=${t("zoomIn")} onClick=${() => zoomBy(surface, STEP)} />
        <${IconButton} icon="fit" label=${t("wholePicture")} disabled=${fitted} onClick=${() => setView(fit(pane, picture))} />
      </div>
      ${marks.length > 0 && html`<${MarkButtons} surface=${surface} announce=${announce} />`}
      ${onFocus &&
      html`<div class="viewer-group viewer-focus">
        <button
          type="button"
          class="viewer-button labelled"
          aria-pressed=${focusing ? "true" : "false"}
          title=${t("focusTitle")}
          onClick=${(/** @type {MouseEvent} */ event) => onFocus(event.detail === 0)}
        >
          <${Icon} name="focus" />${t("focus")}
        </button>
        ${region && html`<${IconButton} icon="close" label=${t("clearFocus")} onClick=${() => surface.changeRegion(null)} />`}
      </div>`}
    </div>
    ${marks.length > MAX_DRAWN && html`<p class="viewer-note">${t("tooManyMarks", { shown: MAX_DRAWN, total: marks.length })}</p>`}
  `;
}

/**
 * Goes from mark to mark: the way to them by keyboard, and to those that lie under others.
 *
 * @param {{surface: import("./viewer_input.js").Surface, announce: (text: string) => void}} props
 */
function MarkButtons({ surface, announce }) {
  const { marks, marking, picture } = surface;
  const at = marks.findIndex((mark) => mark.index === marking.active);
  const total = marks.length;
  /** @param {number} step */
  const go = (step) => {
    const next = at < 0 ? (step > 0 ? 0 : total - 1) : (at + step + total) % total;
    const { index, label, box } = marks[next];
    if (index !== marking.active) marking.choose(index);
    const percent = (/** @type {number} */ value, /** @type {number} */ side) => Math.round((value / side) * 100);
    const place = { left: percent(box[0], picture.width), top: percent(box[1], picture.height) };
    announce(t("markAt", { label: label || t("unnamedMark"), n: next + 1, total, ...place }));
  };
  return html`<div class="viewer-group" role="group" aria-label=${t("marks")}>
    <${IconButton} icon="previous" label=${t("previousMark")} onClick=${() => go(-1)} />
    <span class="viewer-count">${at < 0 ? total : t("markPosition", { n: at + 1, total })}</span>
    <${IconButton} icon="next" label=${t("nextMark")} onClick=${() => go(1)} />
  </div>`;
}

/** @param {{icon: string, label: string, disabled?: boolean, onClick: () => void}} props */
function IconButton({ icon, label, disabled = false, onClick }) {
  // Not `disabled`: a button that has the focus would lose it.
  return html`<button
    type="button"
    class="viewer-button"
    aria-label=${label}
    title=${label}
    aria-disabled=${disabled ? "true" : undefined}
    onClick=${() => disabled || onClick()}
  >
    <${Icon} name=${icon} />
  </button>`;
}

/** @param {{name: string}} props */
function Icon({ name }) {
  return html`<svg class="viewer-icon" viewBox="0 0 20 20" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;
}

/** @param {number} scale */
function percentOf(scale) {
  return Math.round(scale * 100);
}
