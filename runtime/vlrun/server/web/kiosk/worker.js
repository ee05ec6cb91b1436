// A service worker of the kiosk: while nothing listens at its address, as when the machine has just started, a page that
// waits comes in place of the browser's error. Everything else goes to the service, and no answer of it is kept.

const CACHE = "vlrun-kiosk";
const PAGE = "/web/kiosk/away.html";
const FILES = [PAGE, "/web/kiosk/away.js", "/web/kiosk/guard.js", "/web/styles/tokens.css", "/web/styles/kiosk.css"];
const worker = /** @type {any} */ (self); // its types and those of pages exclude each other

async function store() {
  await (await caches.open(CACHE)).addAll(FILES);
}

/** @param {any} event */
async function answer(event) {
  try {
    const response = await fetch(event.request);
    if (event.request.mode === "navigate") event.waitUntil(store().catch(() => undefined));
    return response;
  } catch {
    return caches.match(event.request.mode === "navigate" ? PAGE : event.request);
  }
}

worker.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(store()));
worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { mode, url } = event.request;
  if (mode === "navigate" || FILES.includes(new URL(url).pathname)) event.respondWith(answer(event));
});
