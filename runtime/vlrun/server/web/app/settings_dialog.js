// The settings: how answers are made, and how the page looks.

import { apiKey } from "../api/client.js";
import messages from "../i18n/settings.js";
import { language, setLanguage, translator } from "../i18n/index.js";
import { html } from "../vendor/preact.js";
import { Dialog } from "./dialog.js";
import { Check, Choice, NumberField, Text } from "./fields.js";
import { DEFAULTS, saveSettings } from "./settings.js";
import { app, openDialog } from "./store.js";

const t = translator(messages);

/** @param {Partial<import("./settings.js").Settings>} changes */
function change(changes) {
  const settings = { ...app.value.settings, ...changes };
  saveSettings(settings);
  app.set({ settings });
}

/** @param {{state: import("./state.js").State, onClose: () => void}} props */
export function SettingsDialog({ state, onClose }) {
  const footer = html`<button type="button" class="button" onClick=${() => change(DEFAULTS)}>${t("reset")}</button>
    <button type="button" class="button button-primary" onClick=${onClose}>${t("done")}</button>`;
  return html`<${Dialog} title=${t("settings")} onClose=${onClose} footer=${footer}>
    <${AnswerSettings} settings=${state.settings} thinks=${state.server?.thinks === true} />
    <${CareSettings} settings=${state.settings} />
    <${PageSettings} settings=${state.settings} />
  <//>`;
}

/** @param {{settings: import("./settings.js").Settings, thinks: boolean}} props */
function AnswerSettings({ settings, thinks }) {
  return html`<section class="settings" aria-labelledby="settings-answer">
    <h3 id="settings-answer">${t("answers")}</h3>
    <${Choice}
      name="detail"
      label=${t("detail")}
      hint=${t("detailHint")}
      value=${settings.detail}
      options=${[["low", t("detailLow")], ["auto", t("detailAuto")], ["high", t("detailHigh")]]}
      onChange=${(/** @type {any} */ detail) => change({ detail })}
    />
    <${NumberField} name="temperature" label=${t("temperature")} hint=${t("temperatureHint")} min=${0} max=${2}
      step=${0.1} value=${settings.temperature} onChange=${(/** @type {any} */ temperature) => change({ temperature })} />
    <${NumberField} name="top-p" label=${t("topP")} hint=${t("topPHint")} min=${0.01} max=${1} step=${0.01}
      value=${settings.topP} onChange=${(/** @type {any} */ topP) => change({ topP })} />
    <${NumberField} name="max-tokens" label=${t("maxTokens")} hint=${t("maxTokensHint")} min=${1} max=${16384} step=${1}
      value=${settings.maxTokens} onChange=${(/** @type {any} */ maxTokens) => change({ maxTokens })} />
    <${NumberField} name="seed" label=${t("seed")} hint=${t("seedHint")} min=${0} max=${2 ** 31} step=${1}
      value=${settings.seed} onChange=${(/** @type {any} */ seed) => change({ seed })} />
    <${Text} name="system" label=${t("system")} hint=${t("systemHint")} value=${settings.system}
      onChange=${(/** @type {any} */ system) => change({ system })} />
    ${thinks &&
    html`<${Check} name="thinking" label=${t("thinking")} hint=${t("thinkingHint")} value=${settings.thinking}
      onChange=${(/** @type {any} */ thinking) => change({ thinking })} />`}
  </section>`;
}

/** @param {{settings: import("./settings.js").Settings}} props */
function CareSettings({ settings }) {
  return html`<section class="settings" aria-labelledby="settings-care">
    <h3 id="settings-care">${t("care")}</h3>
    <${Choice}
      name="votes"
      label=${t("votes")}
      hint=${t("votesHint")}
      value=${String(settings.votes)}
      options=${[["1", t("votesOff")], ["3", "3"], ["5", "5"], ["7", "7"]]}
      onChange=${(/** @type {any} */ votes) => change({ votes: Number(votes) })}
    />
    <${Choice}
      name="tiles"
      label=${t("tiles")}
      hint=${t("tilesHint")}
      value=${settings.tiles}
      options=${[["", t("tilesOff")], ["1x2", "1 × 2"], ["2x2", "2 × 2"], ["2x3", "2 × 3"], ["3x3", "3 × 3"]]}
      onChange=${(/** @type {any} */ tiles) => change({ tiles })}
    />
    <${Check} name="steps" label=${t("steps")} hint=${t("stepsHint")} value=${settings.steps}
      onChange=${(/** @type {any} */ steps) => change({ steps })} />
  </section>`;
}

/** @param {{settings: import("./settings.js").Settings}} props */
function PageSettings({ settings }) {
  return html`<section class="settings" aria-labelledby="settings-page">
    <h3 id="settings-page">${t("page")}</h3>
    <${Choice}
      name="language"
      label=${t("language")}
      value=${language()}
      options=${[["en", "English"], ["zh", "中文"]]}
      onChange=${(/** @type {any} */ next) => setLanguage(next)}
    />
    <${Choice}
      name="theme"
      label=${t("theme")}
      value=${settings.theme}
      options=${[["auto", t("themeAuto")], ["light", t("themeLight")], ["dark", t("themeDark")]]}
      onChange=${(/** @type {any} */ theme) => change({ theme })}
    />
    <${Check} name="timings" label=${t("timings")} hint=${t("timingsHint")} value=${settings.timings}
      onChange=${(/** @type {any} */ timings) => change({ timings })} />
    <div class="setting">
      <div class="setting-text"><span class="setting-label">${t("key")}</span><small>${t(apiKey() ? "keySet" : "keyNone")}</small></div>
      <button type="button" class="button" onClick=${() => openDialog("key")}>${t("keyChange")}</button>
    </div>
  </section>`;
}
