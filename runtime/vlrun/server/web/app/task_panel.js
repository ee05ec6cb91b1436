// The menu of tasks, and the fields of the chosen one.

import messages from "../i18n/tasks.js";
import { translator } from "../i18n/index.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { Icon } from "./icons.js";
import { namesOf, needsNames, taskAbout, taskExamples, taskIcon, taskName } from "./task_texts.js";
import { app } from "./store.js";

const t = translator(messages);

/** @typedef {import("../api/types.js").TaskObject} Task */

/** @param {Task} task Choose it for the next question. */
export function chooseTask(task) {
  app.set({ task: { id: task.id, items: [], fields: [] } });
  requestAnimationFrame(() => (document.getElementById("task-names") ?? document.getElementById("question"))?.focus());
}

/** @param {import("./state.js").State} state @returns {string} What is missing; empty if nothing is. */
export function taskTrouble({ task, tasks, conversation: { pictures } }) {
  const definition = tasks.find(({ id }) => id === task?.id);
  if (!task || !definition) return "";
  if (pictures.length < (definition.images ?? 1)) return t("picturesMissing", { n: definition.images ?? 1 });
  const names = [...task.items, ...task.fields];
  return needsNames(definition) && !names.length ? t("namesMissing") : "";
}

/** @param {{state: import("./state.js").State}} props */
export function TaskMenu({ state }) {
  const [open, setOpen] = useState(false);
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (!open) return undefined;
    const outside = (/** @type {Event} */ event) => {
      if (!ref.current?.contains(/** @type {Node} */ (event.target))) setOpen(false);
    };
    addEventListener("pointerdown", outside);
    addEventListener("focusin", outside);
    return () => {
      removeEventListener("pointerdown", outside);
      removeEventListener("focusin", outside);
    };
  }, [open]);
  if (!state.tasks.length) return null;
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || !open) return;
    event.stopPropagation();
    setOpen(false);
    ref.current?.querySelector("button")?.focus();
  };
  return html`<div class="menu" ref=${ref} onKeyDown=${onKeyDown}>
    <button
      type="button"
      id="tasks"
      class="chip-button"
      aria-expanded=${open}
      aria-controls="task-menu"
      onClick=${() => setOpen(!open)}
    >
      <${Icon} name="tasks" size=${18} /><span>${t("tasks")}</span>
    </button>
    ${open &&
    html`<div class="menu-list" id="task-menu" role="group" aria-label=${t("tasks")}>
      <${TaskButtons} tasks=${state.tasks} onChoose=${() => setOpen(false)} />
    </div>`}
  </div>`;
}

/** @param {{tasks: Task[], onChoose?: () => void}} props */
export function TaskButtons({ tasks, onChoose }) {
  return html`${tasks.map(
    (task) => html`<button
      type="button"
      class="task"
      key=${task.id}
      onClick=${() => {
        onChoose?.();
        chooseTask(task);
      }}
    >
      <span class="task-icon"><${Icon} name=${taskIcon(task)} /></span>
      <span><strong>${taskName(task)}</strong><small>${taskAbout(task)}</small></span>
    </button>`,
  )}`;
}

/** @param {{state: import("./state.js").State, task: import("./state.js").TaskChoice}} props */
export function TaskFields({ state, task }) {
  const definition = state.tasks.find(({ id }) => id === task.id);
  const kind = definition && namesOf(definition);
  if (!definition || !kind) return null;
  const names = task[kind];
  const { task_names: most, task_name_length: longest } = state.server?.limits ?? {};
  const change = (/** @type {string[]} */ next) => app.set({ task: { ...task, [kind]: next.slice(0, most) } });
  const label = kind === "fields" ? t("fields") : t(needsNames(definition) ? "items" : "itemsOptional");
  return html`<div class="task-fields">
    <label for="task-names">${label}</label>
    <${NameList} names=${names} longest=${longest} onChange=${change} />
    <div class="examples">
      ${taskExamples(task)
        .filter((name) => !names.includes(name))
        .map(
          (name) => html`<button type="button" class="suggestion" key=${name} onClick=${() => change([...names, name])}>
            + ${name}
          </button>`,
        )}
    </div>
  </div>`;
}

/** @param {{names: string[], longest?: number, onChange: (names: string[]) => void}} props */
function NameList({ names, longest, onChange }) {
  const [text, setText] = useState("");
  const add = () => {
    const added = text.split(/[,，;；、\n]/).map((name) => name.trim().slice(0, longest));
    const next = [...new Set([...names, ...added.filter(Boolean)])];
    if (next.length > names.length) onChange(next);
    setText("");
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && !event.isComposing && text.trim()) {
      event.preventDefault();
      add();
    } else if (event.key === "Backspace" && !text && names.length) {
      onChange(names.slice(0, -1));
    }
  };
  return html`<div class="names">
    ${names.map(
      (name) => html`<span class="name" key=${name}>
        ${name}
        <button
          type="button"
          class="chip-close"
          aria-label=${t("remove", { name })}
          onClick=${() => onChange(names.filter((each) => each !== name))}
        >
          <${Icon} name="close" size=${14} />
        </button>
      </span>`,
    )}
    <input
      id="task-names"
      type="text"
      autocomplete="off"
      enterkeyhint="enter"
      placeholder=${names.length ? "" : t("addName")}
      value=${text}
      onInput=${(/** @type {any} */ event) => setText(event.target.value)}
      onKeyDown=${onKeyDown}
      onBlur=${add}
    />
  </div>`;
}
