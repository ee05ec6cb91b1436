// Pictures that the person adds: read, made smaller if they must be, and sent ahead of the question.

import { ApiError } from "../api/client.js";
import { preview, upload } from "../api/images.js";
import messages from "../i18n/app.js";
import fileMessages from "../i18n/files.js";
import { translator } from "../i18n/index.js";
import { startWith } from "./conversations.js";
import { explain } from "./errors.js";
import { choosePages } from "./page_choice.js";
import { firstFrame } from "./video_frame.js";
import { randomId } from "./state.js";
import { app, changeConversation, toast } from "./store.js";

const t = translator(messages);
const files = translator(fileMessages);

/** What a form adds to the bytes of a picture, at most. */
const FORM_BYTES = 4096;
const THUMB_SIDE = 160;
const JPEG_QUALITY = 0.92;
/** Of the sides, for a picture that the service refuses as it is. */
const JPEG_FACTORS = [1, 0.7, 0.4];

/**
 * Add files to the conversation.
 *
 * @param {Iterable<File | Blob>} files
 */
export async function addFiles(files) {
  app.set({ adding: true });
  try {
    for (const file of files) await addFile(file);
  } finally {
    app.set({ adding: false });
  }
}

/** @param {File | Blob} file */
async function addFile(file) {
  const name = (file instanceof File && file.name) || t("pastedPicture");
  const { id } = app.value.conversation;
  try {
    /** @type {import("./state.js").Picture | null} */
    let last = null;
    for await (const picture of picturesOf(file, name)) {
      if (app.value.conversation.id !== id) return; // the person has gone on to another one
      changeConversation({ pictures: [...app.value.conversation.pictures, picture] });
      app.set({ picture: picture.key, region: null, shownTurn: null, activeMark: null });
      void sendAhead(picture);
      last = picture;
    }
    if (last && app.value.conversation.turns.length) offerNewConversation(last);
  } catch (error) {
    toast(troubleOf(error, name), { kind: "danger" });
  }
}

/** @param {unknown} error @param {string} name @returns {string} Why a file cannot be used. */
function troubleOf(error, name) {
  const { title, detail } = explain(error);
  const extra = /vlrun\[(\w+)\]/.exec(detail)?.[1];
  if (extra) return files("extraMissing", { name, extra });
  return detail ? `${name}: ${title} (${detail})` : `${name}: ${title}`;
}

/** @param {import("./state.js").Picture} picture */
function offerNewConversation(picture) {
  const { length } = app.value.conversation.pictures;
  const run = () => startWith({ ...picture, key: randomId(), file: undefined });
  toast(t("pictureAdded", { n: length }), { action: { label: t("askAboutThisOnly"), run } });
}

/**
 * Send a picture ahead of its question. If the service refuses what the browser can show, because of its format or its
 * size, it is sent as a JPEG, then as smaller ones. An error of the way to the service shows when the picture is asked
 * about.
 *
 * @param {import("./state.js").Picture} picture
 */
async function sendAhead(picture) {
  for (const factor of [...JPEG_FACTORS, null]) {
    try {
      return void (await upload(picture.blob));
    } catch (error) {
      if (!(error instanceof ApiError) || ![400, 413, 415].includes(error.status)) return;
      const blob = factor && !picture.shown && (await jpegOf(picture, factor));
      if (!blob) return refused(error, picture);
      picture = { ...picture, blob };
      await replacePicture(picture);
    }
  }
}

/** @param {import("./state.js").Picture} picture @param {number} factor @returns {Promise<Blob | null>} */
async function jpegOf({ blob, width, height }, factor) {
  try {
    return await drawn(blob, Math.max(1, Math.round(width * factor)), Math.max(1, Math.round(height * factor)), JPEG_QUALITY);
  } catch {
    return null;
  }
}

/** @param {import("./state.js").Picture} picture */
async function replacePicture(picture) {
  const size = (await sizeOf(picture.blob)) ?? picture;
  const changed = { ...picture, width: size.width, height: size.height };
  const { pictures } = app.value.conversation;
  changeConversation({ pictures: pictures.map((each) => (each.key === picture.key ? changed : each)) });
  toast(t("converted", { name: picture.name, width: size.width, height: size.height }));
}

/**
 * A picture that the service cannot use leaves the conversation.
 *
 * @param {unknown} error
 * @param {import("./state.js").Picture} picture
 */
function refused(error, picture) {
  removePicture(picture.key);
  toast(troubleOf(error, picture.name), { kind: "danger" });
}

