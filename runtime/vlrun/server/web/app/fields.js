// Fields of the settings: a choice, a number, a switch, a text.

import { html, useState } from "../vendor/preact.js";
import messages from "../i18n/settings.js";
import { translator } from "../i18n/index.js";

const t = translator(messages);

/**
 * @param {{name: string, label: string, hint?: string, value: string, options: [string, string][],
 *   onChange: (value: string) => void}} props
 */
export function Choice({ name, label, hint, value, options, onChange }) {
  return html`<fieldset class="setting">
    <legend class="visually-hidden">${label}</legend>
    <div class="setting-text" aria-hidden="true"><span class="setting-label">${label}</span><small>${hint}</small></div>
    <div class="segments">
      ${options.map(
        ([key, text]) => html`<label key=${key}>
          <input type="radio" name=${name} value=${key} checked=${key === value} onChange=${() => onChange(key)} />${text}
        </label>`,
      )}
    </div>
  </fieldset>`;
}

/**
 * A number, or nothing for the model's default.
 *
 * @param {{name: string, label: string, hint: string, value: number | null, min: number, max: number, step: number,
 *   onChange: (value: number | null) => void}} props
 */
export function NumberField({ name, label, hint, value, min, max, step, onChange }) {
  const [text, setText] = useState(value === null ? "" : String(value));
  const [known, setKnown] = useState(value);
  if (known !== value) {
    setKnown(value);
    setText(value === null ? "" : String(value));
  }
  const number = text.trim() === "" ? null : Number(text);
  const valid = number === null || (number >= min && number <= max && (step < 1 || Number.isInteger(number)));
  const onInput = (/** @type {any} */ event) => {
    const next = event.target.value;
    setText(next);
    const parsed = next.trim() === "" ? null : Number(next);
    const fits = parsed === null || (parsed >= min && parsed <= max && (step < 1 || Number.isInteger(parsed)));
    if (!fits) return;
    setKnown(parsed);
    onChange(parsed);
  };
  return html`<div class="setting">
    <div class="setting-text">
      <label class="setting-label" for=${name}>${label}</label>
      <small id=${`${name}-hint`}>${valid ? hint : t("between", { min, max })}</small>
    </div>
    <input
      id=${name}
      class="number"
      type="text"
      inputmode="decimal"
      autocomplete="off"
      placeholder=${t("modelDefault")}
      aria-describedby=${`${name}-hint`}
      aria-invalid=${!valid}
      value=${text}
      onInput=${onInput}
    />
  </div>`;
}

/**
 * @param {{name: string, label: string, hint: string, value: boolean, onChange: (value: boolean) => void}} props
 */
export function Check({ name, label, hint, value, onChange }) {
  return html`<div class="setting">
    <div class="setting-text">
      <label class="setting-label" for=${name}>${label}</label>
      <small id=${`${name}-hint`}>${hint}</small>
    </div>
    <button
      type="button"
      role="switch"
      id=${name}
      class="switch"
      aria-checked=${value}
      aria-describedby=${`${name}-hint`}
      onClick=${() => onChange(!value)}
    >
      <span class="switch-track" aria-hidden="true"></span>
    </button>
  </div>`;
}

/**
 * @param {{name: string, label: string, hint: string, value: string, onChange: (value: string) => void}} props
 */
export function Text({ name, label, hint, value, onChange }) {
  return html`<div class="setting setting-wide">
    <div class="setting-text">
      <label class="setting-label" for=${name}>${label}</label>
      <small id=${`${name}-hint`}>${hint}</small>
    </div>
    <textarea
      id=${name}
      rows="2"
      aria-describedby=${`${name}-hint`}
      value=${value}
      onInput=${(/** @type {any} */ event) => onChange(event.target.value)}
    ></textarea>
  </div>`;
}
