// An answer in Markdown. Each block is rendered once; while the text grows, only its last block changes.

import { html, useLayoutEffect, useMemo, useRef } from "../vendor/preact.js";
import { tag, translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";
import { showFormulas } from "./formulas.js";
import { wrapMarks, wrapWords } from "./highlight.js";
import { blocksOf, closed, render } from "./markdown.js";
import { copyText } from "./save.js";

/** @typedef {import("./spans.js").Span} Span */
/** @typedef {import("./markdown.js").Block} Block */

const t = translator(messages);

/** Longer texts are shown as they are: parsing them would stop the page. An answer of 8,192 tokens has some 40,000. */
const MAX_MARKDOWN = 100_000;

/**
 * @typedef {object} TextAnswerProps
 * @property {string} text
 * @property {readonly (Span | null)[]} spans Where its marks are.
 * @property {import("../viewer/active_mark.js").Marking} marking
 * @property {boolean} raw Whether it is JSON: shown as it is, as code.
 * @property {boolean} streaming
 * @property {Span | null} activeWord
 * @property {((word: Span) => void) | null} onWord With it, words can be chosen.
 */

/** @param {TextAnswerProps} props */
export function TextAnswer(props) {
  const { text, spans, marking, raw, streaming, activeWord, onWord } = props;
  const content = useRef(/** @type {HTMLElement | null} */ (null));
  const before = useRef(/** @type {{text: string, blocks: Block[]} | null} */ (null));
  const parsed = useMemo(() => (text.length > MAX_MARKDOWN ? null : (before.current = raw ? whole(text) : parse(text, before.current))), [text, raw]);
  const blocks = parsed?.blocks ?? [];
  useLayoutEffect(() => light(content.current, "[data-mark]", (element) => Number(element.dataset.mark) === marking.active));
  useLayoutEffect(() => {
    light(content.current, ".word", ({ dataset: { start, end } }) => overlaps(activeWord, Number(start), Number(end)));
    const words = content.current?.querySelectorAll(".word");
    const first = /** @type {HTMLElement | undefined} */ (content.current?.querySelector(".word.active") ?? words?.[0]);
    if (first && !content.current?.querySelector('.word[tabindex="0"]')) first.tabIndex = 0;
  });
  if (!parsed) {
    return html`<p class="answer-note">${t("plainText")}</p><pre class="plain-text">${text}</pre>`;
  }
  const events = contentEvents({ marking, onWord });
  return html`
    <div class=${`markdown${onWord ? " choosing" : ""}${streaming ? " streaming" : ""}`} ref=${content} ...${events}>
      ${blocks.map(
        (block, at) => html`<${BlockView}
          key=${block.start}
          raw=${streaming && !raw && at === blocks.length - 1 ? closed(block.raw) : block.raw}
          shape=${raw ? "code" : block.rendered ? "markdown" : "plain"}
          start=${block.start}
          spans=${spans}
          choosing=${onWord !== null}
        />`,
      )}
    </div>
    ${onWord && html`<p class="answer-note">${t("wordHint")}</p>`}
  `;
}

/** @param {string} text @param {{text: string, blocks: Block[]} | null} before */
function parse(text, before) {
  try {
    return blocksOf(text, before);
  } catch {
    return whole(text);
  }
}

/** @param {string} text */
function whole(text) {
  return { text, blocks: [{ raw: text, start: 0, rendered: false }] };
}

/** @param {{raw: string, shape: "code" | "markdown" | "plain", start: number, spans: readonly (Span | null)[], choosing: boolean}} props */
function BlockView({ raw, shape, start, spans, choosing }) {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  const inside = spans.filter((span) => span && span[1] > start && span[0] < start + raw.length).join(";");
  useLayoutEffect(() => {
    if (!element.current) return;
    element.current.replaceChildren(shape === "code" ? codeOf(raw) : shape === "plain" ? plainOf(raw) : rendered(raw));
    if (choosing) wrapWords(element.current, raw, start, tag());
    else wrapMarks(element.current, raw, start, spans);
    addControls(element.current);
    void showFormulas(element.current);
  }, [raw, shape, start, inside, choosing]);
  return html`<div class="block" ref=${element}></div>`;
}

/** @param {string} raw @returns {Node} */
function rendered(raw) {
  try {
    return render(raw);
  } catch {
    return plainOf(raw); // deeply nested text overflows the parser's stack
  }
}

/** @param {string} text */
function plainOf(text) {
  const plain = document.createElement("pre");
  plain.className = "plain-text";
  plain.textContent = text;
  return plain;
}

/** @param {string} text */
function codeOf(text) {
  const pre = document.createElement("pre");
  pre.append(document.createElement("code"));
  /** @type {HTMLElement} */ (pre.firstElementChild).textContent = text;
  return pre;
}

/** @param {HTMLElement} block Code gets a button, tables a frame that scrolls. */
function addControls(block) {
  for (const table of block.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "table-scroll";
    frame.tabIndex = 0;
    frame.role = "region";
    frame.ariaLabel = t("scrollableTable");
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const code of block.querySelectorAll("pre > code")) {
    const pre = /** @type {HTMLElement} */ (code.parentElement);
    const frame = document.createElement("div");
    frame.className = "code-frame";
    pre.replaceWith(frame);
    pre.tabIndex = 0;
    pre.role = "region";
    pre.ariaLabel = t("codeBlock");
    frame.append(pre, copyButton((code.textContent ?? "").replace(/\n$/, "")));
  }
}

/** @param {string} code */
function copyButton(code) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "answer-button code-copy";
  button.textContent = t("copy");
  button.ariaLabel = t("copyCode");
  button.addEventListener("click", async () => {
    button.textContent = t((await copyText(code)) ? "copied" : "copyFailed");
    setTimeout(() => (button.textContent = t("copy")), 2000);
  });
  return button;
}

