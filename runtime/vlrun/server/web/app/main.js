// The page: a picture beside a conversation about it.

import { onKeyNeeded } from "../api/client.js";
import messages from "../i18n/app.js";
import { language, onLanguage, setLanguage, translator } from "../i18n/index.js";
import { html, render, useEffect, useState } from "../vendor/preact.js";
import { Announcer } from "./announcer.js";
import { CameraDialog } from "./camera.js";
import { Composer } from "./composer.js";
import { ConversationView } from "./conversation.js";
import { keepConversations } from "./conversations.js";
import { DropLayer } from "./drop.js";
import { Header } from "./header.js";
import { HelpDialog } from "./help_dialog.js";
import { HistoryDialog } from "./history_dialog.js";
import { KeyDialog } from "./key_dialog.js";
import { PageDialog } from "./page_choice.js";
import { PicturePane } from "./picture_pane.js";
import { ServerDialog, watchServer } from "./server_state.js";
import { applyTheme } from "./settings.js";
import { SettingsDialog } from "./settings_dialog.js";
import { onShortcut } from "./shortcuts.js";
import { useStore } from "./state.js";
import { app, openDialog } from "./store.js";
import { Toasts } from "./toasts.js";

const t = translator(messages);

const DIALOGS = {
  camera: CameraDialog,
  help: HelpDialog,
  history: HistoryDialog,
  key: KeyDialog,
  pages: PageDialog,
  server: ServerDialog,
  settings: SettingsDialog,
};

function Page() {
  const state = useStore(app);
  const [, setLanguageNumber] = useState(0);
  useEffect(() => onLanguage(() => setLanguageNumber((number) => number + 1)), []);
  useEffect(() => {
    document.title = t("title");
  }, [language()]);
  const dialog = state.dialog && DIALOGS[state.dialog];
  const isEmpty = !state.conversation.pictures.length;
  return html`<${Header} state=${state} />
    ${state.offline && html`<${Offline} />`}
    <main class=${`panes ${isEmpty ? "panes-empty" : ""}`}>
      <section class="pane pane-picture" tabindex="-1" aria-label=${t("picture")}><${PicturePane} state=${state} /></section>
      <section class="pane pane-talk" aria-label=${t("questionsAndAnswers")}>
        <${ConversationView} state=${state} />
        <${Composer} state=${state} />
      </section>
    </main>
    <${DropLayer} />
    <${Toasts} toasts=${state.toasts} />
    <${Announcer} turn=${state.conversation.turns.at(-1)} />
    ${dialog && html`<${dialog} key=${state.dialog} state=${state} onClose=${() => openDialog(null)} />`}`;
}

function Offline() {
  return html`<p class="offline" role="status"><span class="spinner" aria-hidden="true"></span>${t("offline")}</p>`;
}

function start() {
  setLanguage(language(), { remember: false });
  applyTheme(app.value.settings.theme);
  onKeyNeeded((wrong) => app.set({ dialog: "key", keyNeeded: true, keyWrong: wrong }));
  addEventListener("keydown", onShortcut);
  void keepConversations();
  void watchServer();
  const root = /** @type {HTMLElement} */ (document.getElementById("app"));
  root.replaceChildren();
  render(html`<${Page} />`, root);
}

start();
