// Short messages at the edge of the page.

import common from "../i18n/common.js";
import { translator } from "../i18n/index.js";
import { html } from "../vendor/preact.js";
import { Icon } from "./icons.js";
import { dismissToast } from "./store.js";

const t = translator(common);

/** @param {{toasts: import("./state.js").Toast[]}} props */
export function Toasts({ toasts }) {
  return html`<div class="toasts" role="status" aria-live="polite">
    ${toasts.map(
      ({ id, text, kind, action }) => html`<div class=${`toast toast-${kind}`} key=${id}>
        <span>${text}</span>
        ${action &&
        html`<button
          type="button"
          class="text-button"
          onClick=${() => {
            dismissToast(id);
            action.run();
          }}
        >
          ${action.label}
        </button>`}
        <button type="button" class="icon-button" aria-label=${t("close")} onClick=${() => dismissToast(id)}>
          <${Icon} name="close" size=${16} />
        </button>
      </div>`,
    )}
  </div>`;
}