/**
 * @param {HTMLElement | null} content
 * @param {string} selector
 * @param {(element: HTMLElement) => boolean} isActive
 */
function light(content, selector, isActive) {
  for (const element of content?.querySelectorAll(selector) ?? []) {
    element.classList.toggle("active", isActive(/** @type {HTMLElement} */ (element)));
  }
}

/** @param {Span | null} span @param {number} start @param {number} end */
function overlaps(span, start, end) {
  return span !== null && span[0] < end && span[1] > start;
}

/** @param {Pick<TextAnswerProps, "marking" | "onWord">} handlers */
function contentEvents({ marking, onWord }) {
  const markOf = (/** @type {Event} */ event) => /** @type {HTMLElement | null} */ (elementOf(event)?.closest("[data-mark]") ?? null);
  const wordOf = (/** @type {Event} */ event) => /** @type {HTMLElement | null} */ (elementOf(event)?.closest(".word") ?? null);
  const choose = (/** @type {HTMLElement} */ word) => onWord?.([Number(word.dataset.start), Number(word.dataset.end)]);
  const hover = (/** @type {Event} */ event) => {
    const mark = markOf(event);
    if (mark) marking.hover(Number(mark.dataset.mark));
  };
  const activate = (/** @type {Event} */ event) => {
    const [mark, word] = [markOf(event), wordOf(event)];
    if (mark) marking.choose(Number(mark.dataset.mark));
    if (word) focusWord(word);
    if (word) choose(word);
    return mark ?? word;
  };
  return {
    onPointerOver: (/** @type {PointerEvent} */ event) => event.pointerType === "mouse" && hover(event),
    onPointerOut: (/** @type {PointerEvent} */ event) => event.pointerType === "mouse" && markOf(event) && marking.hover(null),
    // In lower case: Preact knows no other spelling of events that elements have no property for.
    onfocusin: (/** @type {Event} */ event) => hover(event),
    onfocusout: (/** @type {Event} */ event) => markOf(event) && marking.hover(null),
    onClick: activate,
    onKeyDown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" || event.key === " ") return void (activate(event) && event.preventDefault());
      const word = wordOf(event);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!word || !step) return;
      const words = [.../** @type {Element} */ (word.closest(".markdown")).querySelectorAll(".word")];
      const next = /** @type {HTMLElement | undefined} */ (words[words.indexOf(word) + step]);
      if (next) focusWord(next);
      event.preventDefault();
    },
  };
}

/** @param {HTMLElement} word The one word that Tab reaches. */
function focusWord(word) {
  for (const other of word.closest(".markdown")?.querySelectorAll('.word[tabindex="0"]') ?? []) {
    /** @type {HTMLElement} */ (other).tabIndex = -1;
  }
  word.tabIndex = 0;
  word.focus();
}

/** @param {Event} event */
function elementOf(event) {
  return event.target instanceof Element ? event.target : null;
}
