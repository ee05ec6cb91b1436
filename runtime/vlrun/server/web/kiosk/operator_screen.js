// Where the operator enters the API key.

import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html, useState } from "../vendor/preact.js";
import { Heading } from "./focus.js";
import { changeKey } from "./operator_key.js";

const t = translator(messages);

/** @param {{session: import("./session.js").Session, needed: boolean, onClose: () => void}} props */
export function OperatorScreen({ session, needed, onClose }) {
  const [outcome, setOutcome] = useState(/** @type {"" | "keySaved" | "wrongKey" | "noService"} */ (""));

  /** @param {string} key */
  const change = async (key) => {
    const changed = await changeKey(key);
    setOutcome(changed);
    if (changed !== "keySaved" || !key) return;
    const { question, phase, screen } = session.state;
    session.update({ needsKey: false });
    onClose();
    if (question && screen === "answer" && phase === "stopped") void session.ask(question);
  };
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const key = String(new FormData(form).get("key")).trim();
    if (key) void change(key);
  };
  return html`<main class="center">
    <form class="card" onSubmit=${submit}>
      <${Heading}>${t("operator")}<//>
      <p>${t("operatorLead")}</p>
      <label class="field">${t("key")}
        <input name="key" type="password" autocomplete="off" required autofocus />
      </label>
      ${outcome && html`<p class=${outcome === "keySaved" ? "note" : "problem"} role="alert">${t(outcome)}</p>`}
      <div class="actions">
        ${!needed && html`<button type="button" onClick=${onClose}>${t("cancel")}</button>`}
        ${!needed && html`<button type="button" onClick=${() => change("")}>${t("forgetKey")}</button>`}
        <button class="primary">${t("save")}</button>
      </div>
    </form>
  </main>`;
}
