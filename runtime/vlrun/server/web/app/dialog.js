// A modal dialog with a title and a button to close it. The browser keeps the focus inside and closes it on Escape.

import common from "../i18n/common.js";
import { translator } from "../i18n/index.js";
import { html, useEffect, useRef } from "../vendor/preact.js";
import { Icon } from "./icons.js";

const t = translator(common);

/**
 * @param {{title: string, onClose: () => void, kind?: "sheet" | "drawer" | "small", children?: any, footer?: any}} props
 */
export function Dialog({ title, onClose, kind = "sheet", children, footer }) {
  const ref = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const element = ref.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  const closeOutside = (/** @type {MouseEvent} */ event) => {
    if (event.target === ref.current) onClose();
  };
  return html`<dialog
    class="dialog dialog-${kind}"
    ref=${ref}
    aria-label=${title}
    onCancel=${(/** @type {Event} */ event) => {
      event.preventDefault();
      onClose();
    }}
    onMouseDown=${closeOutside}
  >
    <div class="dialog-frame">
      <header class="dialog-head">
        <h2>${title}</h2>
        <button type="button" class="icon-button" aria-label=${t("close")} title=${t("close")} onClick=${onClose}>
          <${Icon} name="close" />
        </button>
      </header>
      <div class="dialog-body">${children}</div>
      ${footer && html`<footer class="dialog-foot">${footer}</footer>`}
    </div>
  </dialog>`;
}
