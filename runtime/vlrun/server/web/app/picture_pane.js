// The picture with what is shown on it, or where to add one.

import { preview } from "../api/images.js";
import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { heatOf } from "../viewer/heat_map.js";
import { ImageViewer } from "../viewer/image_viewer.js";
import { AddPicture, TakePhoto, TryExample } from "./add_picture.js";
import { explain } from "./errors.js";
import { Icon } from "./icons.js";
import { useObjectUrl } from "./object_url.js";
import { removePicture } from "./pictures.js";
import { canHaveHeat } from "./request.js";
import { app, toast } from "./store.js";
import { VideoView } from "./video_view.js";

const t = translator(messages);

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Picture} Picture */

/** @param {{state: State}} props */
export function PicturePane({ state }) {
  const { pictures } = state.conversation;
  const picture = pictures.find(({ key }) => key === state.picture) ?? pictures.at(-1);
  if (!picture) return html`<${NoPicture} state=${state} />`;
  if (picture.seconds)
    return html`<${ShownVideo} state=${state} picture=${picture} key=${picture.key} />
      <div class="picture-bar"><span class="grow"></span><${Strip} pictures=${pictures} picture=${picture} /></div>`;
  return html`<${ShownPicture} state=${state} picture=${picture} key=${picture.key} />
    <${PictureBar} state=${state} picture=${picture} />`;
}

/** @param {string[]} inputs What the service reads. */
function hintOf(inputs) {
  const [pdf, video] = [inputs.includes("application/pdf"), inputs.includes("video/mp4")];
  if (pdf && video) return "addHintAll";
  return pdf ? "addHintPdf" : video ? "addHintVideo" : "addHint";
}

/** @param {{state: State}} props */
function NoPicture({ state }) {
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  const keepFocus = () => {
    // Its buttons go away with it; Tab goes on from here.
    const pane = /** @type {HTMLElement | null | undefined} */ (ref.current?.closest(".pane"));
    if (ref.current?.contains(document.activeElement)) pane?.focus({ preventScroll: true });
  };
  useEffect(() => keepFocus, []);
  return html`<div class="no-picture" ref=${ref} aria-busy=${state.adding}>
    <span class="no-picture-icon"><${Icon} name="image" size=${32} /></span>
    <h2>${t("addTitle")}</h2>
    <p>${t(hintOf(state.server?.inputs ?? []))}</p>
    <div class="no-picture-actions">
      <${AddPicture} inputs=${state.server?.inputs} />
      <${TakePhoto} />
    </div>
    <${TryExample} />
  </div>`;
}

/** @param {{state: State, picture: Picture}} props */
function ShownVideo({ state, picture }) {
  const src = useObjectUrl(picture.blob);
  if (!src) return html`<div class="viewer-space"></div>`;
  return html`<div class="viewer-space">
    <${VideoView} src=${src} label=${picture.name} moment=${state.moment} />
  </div>`;
}

/** @param {{state: State, picture: Picture}} props */
function ShownPicture({ state, picture }) {
  const src = useObjectUrl(picture.shown ?? picture.blob);
  const enhanced = useObjectUrl(useEnhanced(picture, state.enhance));
  const turns = state.conversation.turns;
  const turn = turns.find(({ id }) => id === state.shownTurn) ?? turns.at(-1);
  const index = turn ? turn.pictures.indexOf(picture.key) : -1;
  const marks = index < 0 ? [] : (turn?.extension.marks ?? []).filter(({ image = 0 }) => image === index);
  const heatmap = state.heat && canHaveHeat(state) && index >= 0 ? turn?.extension.heatmap : undefined;
  const heat = useMemo(
    () => (heatmap ? heatOf({ heatmap }, state.tokens, index) : null),
    [heatmap, state.tokens, index],
  );
  if (!src) return html`<div class="viewer-space"></div>`;
  return html`<div class="viewer-space">
    <${ImageViewer}
      src=${src}
      width=${picture.width}
      height=${picture.height}
      label=${picture.name}
      marks=${marks}
      activeMark=${state.activeMark}
      onActiveMark=${setActiveMark}
      heat=${heat}
      region=${state.region}
      onRegion=${setRegion}
      enhancedSrc=${state.enhance ? enhanced : null}
    />
  </div>`;
}