/** @param {string} key */
export function removePicture(key) {
  const pictures = app.value.conversation.pictures.filter((picture) => picture.key !== key);
  changeConversation({ pictures });
  const shown = pictures.some((picture) => picture.key === app.value.picture);
  if (!shown) app.set({ picture: pictures.at(-1)?.key ?? null, region: null, activeMark: null });
}

/**
 * @param {Blob} file
 * @param {string} name
 * @returns {AsyncIterable<import("./state.js").Picture>} A picture or video, or each page of a document that the person
 *   chooses.
 */
async function* picturesOf(file, name) {
  const size = await sizeOf(file);
  if (size) {
    yield pictureOf(file, name, size);
    return;
  }
  const { pages, video, ...sent } = await upload(file);
  if (video) {
    const thumb = await firstFrame(file, THUMB_SIDE);
    const { width, height } = sent;
    yield { key: randomId(), name, blob: file, page: null, shown: null, thumb, seconds: video.seconds, width, height };
    return;
  }
  if (!pages) {
    yield shownByService(file, name, null, sent);
    return;
  }
  const count = pages.length;
  const most = limits().images - app.value.conversation.pictures.length;
  const chosen = count === 1 ? [1] : await choosePages({ blob: file, name, count, most });
  const shared = chosen.length > 1 ? { file: randomId() } : {};
  for (const page of chosen)
    yield { ...(await shownByService(file, files("pageOf", { name, n: page }), page, pages[page - 1])), ...shared };
}

/**
 * @param {Blob} file
 * @param {string} name
 * @param {{width: number, height: number}} size
 * @returns {Promise<import("./state.js").Picture>}
 */
async function pictureOf(file, name, size) {
  const { pixels, bytes } = limits();
  const scale = Math.min(1, Math.sqrt(pixels / (size.width * size.height)));
  const tooLarge = scale < 1 || file.size > bytes;
  const blob = tooLarge ? await smaller(file, size, scale, bytes) : file;
  const { width, height } = (tooLarge && (await sizeOf(blob))) || size;
  if (tooLarge) toast(t("madeSmaller", { name, width, height }));
  const thumb = await thumbOf(blob, width, height);
  return { key: randomId(), name, blob, page: null, shown: null, thumb, seconds: null, width, height };
}

/** The service's limits: a larger picture is made smaller here. It refuses others if they are not known yet. */
function limits() {
  const { image_pixels: pixels = Infinity, body_bytes: bytes = Infinity, images = Infinity } = app.value.server?.limits ?? {};
  return { pixels, images, bytes: bytes - FORM_BYTES };
}

/**
 * A picture in a format that only the service reads, such as HEIC or a page of a PDF.
 *
 * @param {Blob} file
 * @param {string} name
 * @param {number | null} page
 * @param {{width: number, height: number}} size
 * @returns {Promise<import("./state.js").Picture>}
 */
async function shownByService(file, name, page, { width, height }) {
  const shown = await preview(file, { page });
  const thumb = await thumbOf(shown, width, height);
  return { key: randomId(), name, blob: file, page, shown, thumb, seconds: null, width, height };
}

/** @param {Blob} blob @returns {Promise<{width: number, height: number} | null>} Of the upright picture. */
async function sizeOf(blob) {
  if (blob.type === "image/svg+xml") return null;
  const url = URL.createObjectURL(blob);
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(url);
  }
}

/**
 * A JPEG within the limits, upright.
 *
 * @param {Blob} blob
 * @param {{width: number, height: number}} size
 * @param {number} scale
 * @param {number} bytes
 * @returns {Promise<Blob>}
 */
async function smaller(blob, { width, height }, scale, bytes) {
  for (let factor = scale; ; factor *= 0.7) {
    const jpeg = await drawn(blob, Math.floor(width * factor), Math.floor(height * factor), JPEG_QUALITY);
    if (jpeg.size <= bytes) return jpeg;
  }
}

/** @param {Blob} blob @param {number} width @param {number} height @returns {Promise<Blob | null>} */
async function thumbOf(blob, width, height) {
  const scale = Math.min(1, THUMB_SIDE / Math.max(width, height));
  try {
    return await drawn(blob, Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)), 0.8);
  } catch {
    return null;
  }
}

/** @param {Blob} blob @param {number} width @param {number} height @param {number} quality @returns {Promise<Blob>} */
async function drawn(blob, width, height, quality) {
  const bitmap = await createImageBitmap(blob, {
    imageOrientation: "from-image",
    resizeWidth: width,
    resizeHeight: height,
    resizeQuality: "high",
  });
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  bitmap.close();
  return new Promise((resolve, reject) => {
    const done = (/** @type {Blob | null} */ jpeg) => (jpeg ? resolve(jpeg) : reject(new Error("no canvas")));
    canvas.toBlob(done, "image/jpeg", quality);
  });
}
