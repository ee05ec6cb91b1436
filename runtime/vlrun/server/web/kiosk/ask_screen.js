// The picture and the questions.

import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html } from "../vendor/preact.js";
import { localized } from "./config.js";
import { Heading } from "./focus.js";
import { Icon } from "../app/icons.js";
import { Picture } from "./picture.js";

const t = translator(messages);

/** @param {{session: import("./session.js").Session, config: import("./config.js").Config}} props */
export function AskScreen({ session, config }) {
  const { picture, size, draft, problem } = session.state;
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    if (draft.trim()) void session.ask({ label: draft.trim() });
  };
  return html`<main class="work">
    <${Picture} picture=${picture} size=${size} />
    <section class="panel">
      <${Heading}>${t("whatToKnow")}<//>
      ${problem && html`<p class="problem" role="alert">${t(problem)}</p>`}
      <div class="questions">
        ${config.questions.map((question) => html`<button type="button" class="question"
          onClick=${() => session.ask(question)}>${localized(question.label)}</button>`)}
      </div>
      ${config.free_text && html`<form class="own" onSubmit=${submit}>
        <input type="text" autocomplete="off" enterkeyhint="send" maxlength="2000" value=${draft}
          aria-label=${t("ownQuestion")} placeholder=${t("ownQuestion")}
          onInput=${(/** @type {any} */ { target }) => session.update({ draft: target.value })} />
        <button class="primary" aria-label=${t("ask")} disabled=${!draft.trim()}><${Icon} name="send" /></button>
      </form>`}
      <nav class="actions">
        <button type="button" onClick=${() => session.reset()}><${Icon} name="trash" />${t("startAgain")}</button>
      </nav>
    </section>
  </main>`;
}
