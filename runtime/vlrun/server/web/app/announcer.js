// Tells screen readers what happens: once for each state, and the answer when it is complete.

import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html } from "../vendor/preact.js";

const t = translator(messages);

/** @param {{turn: import("./state.js").Turn | undefined}} props */
export function Announcer({ turn }) {
  return html`<p class="visually-hidden" role="status" aria-live="polite">${turn ? text(turn) : ""}</p>`;
}

/** @param {import("./state.js").Turn} turn */
function text({ status, text: answer }) {
  const texts = {
    sending: t("sending"),
    waiting: t("waiting"),
    reading: t("readingPicture"),
    answering: t("answering"),
    done: t("answerIs", { answer }),
    stopped: t("stopped"),
    failed: "",
  };
  return texts[status];
}
