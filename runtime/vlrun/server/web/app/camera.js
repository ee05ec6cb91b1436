// Takes a photograph with a camera of the device.

import messages from "../i18n/app.js";
import { translator } from "../i18n/index.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { addFiles } from "./pictures.js";

const t = translator(messages);

const JPEG_QUALITY = 0.92;

/** @typedef {"starting" | "running" | "insecure" | "denied" | "missing" | "failed"} CameraState */

/** @param {{onClose: () => void}} props */
export function CameraDialog({ onClose }) {
  const video = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const [device, setDevice] = useState(/** @type {string | null} */ (null));
  const [devices, setDevices] = useState(/** @type {MediaDeviceInfo[]} */ ([]));
  const [state, setState] = useState(/** @type {CameraState} */ ("starting"));

  useEffect(() => openCamera(device, video, setState, setDevices), [device]);

  const take = async () => {
    const element = video.current;
    if (!element) return;
    await addFiles([await photograph(element)]);
    onClose();
  };
  const next = () => {
    const track = /** @type {MediaStream | null} */ (video.current?.srcObject)?.getVideoTracks()[0];
    const present = devices.findIndex(({ deviceId }) => deviceId === track?.getSettings().deviceId);
    setDevice(devices[(present + 1) % devices.length].deviceId);
  };
  const isRunning = state === "running";
  const footer = html`<button type="button" class="button" disabled=${devices.length < 2} onClick=${next}>
      <${Icon} name="swap" />${t("switchCamera")}
    </button>
    <button type="button" class="button button-primary" disabled=${!isRunning} onClick=${take}>
      <${Icon} name="camera" />${t("takeIt")}
    </button>`;
  return html`<${Dialog} title=${t("takePhoto")} onClose=${onClose} footer=${isRunning || state === "starting" ? footer : null}>
    ${isRunning || state === "starting"
      ? html`<div class="camera">
          <video ref=${video} autoplay playsinline muted aria-label=${t("cameraPicture")}></video>
          ${!isRunning && html`<p class="camera-note" role="status">${t("cameraStarting")}</p>`}
        </div>`
      : html`<${NoCamera} state=${state} onClose=${onClose} />`}
  <//>`;
}

/**
 * @param {string | null} device
 * @param {{current: HTMLVideoElement | null}} video
 * @param {(state: CameraState) => void} setState
 * @param {(devices: MediaDeviceInfo[]) => void} setDevices
 * @returns {() => void} Closes it.
 */
function openCamera(device, video, setState, setDevices) {
  let closed = false;
  /** @type {MediaStream | null} */
  let stream = null;
  const close = () => stream?.getTracks().forEach((track) => track.stop());
  const open = async () => {
    if (!navigator.mediaDevices) return setState("insecure");
    const choice = device ? { deviceId: { exact: device } } : { facingMode: "environment" };
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        video: { ...choice, width: { ideal: 1920 }, height: { ideal: 1440 } },
      });
    } catch (error) {
      if (!closed) setState(troubleOf(error));
      return;
    }
    if (closed || !video.current) return close();
    video.current.srcObject = stream;
    await video.current.play().catch(() => undefined);
    setState("running");
    setDevices((await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput"));
  };
  void open();
  return () => {
    closed = true;
    close();
  };
}

/** @param {unknown} error @returns {CameraState} */
function troubleOf(error) {
  const { name } = /** @type {Error} */ (error);
  if (name === "NotAllowedError" || name === "SecurityError") return "denied";
  return name === "NotFoundError" || name === "OverconstrainedError" ? "missing" : "failed";
}

/** @param {HTMLVideoElement} video @returns {Promise<File>} */
async function photograph(video) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
  return new File([blob], t("photo"), { type: "image/jpeg" });
}

/** @param {{state: CameraState, onClose: () => void}} props */
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
  return html`<div class="no-camera">
    <p role="status">${texts[/** @type {keyof typeof texts} */ (state)]}</p>
    <label class="button button-primary">
      <${Icon} name="camera" />${t("cameraOfSystem")}
      <input type="file" class="visually-hidden" accept="image/*" capture="environment" onChange=${onChange} />
    </label>
  </div>`;
}
