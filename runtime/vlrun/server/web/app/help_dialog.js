// What the keyboard does, and where to read more.

import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html } from "../vendor/preact.js";
import { Dialog } from "./dialog.js";

const t = translator(messages);

/** @param {{onClose: () => void}} props */
export function HelpDialog({ onClose }) {
  /** @type {[string[], string][]} */
  const rows = [
    [["Enter"], t("helpSend")],
    [["Shift", "Enter"], t("helpLine")],
    [["Esc"], t("helpStop")],
    [["/"], t("helpQuestion")],
    [["Ctrl", "V"], t("helpPaste")],
    [["Alt", "N"], t("newConversation")],
    [["Alt", "O"], t("addPicture")],
    [["Alt", "H"], t("history")],
    [["Alt", "S"], t("settings")],
    [["+", "−", "0"], t("helpZoom")],
    [["?"], t("helpHelp")],
  ];
  return html`<${Dialog} title=${t("help")} kind="small" onClose=${onClose}>
    <h3>${t("helpHowTitle")}</h3>
    <p>${t("helpHow")}</p>
    <h3>${t("helpKeys")}</h3>
    <dl class="keys">
      ${rows.map(
        ([keys, does]) => html`<div key=${does}>
          <dt>${keys.map((key) => html`<kbd key=${key}>${key}</kbd>`)}</dt>
          <dd>${does}</dd>
        </div>`,
      )}
    </dl>
    <h3>${t("helpApiTitle")}</h3>
    <p>${t("helpApi")} <a href="/docs">/docs</a> · <a href="/kiosk">/kiosk</a></p>
  <//>`;
}
