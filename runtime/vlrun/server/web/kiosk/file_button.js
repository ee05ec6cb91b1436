// Chooses a picture from a file; on phones and tablets also the system's own camera.

import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html } from "../vendor/preact.js";
import { Icon } from "../app/icons.js";

const t = translator(messages);

/** @param {{session: import("./session.js").Session, primary?: boolean}} props */
export function FileButton({ session, primary = false }) {
  /** @param {Event} event */
  const chosen = ({ target }) => {
    const input = /** @type {HTMLInputElement} */ (target);
    const [file] = input.files ?? [];
    input.value = "";
    if (file) session.show(file);
  };
  return html`<label class=${primary ? "huge primary" : "huge"}>
    <${Icon} name="image" />${t("choose")}
    <input type="file" accept="image/*" onChange=${chosen} />
  </label>`;
}
