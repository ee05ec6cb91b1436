// A small picture of a video, as far as the browser can play it.

const SECONDS = 5;
const JPEG_QUALITY = 0.8;

/** @param {Blob} blob @param {number} side @returns {Promise<Blob | null>} A JPEG of its first frame. */
export async function firstFrame(blob, side) {
  const url = URL.createObjectURL(blob);
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  video.src = url;
  try {
    await loaded(video);
    const scale = Math.min(1, side / Math.max(video.videoWidth, video.videoHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
    canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
    canvas.getContext("2d")?.drawImage(video, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
  } catch {
    return null;
  } finally {
    video.removeAttribute("src");
    URL.revokeObjectURL(url);
  }
}

/** @param {HTMLVideoElement} video @returns {Promise<void>} */
function loaded(video) {
  return new Promise((resolve, reject) => {
    video.onloadeddata = () => resolve();
    video.onerror = () => reject(new Error("the browser cannot play it"));
    setTimeout(() => reject(new Error("it takes too long")), SECONDS * 1000);
  });
}
