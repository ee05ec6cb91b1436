// The kiosk: one picture at a time, big buttons, everything forgotten after each person.

import { ApiError, sendJson } from "../api/client.js";
import { onLanguage, setLanguage } from "../i18n/index.js";
import { html, render } from "../vendor/preact.js";
import { App } from "./app.js";
import { readConfig } from "./config.js";
import { useStoredKey } from "./operator_key.js";
import { guardScreen } from "./screen.js";
import { delay } from "./service.js";
import { Session } from "./session.js";

const RETRY_MS = 2000;
const root = /** @type {HTMLElement} */ (document.getElementById("kiosk"));
const session = new Session();
/** @type {import("./config.js").Config | null} */
let config = null;

function show() {
  render(html`<${App} session=${session} config=${config} />`, root);
}

/** @param {import("./config.js").Config} read */
function apply({ language, theme }) {
  if (theme !== "auto") document.documentElement.dataset.theme = theme;
  const own = navigator.languages.find((name) => /^(en|zh)\b/i.test(name)) ?? "en";
  setLanguage(language === "auto" ? (/^zh/i.test(own) ? "zh" : "en") : language, { remember: false });
}

/** Read the configuration, whenever the service is there. */
async function configure() {
  while (!config) {
    try {
      config = await readConfig();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      await delay(RETRY_MS, new AbortController().signal);
    }
  }
  session.onReset = () => config && apply(config);
  apply(config);
}

/** Ask for the key at once if the service needs one, and not when the first picture is taken. */
async function checkKey() {
  try {
    await sendJson("/v1/models");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401 || error.status === 403) session.update({ needsKey: true });
  }
}

/** Have the browser show a page of the kiosk's when the service is away. It can on HTTPS and on this machine. */
async function replaceErrors() {
  try {
    await navigator.serviceWorker?.register("/web/kiosk/worker.js", { scope: "/kiosk" });
  } catch {
    // The browser forbids it.
  }
}

useStoredKey();
guardScreen();
void replaceErrors();
onLanguage(show);
root.replaceChildren();
show();
await configure();
await checkKey();
