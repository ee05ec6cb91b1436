// A video in the picture's pane, and the times of answers, which lead to its moments.

import messages from "../i18n/files.js";
import { translator } from "../i18n/index.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { app } from "./store.js";

const t = translator(messages);

/** @param {{src: string, label: string, moment: import("./state.js").Moment | null}} props */
export function VideoView({ src, label, moment }) {
  const ref = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const [broken, setBroken] = useState(false);
  useEffect(() => {
    if (moment && ref.current) ref.current.currentTime = moment.seconds;
  }, [moment]);
  return html`<div class="video-view">
    <video ref=${ref} src=${src} controls muted playsinline aria-label=${label} onError=${() => setBroken(true)}></video>
    ${broken && html`<p class="hint" role="status">${t("videoNotPlayed")}</p>`}
  </div>`;
}

/** @param {{times: import("../api/types.js").TimeSpan[]}} props The moments that an answer names. */
export function Times({ times }) {
  return html`<ul class="times" aria-label=${t("times")}>
    ${times.map(
      ({ start, end }, index) => html`<li key=${index}>
        <button type="button" class="chip-button" aria-label=${t("showMoment", { time: spanText(start, end) })}
          onClick=${() => app.set({ moment: { seconds: start } })}>
          ${spanText(start, end)}
        </button>
      </li>`,
    )}
  </ul>`;
}

/** @param {number} start @param {number} end */
function spanText(start, end) {
  return end > start ? `${timeText(start)} – ${timeText(end)}` : timeText(start);
}

/** @param {number} seconds @returns {string} As 1:05, with tenths if there are any. */
export function timeText(seconds) {
  const tenths = Math.round(seconds * 10);
  const rest = ((tenths % 600) / 10).toFixed(tenths % 10 ? 1 : 0);
  return `${Math.floor(tenths / 600)}:${rest.padStart(tenths % 10 ? 4 : 2, "0")}`;
}
