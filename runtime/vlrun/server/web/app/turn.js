// One question and its answer.

import { AnswerView } from "../answer/answer_view.js";
import { formatOf } from "../answer/format.js";
import { copyText } from "../answer/save.js";
import messages from "../i18n/app.js";
import common from "../i18n/common.js";
import { translator } from "../i18n/index.js";
import taskMessages from "../i18n/tasks.js";
import { html, useState } from "../vendor/preact.js";
import { Icon } from "./icons.js";
import { app, isRunning } from "./store.js";
import { taskIcon, taskName } from "./task_texts.js";
import { Timings } from "./timings.js";
import { TurnError } from "./turn_error.js";
import { TurnProgress } from "./turn_progress.js";
import { Times } from "./video_view.js";

const t = translator(messages);
const words = translator(common);
const tasks = translator(taskMessages);

/**
 * @typedef {object} TurnState What surrounds a turn.
 * @property {number | null} activeMark
 * @property {[number, number] | null} tokens Those whose heat map is shown.
 * @property {boolean} isShown Whether the picture shows its marks.
 * @property {boolean} isLast
 * @property {boolean} isBusy Whether any question is being answered.
 * @property {boolean} isOnline
 * @property {number} waiting Questions in the queue.
 * @property {boolean} showsTimings
 * @property {boolean} heat
 */

/**
 * @param {{turn: import("./state.js").Turn, number: number, view: TurnState,
 *   pictures: import("./state.js").Picture[]}} props
 */
export function TurnView({ turn, number, view }) {
  const notes = turn.extension.notes ?? [];
  const reasoning = [turn.reasoning, ...(turn.extension.reasoning ?? [])].filter(Boolean).join("\n\n");
  const hasAnswer = turn.text.trim() !== "" || turn.extension.value !== undefined;
  return html`<article class="turn" aria-label=${t("turn", { n: number })} aria-busy=${isRunning(turn)}>
    <${Question} turn=${turn} />
    <div class="turn-answer">
      ${reasoning && html`<${Reasoning} text=${reasoning} open=${!turn.text && isRunning(turn)} />`}
      ${hasAnswer && html`<${Answer} turn=${turn} view=${view} />`}
      ${(turn.extension.times ?? []).length > 0 && html`<${Times} times=${turn.extension.times} />`}
      ${isRunning(turn) && html`<${TurnProgress} turn=${turn} waiting=${view.waiting} />`}
      ${turn.status === "stopped" && html`<p class="turn-note">${t(hasAnswer ? "stopped" : "stoppedEmpty")}</p>`}
      ${turn.extension.finish_reason === "repetition" && html`<p class="turn-note">${t("repeated")}</p>`}
      ${turn.finish === "length" && turn.extension.finish_reason !== "repetition" && turn.status === "done" && html`<p class="turn-note">${t("cut")}</p>`}
      ${turn.status === "done" && !hasAnswer && !reasoning && html`<p class="turn-note">${t("emptyAnswer")}</p>`}
      ${notes.length > 0 && html`<${Notes} notes=${notes} />`}
      ${turn.error && html`<${TurnError} turn=${turn} error=${turn.error} isBusy=${view.isBusy} isOnline=${view.isOnline} />`}
      ${!isRunning(turn) && html`<${Actions} turn=${turn} view=${view} hasAnswer=${hasAnswer} />`}
      ${view.showsTimings && turn.timings && html`<${Timings} timings=${turn.timings} usage=${turn.usage} />`}
    </div>
  </article>`;
}

/** @param {{turn: import("./state.js").Turn}} props */
function Question({ turn: { question, task, json, region, enhance, pictures } }) {
  const names = task ? [...task.items, ...task.fields] : [];
  return html`<div class="question">
    ${task &&
    html`<p class="question-task">
      <${Icon} name=${taskIcon(task)} size=${16} /><strong>${taskName(task)}</strong>${names.length > 0 &&
      html`<span>${names.join(", ")}</span>`}
    </p>`}
    ${question && html`<p class="question-text">${question}</p>`}
    ${(region || enhance || json || pictures.length > 1) &&
    html`<p class="question-marks">
      ${pictures.length > 1 && html`<span>${t("pictureCount", { n: pictures.length })}</span>`}
      ${region && html`<span>${t("regionChosen")}</span>`} ${enhance && html`<span>${t("enhanced")}</span>`}
      ${json && html`<span>${tasks("jsonAnswer")}</span>`}
    </p>`}
  </div>`;
}

