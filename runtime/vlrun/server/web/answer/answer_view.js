import { html } from "../vendor/preact.js";
/** @param {any} props */
export function AnswerView({ text }) {
  return html`<div class="answer-text">${text}</div>`;
}
