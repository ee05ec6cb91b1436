// What the service is doing while there is no answer yet.

import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html } from "../vendor/preact.js";

const t = translator(messages);

/** @param {{turn: import("./state.js").Turn, waiting: number}} props */
export function TurnProgress({ turn, waiting }) {
  const { status, progress } = turn;
  const percent = status === "reading" && progress ? progress.percent : null;
  return html`<div class="progress">
    <p class="progress-text">
      <span class="spinner" aria-hidden="true"></span>${text(turn, waiting)}
      ${percent !== null && html`<span class="progress-figures">${figures(percent, progress?.secondsLeft ?? null)}</span>`}
    </p>
    ${percent !== null && html`<progress max="100" value=${percent} aria-label=${text(turn, waiting)}></progress>`}
  </div>`;
}

/** @param {import("./state.js").Turn} turn @param {number} waiting */
function text({ status, progress }, waiting) {
  if (status === "sending") return t("sending");
  if (status === "waiting") return waiting > 1 ? t("waitingAmong", { n: waiting }) : t("waiting");
  if (status === "answering") return t("answering");
  if (progress?.phase === "prefill") return t("preparing");
  if (progress?.phase === "votes") return t("voting", { done: progress.done, total: progress.total });
  return t("readingPicture");
}

/** @param {number} percent @param {number | null} secondsLeft */
function figures(percent, secondsLeft) {
  if (secondsLeft === null || secondsLeft < 1) return t("percent", { percent });
  return t("percentAndSeconds", { percent, seconds: Math.ceil(secondsLeft) });
}
