// The labels of an answer's boxes and points, which light up on the picture.

import { html } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";

const t = translator(messages);

const FIRST_MARKS = 30;

/** @param {{marks: readonly import("../viewer/marks.js").Mark[], marking: import("../viewer/active_mark.js").Marking}} props */
export function MarkList({ marks, marking }) {
  const shown = marks.slice(0, FIRST_MARKS);
  return html`
    <ul class="mark-list" aria-label=${t("found")}>
      ${shown.map(({ label }, index) => html`<li key=${index}>
        <button
          type="button"
          class="mark-item"
          aria-pressed=${marking.active === index ? "true" : "false"}
          onMouseEnter=${() => marking.hover(index)}
          onMouseLeave=${() => marking.hover(null)}
          onClick=${() => marking.choose(index)}
        >${label || index + 1}</button>
      </li>`)}
      ${shown.length < marks.length && html`<li class="answer-note">${t("moreFound", { n: marks.length - shown.length })}</li>`}
    </ul>
  `;
}
