// Where the question is typed, and what goes with it: pictures, a task, a part of the picture, JSON.

import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import taskMessages from "../i18n/tasks.js";
import { html, useEffect, useState } from "../vendor/preact.js";
import { askDraft, stop } from "./ask.js";
import { AddPicture, TakePhoto } from "./add_picture.js";
import { Icon } from "./icons.js";
import { JsonChoice, isSchema } from "./json_choice.js";
import { TaskFields, TaskMenu, taskTrouble } from "./task_panel.js";
import { taskIcon, taskName } from "./task_texts.js";
import { app, runningTurn } from "./store.js";

const t = translator(messages);
const tasks = translator(taskMessages);

/** @param {{state: import("./state.js").State}} props */
export function Composer({ state }) {
  const { draft, task, json, schema, region } = state;
  const [trouble, setTrouble] = useState("");
  useEffect(() => setTrouble(""), [draft, task, json, schema, state.conversation.pictures.length]);
  const isRunning = runningTurn() !== undefined;

  const submit = () => {
    if (isRunning) return;
    const found = task ? taskTrouble(state) : json && !isSchema(schema) ? tasks("schemaWrong") : "";
    setTrouble(found);
    if (!found) askDraft();
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  };

  return html`<form
    class="composer"
    aria-label=${t("askForm")}
    onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      submit();
    }}
  >
    ${region && html`<${RegionChip} />`} ${task && html`<${TaskHead} task=${task} />`}
    ${task && html`<${TaskFields} state=${state} task=${task} />`}
    ${json && !task && html`<${JsonChoice} schema=${schema} />`}
    <textarea
      id="question"
      rows="1"
      maxlength="100000"
      enterkeyhint="send"
      aria-label=${t("question")}
      aria-describedby="trouble"
      placeholder=${task ? tasks("extra") : placeholder(state)}
      value=${draft}
      onInput=${(/** @type {any} */ event) => app.set({ draft: event.target.value })}
      onKeyDown=${onKeyDown}
    ></textarea>
    <p class="trouble" id="trouble" role="alert">${trouble}</p>
    <div class="composer-row">
      <${AddPicture} inputs=${state.server?.inputs} compact />
      <${TakePhoto} compact />
      <${TaskMenu} state=${state} />
      ${!task && html`<${JsonSwitch} json=${json} />`}
      <span class="grow"></span>
      ${/* Two elements: one that becomes a submit button while it is pressed would send what is typed. */ isRunning
        ? html`<button type="button" key="stop" class="send stop" onClick=${stop} aria-keyshortcuts="Escape">
            <${Icon} name="stop" /><span>${t("stop")}</span>
          </button>`
        : html`<button type="submit" key="ask" class="send" disabled=${!draft.trim() && !task}>
            <${Icon} name="send" /><span>${t("ask")}</span>
          </button>`}
    </div>
  </form>`;
}

/** @param {import("./state.js").State} state */
function placeholder({ conversation: { pictures, turns } }) {
  if (turns.length) return t("askMore");
  return pictures.length ? t("askHere") : t("askWithoutPicture");
}

/** @param {{json: boolean}} props */
function JsonSwitch({ json }) {
  return html`<button
    type="button"
    class="chip-button"
    aria-pressed=${json}
    title=${tasks("jsonAnswer")}
    aria-label=${tasks("jsonAnswer")}
    onClick=${() => app.set({ json: !json })}
  >
    <${Icon} name="json" size=${18} /><span>JSON</span>
  </button>`;
}

function RegionChip() {
  return html`<p class="chip">
    <${Icon} name="crop" size=${16} />${t("regionChosen")}
    <button
      type="button"
      class="chip-close"
      aria-label=${t("regionClear")}
      title=${t("regionClear")}
      onClick=${() => app.set({ region: null })}
    >
      <${Icon} name="close" size=${16} />
    </button>
  </p>`;
}

/** @param {{task: import("./state.js").TaskChoice}} props */
function TaskHead({ task }) {
  return html`<p class="chip chip-task">
    <${Icon} name=${taskIcon(task)} size=${16} /><strong>${taskName(task)}</strong>
    <button
      type="button"
      class="chip-close"
      aria-label=${tasks("leave")}
      title=${tasks("leave")}
      onClick=${() => app.set({ task: null })}
    >
      <${Icon} name="close" size=${16} />
    </button>
  </p>`;
}
