// The bar at the top: the state of the service, and what opens the dialogs.

import messages from "../i18n/app.js";
import { language, setLanguage, translator } from "../i18n/index.js";
import { html } from "../vendor/preact.js";
import { startConversation } from "./conversations.js";
import { Icon } from "./icons.js";
import { stateText } from "./server_state.js";
import { openDialog } from "./store.js";

const t = translator(messages);

/** @param {{state: import("./state.js").State}} props */
export function Header({ state }) {
  const { server, offline, keyNeeded, conversation } = state;
  const text = stateText(server, offline, keyNeeded);
  const isReady = server?.ready === true && !offline && !keyNeeded;
  const kind = isReady ? "ok" : offline ? "danger" : "warning";
  const isEmpty = !conversation.turns.length && !conversation.pictures.length;
  return html`<header class="bar">
    <h1 class="brand"><img src="/web/icon.svg" alt="" width="26" height="26" />vlrun</h1>
    <button
      type="button"
      class="server-chip"
      aria-haspopup="dialog"
      aria-label=${`${t("service")}: ${isReady ? `${server.model}, ${text}` : text}`}
      onClick=${() => openDialog(keyNeeded ? "key" : "server")}
    >
      <span class=${`dot dot-${kind}`}></span>
      <span class="server-name">${isReady ? server.model : text}</span>
    </button>
    <nav class="bar-actions" aria-label=${t("page")}>
      <${BarButton} icon="plus" label=${t("newConversation")} onClick=${() => startConversation()} disabled=${isEmpty} />
      <${BarButton} icon="history" label=${t("history")} onClick=${() => openDialog("history")} />
      <${BarButton} icon="settings" label=${t("settings")} onClick=${() => openDialog("settings")} />
      <${BarButton} icon="help" label=${t("help")} onClick=${() => openDialog("help")} />
      <button
        type="button"
        class="bar-button language"
        lang=${language() === "zh" ? "en" : "zh-CN"}
        onClick=${() => setLanguage(language() === "zh" ? "en" : "zh")}
      >
        ${t("otherLanguage")}
      </button>
    </nav>
  </header>`;
}

/** @param {{icon: import("./icons.js").IconName, label: string, onClick: () => void, disabled?: boolean}} props */
function BarButton({ icon, label, onClick, disabled }) {
  return html`<button
    type="button"
    class="bar-button"
    aria-label=${label}
    title=${label}
    disabled=${disabled}
    onClick=${onClick}
  >
    <${Icon} name=${icon} /><span class="bar-label">${label}</span>
  </button>`;
}
