// Takes a photograph with a camera of the device.

import { useCamera } from "../camera/camera.js";
import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html } from "../vendor/preact.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { addFiles } from "./pictures.js";

const t = translator(messages);

/** @param {{onClose: () => void}} props */
export function CameraDialog({ onClose }) {
  const { video, state, isMirrored, next, photograph } = useCamera();
  const take = async () => {
    const photo = await photograph();
    if (!photo) return;
    await addFiles([new File([photo], t("photo"), { type: photo.type })]);
    onClose();
  };
  const isRunning = state === "running";
  if (!isRunning && state !== "starting") return html`<${NoCamera} state=${state} onClose=${onClose} />`;
  const footer = html`<button type="button" class="button" disabled=${!next} onClick=${next}>
      <${Icon} name="swap" />${t("switchCamera")}
    </button>
    <button type="button" class="button button-primary" disabled=${!isRunning} onClick=${take}>
      <${Icon} name="camera" />${t("takeIt")}
    </button>`;
  return html`<${Dialog} title=${t("takePhoto")} onClose=${onClose} footer=${footer}>
    <div class="camera">
      <video class=${isMirrored ? "mirrored" : ""} ref=${video} autoplay playsinline muted
        aria-label=${t("cameraPicture")}></video>
      ${!isRunning && html`<p class="camera-note" role="status">${t("cameraStarting")}</p>`}
    </div>
  <//>`;
}

/** @param {{state: "insecure" | "denied" | "missing" | "failed", onClose: () => void}} props */
function NoCamera({ state, onClose }) {
  const texts = {
    insecure: t("cameraInsecure"),
    denied: t("cameraDenied"),
    missing: t("cameraMissing"),
    failed: t("cameraFailed"),
  };
  const onChange = async (/** @type {any} */ event) => {
    await addFiles([...event.target.files]);
    onClose();
  };
  return html`<${Dialog} title=${t("takePhoto")} onClose=${onClose}>
    <div class="no-camera">
      <p role="status">${texts[state]}</p>
      <label class="button button-primary">
        <${Icon} name="camera" />${t("cameraOfSystem")}
        <input type="file" class="visually-hidden" accept="image/*" capture="environment" onChange=${onChange} />
      </label>
    </div>
  <//>`;
}
