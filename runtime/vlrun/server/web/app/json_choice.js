// Which JSON an answer shall be: any object, or what a schema of the person's own allows.

import messages from "../i18n/tasks.js";
import { translator } from "../i18n/index.js";
import { html, useState } from "../vendor/preact.js";
import { app } from "./store.js";

const t = translator(messages);

const EXAMPLE = `{
  "type": "object",
  "properties": {"bottles": {"type": "integer"}, "cans": {"type": "integer"}},
  "required": ["bottles", "cans"],
  "additionalProperties": false
}`;

/** @param {string} schema @returns {boolean} Whether it is empty or the JSON of an object. */
export function isSchema(schema) {
  if (!schema.trim()) return true;
  try {
    const value = JSON.parse(schema);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** @param {{schema: string}} props */
export function JsonChoice({ schema }) {
  const [own, setOwn] = useState(schema !== "");
  const choose = (/** @type {boolean} */ next) => {
    setOwn(next);
    app.set({ schema: next ? schema || EXAMPLE : "" });
  };
  return html`<fieldset class="json-choice">
    <legend class="visually-hidden">${t("jsonAnswer")}</legend>
    <div class="segments">
      <label><input type="radio" name="json" checked=${!own} onChange=${() => choose(false)} />${t("schemaAny")}</label>
      <label><input type="radio" name="json" checked=${own} onChange=${() => choose(true)} />${t("schemaOwn")}</label>
    </div>
    ${own &&
    html`<textarea
      class="code"
      rows="6"
      spellcheck=${false}
      aria-label=${t("schemaLabel")}
      aria-invalid=${!isSchema(schema)}
      value=${schema}
      onInput=${(/** @type {any} */ event) => app.set({ schema: event.target.value })}
    ></textarea>`}
  </fieldset>`;
}
