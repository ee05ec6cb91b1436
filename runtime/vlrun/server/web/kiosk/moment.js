// The service is away or busy: what it shows instead of an error.

import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html } from "../vendor/preact.js";

const t = translator(messages);

/** @param {{busy?: boolean, kept?: boolean}} props */
export function Moment({ busy = false, kept = false }) {
  return html`<div class="moment" role="status">
    <span class="dots" aria-hidden="true"><i /><i /><i /></span>
    <p class="large">${t(busy ? "busy" : "moment")}</p>
    <p>${t(busy ? "busyMore" : kept ? "momentKept" : "momentMore")}</p>
  </div>`;
}
