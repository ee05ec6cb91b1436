// Pictures that are dropped anywhere on the page or pasted into it.

import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html, useEffect, useState } from "../vendor/preact.js";
import { Icon } from "./icons.js";
import { addFiles } from "./pictures.js";

const t = translator(messages);

/** Covers the page while a file is dragged over it. */
export function DropLayer() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const change = (/** @type {DragEvent} */ event, /** @type {number} */ by) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      depth = Math.max(0, depth + by);
      setOver(depth > 0);
    };
    const enter = (/** @type {DragEvent} */ event) => change(event, 1);
    const leave = (/** @type {DragEvent} */ event) => change(event, -1);
    const move = (/** @type {DragEvent} */ event) => change(event, 0);
    const drop = (/** @type {DragEvent} */ event) => {
      change(event, -depth);
      const files = event.dataTransfer?.files;
      if (files?.length) void addFiles([...files]);
    };
    const paste = (/** @type {ClipboardEvent} */ event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      const isText = event.clipboardData?.types.includes("text/plain") && event.target instanceof HTMLTextAreaElement;
      if (!files.length || isText) return;
      event.preventDefault();
      void addFiles(files);
    };
    /** @type {[string, any][]} */
    const all = [["dragenter", enter], ["dragleave", leave], ["dragover", move], ["drop", drop], ["paste", paste]];
    for (const [name, listener] of all) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of all) removeEventListener(name, listener);
    };
  }, []);
  if (!over) return null;
  return html`<div class="drop-layer"><div><${Icon} name="image" size=${40} /><p>${t("dropHere")}</p></div></div>`;
}
