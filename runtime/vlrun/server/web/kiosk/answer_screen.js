// The picture, the question and its answer.

import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html } from "../vendor/preact.js";
import { localized } from "./config.js";
import { Heading } from "./focus.js";
import { Icon } from "./icons.js";
import { Moment } from "./moment.js";
import { Picture } from "./picture.js";
import { Progress } from "./progress.js";

const t = translator(messages);

/** @param {{session: import("./session.js").Session}} props */
export function AnswerScreen({ session }) {
  const { picture, question, phase, answer, progress, problem } = session.state;
  const waits = phase === "waiting" || phase === "busy";
  return html`<main class="work">
    <${Picture} picture=${picture} />
    <section class="panel">
      <${Heading} class="asked">${localized(question?.label)}<//>
      ${waits ? html`<${Moment} busy=${phase === "busy"} kept />` : html`
        <div class="answer" aria-label=${t("answer")} tabindex="0" role="region" aria-live="polite"
            aria-busy=${String(session.isAnswering)}>
          ${answer.text && html`<p class="text">${answer.text}</p>`}
          ${session.isAnswering && !answer.text && html`<${Progress} phase=${phase} progress=${progress} />`}
          ${phase === "stopped" && !problem && html`<p class="note">${t("stopped")}</p>`}
          ${problem && html`<p class="problem" role="alert">${t(problem)}</p>`}
        </div>`}
      <${Actions} session=${session} />
    </section>
  </main>`;
}

/** @param {{session: import("./session.js").Session}} props */
function Actions({ session }) {
  const { question, problem } = session.state;
  const another = () => {
    session.stop();
    session.update({ screen: "ask", problem: null, draft: "" });
  };
  return html`<nav class="actions">
    <button type="button" onClick=${() => session.reset()}><${Icon} name="again" />${t("startAgain")}</button>
    ${session.isAnswering && html`<button type="button" class="primary" onClick=${() => session.stop()}>
      <${Icon} name="stop" />${t("stop")}</button>`}
    ${!session.isAnswering && problem && question && html`<button type="button"
      onClick=${() => session.ask(question)}><${Icon} name="switch" />${t("tryAgain")}</button>`}
    ${!session.isAnswering && html`<button type="button" class="primary" onClick=${another}>
      <${Icon} name="question" />${t("otherQuestion")}</button>`}
  </nav>`;
}
