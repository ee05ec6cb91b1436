// Says that the kiosk is about to forget everything. A touch anywhere or a key calls it off (idle.js).

import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html, useEffect, useRef } from "../vendor/preact.js";

const t = translator(messages);

/** @param {{left: number}} props */
export function IdleWarning({ left }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    dialog.current?.showModal();
    return () => dialog.current?.close();
  }, []);
  return html`<dialog class="idle" ref=${dialog} aria-labelledby="idle-title">
    <p class="count" aria-hidden="true">${left}</p>
    <h2 id="idle-title">${t("stillThere")}</h2>
    <p role="timer">${t("resetIn", { n: left })}</p>
    <button type="button" class="primary" autofocus>${t("goOn")}</button>
  </dialog>`;
}
