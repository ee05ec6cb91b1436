// The questions and answers of the conversation, or how to begin one.

import messages from "../i18n/app.js";
import { language, translator } from "../i18n/index.js";
import { html, useEffect, useMemo, useRef } from "../vendor/preact.js";
import { canHaveHeat } from "./request.js";
import { TaskButtons } from "./task_panel.js";
import { TurnView } from "./turn.js";
import { app } from "./store.js";

const t = translator(messages);

const NEAR_END = 120;
/** Above the last question, which stays in view while its answer grows. */
const MARGIN = 16;

/** @param {{state: import("./state.js").State}} props */
export function ConversationView({ state }) {
  const { turns } = state.conversation;
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  const follows = useRef(true);
  const last = turns.at(-1);
  useEffect(() => {
    follows.current = true;
  }, [turns.length, last?.status === "sending"]);
  useEffect(() => {
    const element = ref.current;
    const turn = /** @type {HTMLElement | null | undefined} */ (element?.querySelector(".turn:last-child"));
    if (element && turn && follows.current) element.scrollTop = Math.min(element.scrollHeight, turn.offsetTop - MARGIN);
  }, [last]);
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = /** @type {HTMLElement} */ (ref.current);
    const turn = /** @type {HTMLElement | null | undefined} */ (ref.current?.querySelector(".turn:last-child"));
    const end = Math.min(scrollHeight - clientHeight, (turn?.offsetTop ?? 0) - MARGIN);
    if (Math.abs(end - scrollTop) < NEAR_END) follows.current = true;
  };
  const leave = () => {
    follows.current = false; // until the scrolling that begins here comes back to the end
  };
  return html`<div class="talk" ref=${ref} onScroll=${onScroll} onWheel=${leave} onTouchMove=${leave}
    onPointerDown=${leave} onKeyDown=${leave} tabindex="0" role="region" aria-label=${t("conversation")}>
    ${turns.length
      ? turns.map((turn, index) => html`<${Kept} key=${turn.id} turn=${turn} number=${index + 1} state=${state} />`)
      : html`<${Welcome} state=${state} />`}
  </div>`;
}

/**
 * A turn that is rendered again only when something about it changed.
 *
 * @param {{turn: import("./state.js").Turn, number: number, state: import("./state.js").State}} props
 */
function Kept({ turn, number, state }) {
  const isLast = state.conversation.turns.at(-1) === turn;
  const isShown = (state.shownTurn ?? state.conversation.turns.at(-1)?.id) === turn.id;
  const view = {
    activeMark: isShown ? state.activeMark : null,
    tokens: isShown ? state.tokens : null,
    isShown,
    isLast,
    isBusy: state.conversation.turns.some(({ status }) => !["done", "stopped", "failed"].includes(status)),
    isOnline: !state.offline && state.server?.ready === true,
    waiting: turn.status === "waiting" ? (state.server?.queue.waiting ?? 0) : 0,
    showsTimings: state.settings.timings,
    heat: state.heat && canHaveHeat(state),
  };
  return useMemo(
    () => html`<${TurnView} turn=${turn} number=${number} view=${view} pictures=${state.conversation.pictures} />`,
    [turn, number, state.conversation.pictures, language(), ...Object.values(view)],
  );
}

/** @param {{state: import("./state.js").State}} props */
function Welcome({ state }) {
  const hasPicture = state.conversation.pictures.length > 0;
  const suggestions = t(state.server?.model.startsWith("vlrun-tiny") ? "shelfQuestions" : "questions").split("|");
  const choose = (/** @type {string} */ question) => {
    app.set({ draft: question, task: null });
    document.getElementById("question")?.focus();
  };
  return html`<div class="welcome">
    <h2>${t(hasPicture ? "welcomePicture" : "welcome")}</h2>
    <p>${t(hasPicture ? "welcomePictureHint" : "welcomeHint")}</p>
    <div class="suggestions" role="group" aria-label=${t("suggestions")}>
      ${suggestions.map(
        (question) => html`<button type="button" class="suggestion" key=${question} onClick=${() => choose(question)}>
          ${question}
        </button>`,
      )}
    </div>
    ${state.tasks.length > 0 &&
    html`<h3>${t("orTask")}</h3>
      <div class="task-grid"><${TaskButtons} tasks=${state.tasks} /></div>`}
  </div>`;
}
