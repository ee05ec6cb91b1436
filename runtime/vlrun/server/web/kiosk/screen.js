// The device: a screen that stays on and full, without menus, zoom, selection or a way to leave the page.

/** Keep the page in its place. */
export function guardScreen() {
  addEventListener("contextmenu", (event) => isTyping(event) || event.preventDefault());
  addEventListener("dragstart", (event) => event.preventDefault());
  addEventListener("gesturestart", (event) => event.preventDefault());
  addEventListener("wheel", (event) => event.ctrlKey && event.preventDefault(), { passive: false });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => event.preventDefault());
  addEventListener("click", stayHere, { capture: true });
  addEventListener("auxclick", stayHere, { capture: true });
  void keepOn();
  document.addEventListener("visibilitychange", () => void keepOn());
}

/** @param {Event} event */
function isTyping({ target }) {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
}

/** @param {Event} event A link in an answer must not replace the kiosk, for nothing leads back. */
function stayHere(event) {
  if (event.target instanceof Element && event.target.closest("a[href]")) event.preventDefault();
}

/** Keep the screen on while the page is seen, where the browser can. */
async function keepOn() {
  if (document.visibilityState !== "visible" || !("wakeLock" in navigator)) return;
  try {
    await navigator.wakeLock.request("screen");
  } catch {
    // The battery is low, or the browser forbids it: the screen goes off as the system wants.
  }
}

/** Fill the screen, where the browser can. Needs a touch or a key. */
export async function fillScreen() {
  if (document.fullscreenElement || matchMedia("(display-mode: fullscreen)").matches) return;
  try {
    await document.documentElement.requestFullscreen({ navigationUI: "hide" });
  } catch {
    // The page works as well in a window.
  }
}
