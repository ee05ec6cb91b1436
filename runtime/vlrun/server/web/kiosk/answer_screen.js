// The picture, the question and its answer.

import { AnswerView } from "../answer/answer_view.js";
import { formatOf } from "../answer/format.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html, useState } from "../vendor/preact.js";
import { localized } from "./config.js";
import { Heading } from "./focus.js";
import { Icon } from "../app/icons.js";
import { Moment } from "./moment.js";
import { Picture } from "./picture.js";
import { Progress } from "./progress.js";

const t = translator(messages);

/** Characters of an answer that is shown in large letters. */
const SHORT = 40;

/** @param {{session: import("./session.js").Session}} props */
export function AnswerScreen({ session }) {
  const { picture, size, question, phase, answer, progress, problem } = session.state;
  const [activeMark, setActiveMark] = useState(/** @type {number | null} */ (null));
  const marking = { activeMark, onActiveMark: setActiveMark };
  const isShort = phase === "done" && !answer.result?.value && answer.text.trim().length <= SHORT;
  const waits = phase === "waiting" || phase === "busy";
  return html`<main class="work">
    <${Picture} picture=${picture} size=${size} marks=${answer.result?.marks} activeMark=${activeMark} />
    <section class="panel">
      <${Heading} class="asked">${localized(question?.label)}<//>
      ${waits ? html`<${Moment} busy=${phase === "busy"} kept />` : html`
        <div class=${isShort ? "reply reply-short" : "reply"} aria-label=${t("answer")} tabindex="0" role="region" aria-live="polite"
            aria-busy=${String(session.isAnswering)}>
          ${(answer.text || answer.result) && html`<${Reply} answer=${answer} streaming=${session.isAnswering} marking=${marking} />`}
          ${session.isAnswering && !answer.text && html`<${Progress} phase=${phase} progress=${progress} />`}
          ${phase === "stopped" && !problem && html`<p class="note">${t("stopped")}</p>`}
          ${problem && html`<p class="problem" role="alert">${t(problem)}</p>`}
        </div>`}
      <${Actions} session=${session} />
    </section>
  </main>`;
}

/**
 * @param {{answer: import("./session.js").Answer, streaming: boolean,
 *   marking: {activeMark: number | null, onActiveMark: (index: number | null) => void}}} props
 */
function Reply({ answer: { text, result }, streaming, marking }) {
  const { value, marks = [], votes } = result ?? {};
  const spans = marks.map(({ start, end }) => (start === undefined || end === undefined ? null : [start, end]));
  return html`<${AnswerView} text=${text} value=${value} marks=${marks} spans=${spans} votes=${votes}
    format=${formatOf(text, { value, marks })} compact streaming=${streaming} ...${marking} />`;
}

/** @param {{session: import("./session.js").Session}} props */
function Actions({ session }) {
  const { question, problem } = session.state;
  const another = () => {
    session.stop();
    session.update({ screen: "ask", problem: null, draft: "" });
  };
  return html`<nav class="actions">
    <button type="button" onClick=${() => session.reset()}><${Icon} name="trash" />${t("startAgain")}</button>
    ${session.isAnswering && html`<button type="button" class="primary" onClick=${() => session.stop()}>
      <${Icon} name="stop" />${t("stop")}</button>`}
    ${!session.isAnswering && problem && question && html`<button type="button"
      onClick=${() => session.ask(question)}><${Icon} name="retry" />${t("tryAgain")}</button>`}
    ${!session.isAnswering && html`<button type="button" class="primary" onClick=${another}>
      <${Icon} name="help" />${t("otherQuestion")}</button>`}
  </nav>`;
}
