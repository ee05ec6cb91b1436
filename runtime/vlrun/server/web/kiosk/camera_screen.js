// The camera: what it sees, and a button.

import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { Heading } from "./focus.js";
import { Icon } from "../app/icons.js";

const t = translator(messages);
const JPEG_QUALITY = 0.92;
/** As many pixels as the camera has, up to these; on a phone the camera on its back. */
const WANTED = { width: { ideal: 3840 }, height: { ideal: 2160 }, facingMode: { ideal: "environment" } };

/** @param {{session: import("./session.js").Session}} props */
export function CameraScreen({ session }) {
  const video = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const [cameras, setCameras] = useState(/** @type {string[]} */ ([]));
  const [chosen, setChosen] = useState(0);
  const [ready, setReady] = useState(false);
  const [mirrored, setMirrored] = useState(false);

  useEffect(() => {
    const ended = new AbortController();
    open(cameras[chosen], ended.signal).then(async (stream) => {
      if (!stream || !video.current) return;
      video.current.srcObject = stream;
      setMirrored(stream.getVideoTracks()[0].getSettings().facingMode === "user");
      if (cameras.length === 0) setCameras(await listCameras(stream));
    }).catch(() => session.update({ screen: "home", problem: "cameraProblem" }));
    return () => {
      setReady(false);
      ended.abort();
    };
  }, [chosen]);

  const back = () => session.update({ screen: "home" });
  const shoot = async () => {
    const picture = video.current && (await capture(video.current));
    if (picture) session.show(picture);
  };
  return html`<main class="camera">
    <${Heading} class="unseen">${t("camera")}<//>
    <video class=${mirrored ? "mirrored" : ""} ref=${video} autoplay playsinline muted
      onLoadedData=${() => setReady(true)}></video>
    ${!ready && html`<p class="opening" role="status">${t("cameraOpening")}</p>`}
    <nav class="bar">
      <button type="button" onClick=${back}><${Icon} name="back" />${t("back")}</button>
      <button type="button" class="shutter" aria-label=${t("shutter")} disabled=${!ready} onClick=${shoot}></button>
      ${cameras.length > 1
        ? html`<button type="button" onClick=${() => setChosen((chosen + 1) % cameras.length)}>
            <${Icon} name="swap" />${t("switchCamera")}</button>`
        : html`<span></span>`}
    </nav>
  </main>`;
}

/**
 * @param {string | undefined} deviceId
 * @param {AbortSignal} signal Closes the camera.
 * @returns {Promise<MediaStream | null>}
 */
async function open(deviceId, signal) {
  const device = deviceId ? { ...WANTED, facingMode: undefined, deviceId: { exact: deviceId } } : WANTED;
  const stream = await navigator.mediaDevices.getUserMedia({ video: device });
  const close = () => stream.getTracks().forEach((track) => track.stop());
  if (signal.aborted) close();
  signal.addEventListener("abort", close);
  return signal.aborted ? null : stream;
}

/**
 * @param {MediaStream} stream
 * @returns {Promise<string[]>} The devices, beginning with that of the stream.
 */
async function listCameras(stream) {
  const used = stream.getVideoTracks()[0].getSettings().deviceId ?? "";
  const devices = await navigator.mediaDevices.enumerateDevices();
  const all = devices.filter(({ kind }) => kind === "videoinput").map(({ deviceId }) => deviceId);
  return [used, ...all.filter((id) => id !== used)];
}

/**
 * @param {HTMLVideoElement} video
 * @returns {Promise<Blob | null>}
 */
function capture(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
}
