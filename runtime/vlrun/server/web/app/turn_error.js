// An error in place of an answer: what happened, what to do, and a button that does it.

import common from "../i18n/common.js";
import errors from "../i18n/errors.js";
import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html, useEffect, useState } from "../vendor/preact.js";
import { askAgain } from "./ask.js";
import { explain } from "./errors.js";
import { Icon } from "./icons.js";
import { openDialog } from "./store.js";

const t = translator(messages);
const words = translator(common);
const texts = translator(errors);

/** Tries that the page makes on its own when the service is busy. */
const MAX_ATTEMPTS = 5;

/**
 * @param {{turn: import("./state.js").Turn, error: import("./state.js").TurnError, isBusy: boolean,
 *   isOnline: boolean}} props
 */
export function TurnError({ turn, error, isBusy, isOnline }) {
  const { title, advice, detail, retry } = explain(error);
  const again = () => askAgain(turn.id);
  const seconds = useCountdown(turn.attempts < MAX_ATTEMPTS ? error.retryAt : null, again);
  const isWaiting = error.status === 0 && !isOnline;
  return html`<div class="error" role="alert">
    <${Icon} name="alert" />
    <div>
      <p class="error-title">${title}</p>
      <p>${advice}</p>
      ${detail && html`<details open=${error.status === 400}><summary>${texts("service")}</summary><p>${detail}</p></details>`}
      <div class="error-actions">
        ${error.status === 401 &&
        html`<button type="button" class="button button-primary" onClick=${() => openDialog("key")}>${t("enterKey")}</button>`}
        ${retry &&
        html`<button type="button" class="button" disabled=${isBusy || isWaiting} onClick=${again}>
          <${Icon} name="retry" size=${18} />${words("retry")}
        </button>`}
        ${isWaiting && html`<span class="hint"><span class="spinner" aria-hidden="true"></span>${t("waitingForService")}</span>`}
        ${seconds > 0 && html`<span class="hint">${t("retryIn", { n: seconds })}</span>`}
      </div>
    </div>
  </div>`;
}

/**
 * @param {number | null} until
 * @param {() => void} done Called when the time has come, unless the component is gone.
 * @returns {number} The seconds that are left.
 */
function useCountdown(until, done) {
  const [now, setNow] = useState(Date.now());
  const seconds = until === null ? 0 : Math.max(0, Math.ceil((until - now) / 1000));
  useEffect(() => {
    if (until === null || until <= Date.now()) return undefined;
    const timer = setInterval(() => {
      setNow(Date.now());
      if (until > Date.now()) return;
      clearInterval(timer);
      done();
    }, 500);
    return () => clearInterval(timer);
  }, [until]);
  return seconds;
}