/** @param {number | null} activeMark */
function setActiveMark(activeMark) {
  if (app.value.activeMark !== activeMark) app.set({ activeMark });
}

/** @param {import("../api/types.js").Region | null} region */
function setRegion(region) {
  app.set({ region });
}

/**
 * The enhanced picture, as the service would show it to the model.
 *
 * @param {Picture} picture
 * @param {boolean} wanted
 * @returns {Blob | null}
 */
function useEnhanced(picture, wanted) {
  const [blob, setBlob] = useState(/** @type {Blob | null} */ (null));
  useEffect(() => {
    if (!wanted || blob) return undefined;
    const controller = new AbortController();
    preview(picture.blob, { enhance: true, page: picture.page, signal: controller.signal })
      .then(setBlob)
      .catch((error) => {
        if (!controller.signal.aborted) toast(`${t("noPreview")} ${explain(error).title}`, { kind: "danger" });
      });
    return () => controller.abort();
  }, [picture.blob, wanted]);
  return wanted ? blob : null;
}

/** @param {{state: State, picture: Picture}} props */
function PictureBar({ state, picture }) {
  const { pictures } = state.conversation;
  const canHeat = canHaveHeat(state);
  return html`<div class="picture-bar">
    <${Switch} icon="enhance" label=${t("enhance")} hint=${t("enhanceHint")} on=${state.enhance}
      onChange=${(/** @type {boolean} */ enhance) => app.set({ enhance })} />
    <${Switch} icon="heat" label=${t("heat")} hint=${t(canHeat ? "heatHint" : "heatNotNow")} on=${state.heat && canHeat}
      disabled=${!canHeat}
      onChange=${(/** @type {boolean} */ heat) => app.set({ heat, tokens: null })} />
    <span class="grow"></span>
    <${Strip} pictures=${pictures} picture=${picture} />
  </div>`;
}

/** @param {{pictures: Picture[], picture: Picture}} props */
function Strip({ pictures, picture }) {
  return html`<ul class="strip" aria-label=${t("pictures")}>
    ${pictures.map((each) => html`<${Thumb} key=${each.key} picture=${each} chosen=${each === picture} />`)}
  </ul>`;
}

/**
 * @param {{icon: import("./icons.js").IconName, label: string, hint: string, on: boolean, disabled?: boolean,
 *   onChange: (on: boolean) => void}} props
 */
function Switch({ icon, label, hint, on, disabled = false, onChange }) {
  return html`<button
    type="button"
    class="chip-button"
    role="switch"
    aria-checked=${on}
    title=${hint}
    disabled=${disabled}
    onClick=${() => onChange(!on)}
  >
    <${Icon} name=${icon} size=${18} /><span>${label}</span><span class="switch-track" aria-hidden="true"></span>
  </button>`;
}

/** @param {{picture: Picture, chosen: boolean}} props */
function Thumb({ picture, chosen }) {
  const src = useObjectUrl(picture.thumb);
  const show = () => {
    if (!chosen) app.set({ picture: picture.key, region: null, activeMark: null });
  };
  const { name } = picture;
  return html`<li class="thumb">
    <button type="button" class="thumb-button" aria-label=${t("showPicture", { name })} aria-pressed=${chosen} title=${name}
      onClick=${show}>
      ${src ? html`<img src=${src} alt="" />` : html`<${Icon} name="image" />`}
    </button>
    <button type="button" class="thumb-remove" aria-label=${t("removePicture", { name })}
      title=${t("removePicture", { name })} onClick=${() => removePicture(picture.key)}>
      <${Icon} name="close" size=${14} />
    </button>
  </li>`;
}
