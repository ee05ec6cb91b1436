// The camera: what it sees, and a button.

import { Icon } from "../app/icons.js";
import { useCamera } from "../camera/camera.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html, useEffect } from "../vendor/preact.js";
import { Heading } from "./focus.js";

const t = translator(messages);

/** @param {{session: import("./session.js").Session}} props */
export function CameraScreen({ session }) {
  const { video, state, isMirrored, next, photograph } = useCamera();
  const isRunning = state === "running";
  useEffect(() => {
    if (!isRunning && state !== "starting") session.update({ screen: "home", problem: "cameraProblem" });
  }, [state]);
  const back = () => session.update({ screen: "home" });
  const shoot = async () => {
    const picture = await photograph();
    if (picture) session.show(picture);
  };
  return html`<main class="camera">
    <${Heading} class="unseen">${t("camera")}<//>
    <video class=${isMirrored ? "mirrored" : ""} ref=${video} autoplay playsinline muted></video>
    ${!isRunning && html`<p class="opening" role="status">${t("cameraOpening")}</p>`}
    <nav class="bar">
      <button type="button" onClick=${back}><${Icon} name="back" />${t("back")}</button>
      <button type="button" class="shutter" aria-label=${t("shutter")} disabled=${!isRunning} onClick=${shoot}></button>
      ${next
        ? html`<button type="button" onClick=${next}><${Icon} name="swap" />${t("switchCamera")}</button>`
        : html`<span></span>`}
    </nav>
  </main>`;
}
