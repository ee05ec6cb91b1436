// The state of the service: asked for again and again, and shown on demand.

import { readiness, sendJson } from "../api/client.js";
import messages from "../i18n/app.js";
import { tag, translator } from "../i18n/index.js";
import { html } from "../vendor/preact.js";
import { Dialog } from "./dialog.js";
import { app } from "./store.js";

const t = translator(messages);

const READY_SECONDS = 10;
const WAITING_SECONDS = 2;
const TIMEOUT_SECONDS = 10;
/** Tries that must fail before the service counts as unreachable: a busy machine may answer one late. */
const MAX_FAILURES = 2;

let failures = 0;

/** Ask for the state until the page is closed; rarely while the page is hidden or all is well. */
export async function watchServer() {
  for (;;) {
    if (!app.value.keyNeeded) await refresh();
    const { server, offline } = app.value;
    const isBusy = offline || failures > 0 || !server?.ready || app.value.dialog === "server";
    await pause(document.hidden || !isBusy ? READY_SECONDS : WAITING_SECONDS);
  }
}

async function refresh() {
  try {
    const server = await readiness(AbortSignal.timeout(TIMEOUT_SECONDS * 1000));
    failures = 0;
    app.set({ server, offline: false });
    if (server.ready && !app.value.tasks.length) await loadTasks();
  } catch (error) {
    const refused = /** @type {{status?: number}} */ (error).status === 401;
    failures = refused ? 0 : failures + 1;
    app.set({ offline: failures >= MAX_FAILURES });
  }
}

async function loadTasks() {
  try {
    app.set({ tasks: (await sendJson("/v1/tasks")).data });
  } catch {
    // Without tasks, questions can still be asked.
  }
}

/** Ask for the state now, for example after a key was entered. */
export const refreshServer = refresh;

/** @param {number} seconds */
function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/**
 * @param {import("../api/types.js").Readiness | null} server
 * @param {boolean} offline
 * @param {boolean} keyNeeded
 * @returns {string}
 */
export function stateText(server, offline, keyNeeded) {
  if (keyNeeded) return t("keyTitle");
  if (offline) return t("stateOffline");
  if (!server) return t("stateConnecting");
  const texts = {
    ready: t("stateReady"),
    loading: t("stateLoading"),
    stuck: t("stateStuck"),
    stopping: t("stateStopping"),
  };
  return texts[server.status] ?? server.status;
}

/** @param {{state: import("./state.js").State, onClose: () => void}} props */
export function ServerDialog({ state, onClose }) {
  const { server, offline, keyNeeded } = state;
  const { model, device, queue, version, context, memory, notes } = server ?? {};
  /** @type {[string, string | undefined][]} */
  const rows = [
    [t("serviceState"), stateText(server, offline, keyNeeded)],
    [t("serviceModel"), model],
    [t("serviceDevice"), device],
    [t("serviceQueue"), queue && t("queueText", { running: queue.running, waiting: queue.waiting, limit: queue.limit })],
    [t("serviceContext"), context ? t("tokens", { n: context }) : undefined],
    [t("serviceMemory"), memory?.resident_bytes ? memoryText(memory) : undefined],
    [t("serviceVersion"), version],
  ];
  return html`<${Dialog} title=${t("service")} kind="small" onClose=${onClose}>
    <dl class="facts">
      ${rows
        .filter(([, value]) => value)
        .map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>
    ${notes?.length ? html`<ul class="notes">${notes.map((note) => html`<li key=${note}>${note}</li>`)}</ul>` : null}
    <p class="hint">${t("privacy")}</p>
  <//>`;
}

/** @param {{resident_bytes?: number, available_bytes?: number}} memory */
function memoryText({ resident_bytes: used = 0, available_bytes: free }) {
  return free === undefined ? gibibytes(used) : t("memoryText", { used: gibibytes(used), free: gibibytes(free) });
}

/** @param {number} bytes */
function gibibytes(bytes) {
  return `${(bytes / 2 ** 30).toLocaleString(tag(), { maximumFractionDigits: 1 })} GiB`;
}
