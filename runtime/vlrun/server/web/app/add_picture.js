// Buttons that add a picture: from a file, from the camera, or the example of the service.

import { send } from "../api/client.js";
import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html, useRef } from "../vendor/preact.js";
import { explain } from "./errors.js";
import { Icon } from "./icons.js";
import { addFiles } from "./pictures.js";
import { openDialog, toast } from "./store.js";

const t = translator(messages);

const EXAMPLE = "/web/example.png";
/** What is offered until the service has told what it reads. */
const INPUTS = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"];

/** Endings of files whose media type few systems know. */
const ENDINGS = Object.entries({ "image/heic": ".heic", "image/heif": ".heif", "image/avif": ".avif" });

/** @param {readonly string[]} inputs Media types. @returns {string} What a file dialog offers. */
function accepted(inputs) {
  return [...inputs, ...ENDINGS.filter(([type]) => inputs.includes(type)).map(([, ending]) => ending)].join(",");
}

/** @param {{inputs?: string[], compact?: boolean}} props */
export function AddPicture({ inputs = INPUTS, compact = false }) {
  const ref = useRef(/** @type {HTMLInputElement | null} */ (null));
  const onChange = (/** @type {any} */ event) => {
    void addFiles([...event.target.files]);
    event.target.value = "";
  };
  return html`<button
      type="button"
      class=${compact ? "icon-button" : "button button-primary"}
      aria-label=${compact ? t("addPicture") : undefined}
      title=${t("addPicture")}
      onClick=${() => ref.current?.click()}
    >
      <${Icon} name="image" />${!compact && html`<span>${t("choosePicture")}</span>`}
    </button>
    <input
      ref=${ref}
      type="file"
      class="visually-hidden"
      tabindex="-1"
      aria-label=${t("pictureFiles")}
      accept=${accepted(inputs)}
      multiple
      onChange=${onChange}
    />`;
}

/** @param {{compact?: boolean}} props */
export function TakePhoto({ compact = false }) {
  return html`<button
    type="button"
    class=${compact ? "icon-button" : "button"}
    aria-label=${compact ? t("takePhoto") : undefined}
    title=${t("takePhoto")}
    onClick=${() => openDialog("camera")}
  >
    <${Icon} name="camera" />${!compact && html`<span>${t("takePhoto")}</span>`}
  </button>`;
}

export function TryExample() {
  const add = async () => {
    try {
      const blob = await (await send(EXAMPLE)).blob();
      await addFiles([new File([blob], t("examplePicture"), { type: blob.type })]);
    } catch (error) {
      toast(explain(error).title, { kind: "danger" });
    }
  };
  return html`<button type="button" class="link" onClick=${add}>${t("tryExample")}</button>`;
}
