// English or Chinese, each in its own name.

import { language, setLanguage, translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html } from "../vendor/preact.js";

const t = translator(messages);
/** @type {{code: "en" | "zh", name: string, tag: string}[]} */
const LANGUAGES = [
  { code: "en", name: "English", tag: "en" },
  { code: "zh", name: "中文", tag: "zh-CN" },
];

export function LanguageButtons() {
  return html`<div class="languages" role="group" aria-label=${t("language")}>
    ${LANGUAGES.map(({ code, name, tag }) => html`<button type="button" lang=${tag}
      aria-pressed=${String(language() === code)} onClick=${() => setLanguage(code, { remember: false })}>${name}</button>`)}
  </div>`;
}
