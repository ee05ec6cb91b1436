// Asks for the API key, which the browser keeps until the tab is closed.

import { apiKey, setApiKey } from "../api/client.js";
import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html, useState } from "../vendor/preact.js";
import { askAgain } from "./ask.js";
import { Dialog } from "./dialog.js";
import { refreshServer } from "./server_state.js";
import { app } from "./store.js";

const t = translator(messages);

/** @param {{state: import("./state.js").State, onClose: () => void}} props */
export function KeyDialog({ state, onClose }) {
  const [key, setKey] = useState(apiKey());
  const [isChecking, setChecking] = useState(false);
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!/^[!-~]+$/.test(key.trim())) return app.set({ keyWrong: true });
    setChecking(true);
    app.set({ keyNeeded: false, keyWrong: false });
    setApiKey(key.trim());
    await refreshServer();
    setChecking(false);
    if (app.value.keyNeeded) return;
    onClose();
    const refused = app.value.conversation.turns.findLast(({ error }) => error?.status === 401);
    if (refused) askAgain(refused.id);
  };
  return html`<${Dialog} title=${t("keyTitle")} kind="small" onClose=${onClose}>
    <form class="key-form" onSubmit=${save}>
      <p>${t("keyHint")}</p>
      <label for="api-key">${t("key")}</label>
      <input
        id="api-key"
        type="password"
        autocomplete="off"
        spellcheck=${false}
        autofocus
        required
        value=${key}
        aria-invalid=${state.keyWrong}
        aria-describedby="key-trouble"
        onInput=${(/** @type {any} */ event) => setKey(event.target.value)}
      />
      <p class="trouble" id="key-trouble" role="alert">${state.keyWrong ? t("keyWrong") : ""}</p>
      <button type="submit" class="button button-primary" disabled=${isChecking || !key.trim()}>${t("keySave")}</button>
    </form>
  <//>`;
}