/** @param {{text: string, open: boolean}} props */
function Reasoning({ text, open }) {
  return html`<details class="reasoning" open=${open}>
    <summary>${t("reasoning")}</summary>
    <p>${text}</p>
  </details>`;
}

/**
 * What the service remarks about a request, in English and in its own words: for those who want to know.
 *
 * @param {{notes: string[]}} props
 */
function Notes({ notes }) {
  return html`<details class="reasoning notes">
    <summary>${t("notes", { n: notes.length })}</summary>
    ${notes.map((note) => html`<p key=${note} lang="en">${note}</p>`)}
  </details>`;
}

/** @param {{turn: import("./state.js").Turn, view: TurnState}} props */
function Answer({ turn, view }) {
  const { value, marks = [], votes, heatmap } = turn.extension;
  const format = turn.json ? "json" : formatOf(turn.text, turn.extension);
  const spans = marks.map(({ start, end }) => (start === undefined || end === undefined ? null : [start, end]));
  const select = (/** @type {Partial<import("./state.js").State>} */ changes) =>
    app.set({ shownTurn: turn.id, ...changes });
  const onActiveMark = (/** @type {number | null} */ activeMark) => select({ activeMark });
  const onToken = (/** @type {[number, number] | null} */ tokens) => select({ tokens });
  return html`<${AnswerView}
    text=${turn.text}
    value=${value}
    marks=${marks}
    spans=${spans}
    activeMark=${view.activeMark}
    onActiveMark=${onActiveMark}
    votes=${votes}
    format=${format}
    compact=${!turn.json}
    streaming=${isRunning(turn)}
    tokens=${heatmap?.tokens}
    activeTokens=${view.tokens}
    onToken=${heatmap && view.heat ? onToken : undefined}
  />`;
}

/** @param {{turn: import("./state.js").Turn, view: TurnState, hasAnswer: boolean}} props */
function Actions({ turn, view, hasAnswer }) {
  const { marks, heatmap } = turn.extension;
  const canShow = !view.isShown && (marks?.length || (heatmap && view.heat));
  const [timings, setTimings] = useState(false);
  const edit = () => {
    const { question, task, json, schema, region } = turn;
    app.set({ draft: question, task, json, schema, region });
    document.getElementById("question")?.focus();
  };
  return html`<div class="turn-actions">
      ${hasAnswer && !turn.json && formatOf(turn.text, turn.extension) === "text" && html`<${CopyButton} text=${turn.text} />`}
      <${Action} icon="edit" label=${t("edit")} onClick=${edit} />
      ${canShow &&
      html`<${Action}
        icon="eye"
        label=${t("showOnPicture")}
        onClick=${() => app.set({ shownTurn: turn.id, activeMark: null, tokens: null })}
      />`}
      ${turn.timings &&
      !view.showsTimings &&
      html`<button type="button" class="text-button" aria-expanded=${timings} onClick=${() => setTimings(!timings)}>
        ${t("timings")}
      </button>`}
    </div>
    ${timings && !view.showsTimings && turn.timings && html`<${Timings} timings=${turn.timings} usage=${turn.usage} />`}`;
}

/** @param {{icon: import("./icons.js").IconName, label: string, onClick: () => void}} props */
function Action({ icon, label, onClick }) {
  return html`<button type="button" class="text-button" onClick=${onClick}>
    <${Icon} name=${icon} size=${16} />${label}
  </button>`;
}

const COPIED_MILLISECONDS = 2000;

/** @param {{text: string}} props */
function CopyButton({ text }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    setCopied(await copyText(text));
    setTimeout(() => setCopied(false), COPIED_MILLISECONDS);
  };
  return html`<${Action} icon=${copied ? "check" : "copy"} label=${words(copied ? "copied" : "copy")} onClick=${copy} />`;
}
