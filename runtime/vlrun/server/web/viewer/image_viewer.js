// The picture in its pane, with everything that lies on it: boxes, heat map, focus, before and after.

import { html, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";
import { useMarking } from "./active_mark.js";
import { Compare } from "./compare.js";
import { followPointers } from "./gestures.js";
import { HeatLayer } from "./heat_map.js";
import { drawnMarks, Marks } from "./marks.js";
import { describe, RegionBox, START, validRegion } from "./region.js";
import { Toolbar } from "./toolbar.js";
import { keyAction, pointerActions } from "./viewer_input.js";
import { fit, frameOf, isFitted, pan, reveal, zoom } from "./view.js";

/** @typedef {import("./marks.js").Mark} Mark */
/** @typedef {import("./heat_map.js").Heat} Heat */
/** @typedef {import("./region.js").Region} Region */
/** @typedef {import("./view.js").View} View */
/** @typedef {import("./view.js").Size} Size */
/**
 * @typedef {object} ImageViewerProps
 * @property {string} src A blob URL, or a path on this server.
 * @property {number} width Of the upright picture, in pixels.
 * @property {number} height
 * @property {string} label What the picture is, for screen readers.
 * @property {readonly Mark[] | null} [marks] In pixels of the upright picture.
 * @property {number | null} [activeMark]
 * @property {(index: number | null) => void} [onActiveMark]
 * @property {Heat | null} [heat]
 * @property {Region | null} [region]
 * @property {(region: Region | null) => void} [onRegion] Without it there is no Focus button.
 * @property {string | null} [enhancedSrc] With it, a slider compares the two.
 */

const t = translator(messages);

/** @param {ImageViewerProps} props */
export function ImageViewer(props) {
  const { src, label, activeMark = null, heat, onRegion, enhancedSrc } = props;
  const picture = useMemo(
    () => ({ width: Math.max(1, props.width || 1), height: Math.max(1, props.height || 1) }),
    [props.width, props.height],
  );
  const { paneRef, pane, view, setView } = useView(src, picture);
  const [broken, setBroken] = useState(false);
  const [focusing, setFocusing] = useState(false);
  const [draft, setDraft] = useState(/** @type {Region | null} */ (null));
  const [announcement, announce] = useState("");
  const marks = useMemo(() => drawnMarks(props.marks, picture), [props.marks, picture]);
  const region = draft ?? validRegion(props.region);

  const changeRegion = useCallback(
    (/** @type {Region | null} */ next) => {
      setDraft(null);
      onRegion?.(next);
      announce(next ? describe(next) : t("focusCleared"));
    },
    [onRegion],
  );
  const marking = useMarking(activeMark, props.onActiveMark);
  /** @type {import("./viewer_input.js").Surface} */
  const surface = { pane, picture, view, setView, marks, marking, region, focusing, setDraft, changeRegion };
  usePointers(paneRef, surface);
  useEffect(() => setBroken(false), [src]);
  useLayoutEffect(() => revealMark(surface), [activeMark]);
  useEffect(() => {
    if (!onRegion) setFocusing(false);
  }, [onRegion]);

  /** @param {boolean} byKeyboard */
  const toggleFocus = (byKeyboard) => {
    setFocusing(!focusing);
    if (focusing || !byKeyboard) return;
    if (!region) changeRegion({ ...START });
    requestAnimationFrame(() => /** @type {HTMLElement | null | undefined} */ (paneRef.current?.querySelector(".region-box"))?.focus());
  };
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    if (!keyAction(event, surface)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") paneRef.current?.focus();
  };
  const classes = ["viewer-pane", focusing && "focusing", !isFitted(view, pane, picture) && "zoomed", heat && "heated"];
  const ready = pane.width > 0;
  return html`
    <div class="viewer">
      <div
        class=${classes.filter(Boolean).join(" ")}
        ref=${paneRef}
        tabindex="0"
        role="group"
        aria-label=${`${t("viewer")}: ${label}. ${t("viewerKeys")}`}
        onKeyDown=${onKey}
      >
        ${ready && html`<img class="picture" src=${src} alt=${label} draggable=${false} style=${frameOf(view, picture)} onError=${() => setBroken(true)} />`}
        ${broken && html`<p class="viewer-broken" role="alert">${t("brokenPicture")}</p>`}
        ${ready && !broken && html`
          ${heat && html`<${HeatLayer} heat=${heat} view=${view} picture=${picture} />`}
          ${enhancedSrc && html`<${Compare} src=${enhancedSrc} view=${view} pane=${pane} picture=${picture} />`}
          <${Marks} marks=${marks} activeMark=${activeMark} view=${view} pane=${pane} />
          ${region && html`<${RegionBox} region=${region} editing=${focusing} view=${view} picture=${picture} onKey=${onKey} />`}
          ${focusing && !region && html`<p class="viewer-hint">${t("focusHint")}</p>`}
          ${heat && html`<${HeatScale} />`}
        `}
      </div>
      <${Toolbar}
        surface=${surface}
        announce=${announce}
        onFocus=${onRegion ? toggleFocus : null}
      />
      <p class="visually-hidden" role="status">${announcement}</p>
    </div>
  `;
}

/**
 * The view, which fits the picture again when the pane changes its size or another picture comes.
 *
 * @param {string} src
 * @param {Size} picture
 */
function useView(src, picture) {
  const paneRef = useRef(/** @type {HTMLElement | null} */ (null));
  const [pane, setPane] = useState({ width: 0, height: 0 });
  const [view, setView] = useState({ scale: 1, x: 0, y: 0 });
  useLayoutEffect(() => {
    const element = paneRef.current;
    if (!element) return undefined;
    const measure = () => setPane({ width: element.clientWidth, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);
  const previous = useRef({ pane, src, picture });
  useLayoutEffect(() => {
    const { pane: old, ...before } = previous.current;
    previous.current = { pane, src, picture };
    const same = before.src === src && before.picture === picture && old.width > 0;
    setView((now) => (same && !isFitted(now, old, picture) ? kept(now, old, pane, picture) : fit(pane, picture)));
  }, [pane, src, picture]);
  return { paneRef, pane, view, setView };
}

/** @param {View} view @param {Size} before @param {Size} pane @param {Size} picture The same middle in a pane of another size. */
function kept(view, before, pane, picture) {
  const by = { x: (pane.width - before.width) / 2, y: (pane.height - before.height) / 2 };
  return zoom(pan(view, by, pane, picture), 1, { x: 0, y: 0 }, pane, picture);
}

/**
 * @param {{current: HTMLElement | null}} paneRef
 * @param {import("./viewer_input.js").Surface} surface
 */
function usePointers(paneRef, surface) {
  const latest = useRef(surface);
  latest.current = surface;
  useLayoutEffect(() => {
    if (!paneRef.current) return undefined;
    return followPointers(paneRef.current, pointerActions(() => latest.current));
  }, []);
}

/** @param {import("./viewer_input.js").Surface} surface */
function revealMark({ marks, marking, view, setView, pane, picture }) {
  const mark = marks.find((candidate) => candidate.index === marking.active);
  if (mark && !isFitted(view, pane, picture)) setView(reveal(view, mark.box, pane, picture));
}

function HeatScale() {
  return html`<div class="heat-scale" role="img" aria-label=${`${t("heatScale")}: ${t("heatLess")} – ${t("heatMore")}`}>
    <span>${t("heatLess")}</span><span class="heat-ramp"></span><span>${t("heatMore")}</span>
  </div>`;
}
