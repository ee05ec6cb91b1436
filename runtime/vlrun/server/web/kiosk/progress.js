// What happens before the first word of an answer.

import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html } from "../vendor/preact.js";

const t = translator(messages);
const LEAST_PERCENT = 5; // less says nothing about the time that is left

/** @param {{phase: import("./session.js").Phase, progress: import("./session.js").State["progress"]}} props */
export function Progress({ phase, progress }) {
  if (phase !== "reading" || !progress) {
    const text = phase === "queued" ? t("queued") : phase === "sending" ? t("sending") : t("thinking");
    return html`<p class="status"><span class="dots" aria-hidden="true"><i /><i /><i /></span>${text}</p>`;
  }
  const percent = Math.round(progress.percent);
  const elapsed = (performance.now() - progress.since) / 1000;
  const left = Math.ceil((elapsed * (100 - percent)) / percent);
  return html`<div class="status">
    <p>${t("reading")}</p>
    <progress max="100" value=${percent} aria-label=${t("reading")}></progress>
    <p class="figures"><span>${percent} %</span>
      ${percent >= LEAST_PERCENT && left > 0 && html`<span>${t("secondsLeft", { n: left })}</span>`}</p>
  </div>`;
}
