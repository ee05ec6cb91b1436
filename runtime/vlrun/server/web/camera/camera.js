// A camera of the device: opens it, changes to another one, and takes a photograph.

import { useCallback, useEffect, useRef, useState } from "../vendor/preact.js";

const JPEG_QUALITY = 0.92;
/** As many pixels as the camera has, up to these. */
const SIZE = { width: { ideal: 3840 }, height: { ideal: 2160 } };

/**
 * `insecure`: browsers open cameras only on pages from this machine or over HTTPS.
 *
 * @typedef {"starting" | "running" | "insecure" | "denied" | "missing" | "failed"} CameraState
 */

/**
 * @typedef {object} Camera
 * @property {{current: HTMLVideoElement | null}} video The element that shows it.
 * @property {CameraState} state
 * @property {boolean} isMirrored Whether it looks at the person, who expects a mirror.
 * @property {(() => void) | null} next Change to the next camera; null if there is only one.
 * @property {() => Promise<Blob | null>} photograph What the camera sees as a JPEG.
 */

/** @returns {Camera} The camera that looks away from the person, where there are two. It is closed with the component. */
export function useCamera() {
  const video = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const [devices, setDevices] = useState(/** @type {string[]} */ ([]));
  const [chosen, setChosen] = useState(0);
  const [state, setState] = useState(/** @type {CameraState} */ ("starting"));
  const [isMirrored, setMirrored] = useState(false);
  useEffect(() => {
    const closed = new AbortController();
    const tell = (/** @type {CameraState} */ next) => closed.signal.aborted || setState(next);
    const show = async () => {
      const stream = await open(devices[chosen], closed.signal);
      const [track] = stream.getVideoTracks();
      track.addEventListener("ended", () => tell("failed")); // unplugged
      if (closed.signal.aborted || !video.current) return;
      video.current.srcObject = stream;
      setMirrored(track.getSettings().facingMode === "user");
      video.current.addEventListener("loadeddata", () => tell("running"), { once: true, signal: closed.signal });
      if (devices.length === 0) setDevices(await list(track));
    };
    setState("starting");
    show().catch((error) => tell(troubleOf(error)));
    return () => closed.abort();
  }, [chosen]);
  const next = useCallback(() => setChosen((chosen + 1) % devices.length), [chosen, devices]);
  const photograph = useCallback(async () => video.current && captured(video.current), []);
  return { video, state, isMirrored, next: devices.length > 1 ? next : null, photograph };
}

/**
 * @param {string | undefined} deviceId
 * @param {AbortSignal} closed
 * @returns {Promise<MediaStream>}
 */
async function open(deviceId, closed) {
  if (!navigator.mediaDevices) throw new DOMException("the page is not from this machine", "InsecureError");
  const choice = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: { ideal: "environment" } };
  const stream = await navigator.mediaDevices.getUserMedia({ video: { ...SIZE, ...choice } });
  const close = () => stream.getTracks().forEach((track) => track.stop());
  if (closed.aborted) close();
  else closed.addEventListener("abort", close);
  return stream;
}

/** @param {MediaStreamTrack} used @returns {Promise<string[]>} The cameras, beginning with the used one. */
async function list(used) {
  const first = used.getSettings().deviceId ?? "";
  const devices = await navigator.mediaDevices.enumerateDevices();
  const all = devices.filter(({ kind }) => kind === "videoinput").map(({ deviceId }) => deviceId);
  return [first, ...all.filter((id) => id !== first)];
}

/** @param {unknown} error @returns {CameraState} */
function troubleOf(error) {
  const { name } = /** @type {Error} */ (error);
  if (name === "InsecureError") return "insecure";
  if (name === "NotAllowedError" || name === "SecurityError") return "denied";
  return name === "NotFoundError" || name === "OverconstrainedError" ? "missing" : "failed";
}

/** @param {HTMLVideoElement} video @returns {Promise<Blob | null>} */
function captured(video) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
}
