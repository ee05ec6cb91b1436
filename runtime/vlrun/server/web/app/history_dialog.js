// The history: find, open, export and delete conversations, which only this browser has.

import messages from "../i18n/history.js";
import { tag, translator } from "../i18n/index.js";
import { listConversations } from "../store/conversations.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { openConversation, removeAllConversations, removeConversation, saveNow } from "./conversations.js";
import { Dialog } from "./dialog.js";
import { downloadConversations, matches, titleOf } from "./export.js";
import { Icon } from "./icons.js";
import { useObjectUrl } from "./object_url.js";

const t = translator(messages);

/** @typedef {import("./state.js").Conversation} Conversation */

/** @type {Intl.DateTimeFormatOptions} */
const DATE = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };

/** @param {{state: import("./state.js").State, onClose: () => void}} props */
export function HistoryDialog({ state, onClose }) {
  const [all, setAll] = useState(/** @type {Conversation[] | null} */ (null));
  const [query, setQuery] = useState("");
  const [isAsking, setAsking] = useState(false);
  const load = async () => setAll(await listConversations());
  useEffect(() => {
    void saveNow().then(load);
  }, []);
  const found = (all ?? []).filter((conversation) => matches(conversation, query));
  const open = async (/** @type {string} */ id) => {
    onClose();
    await openConversation(id);
  };
  const remove = async (/** @type {string} */ id) => {
    await removeConversation(id);
    await load();
  };
  const removeAll = async () => {
    await removeAllConversations();
    setAsking(false);
    await load();
  };
  const footer =
    all?.length &&
    (isAsking
      ? html`<${Sure} key="sure" count=${all.length} onKeep=${() => setAsking(false)} onDelete=${removeAll} />`
      : html`<button type="button" class="button" onClick=${() => downloadConversations(all)}>
            <${Icon} name="download" size=${18} />${t("exportAll")}
          </button>
          <button type="button" class="button" onClick=${() => setAsking(true)}>
            <${Icon} name="trash" size=${18} />${t("deleteAll")}
          </button>`);
  return html`<${Dialog} title=${t("history")} kind="drawer" onClose=${onClose} footer=${footer}>
    <div class="search">
      <${Icon} name="search" size=${18} />
      <input type="search" autofocus aria-label=${t("search")} placeholder=${t("search")} value=${query}
        onInput=${(/** @type {any} */ event) => setQuery(event.target.value)} />
    </div>
    ${all && !found.length && html`<p class="empty">${t(all.length ? "nothingFound" : "empty")}</p>`}
    <ul class="history">
      ${found.map(
        (conversation) => html`<${Entry}
          key=${conversation.id}
          conversation=${conversation}
          isOpen=${conversation.id === state.conversation.id}
          onOpen=${open}
          onRemove=${remove}
        />`,
      )}
    </ul>
    <p class="hint">${t("onlyHere")}</p>
  <//>`;
}

/**
 * Asks once more before all is deleted. The second press of a double click or key keeps it.
 *
 * @param {{count: number, onKeep: () => void, onDelete: () => void}} props
 */
function Sure({ count, onKeep, onDelete }) {
  const keep = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => keep.current?.focus(), []);
  return html`<p class="grow">${t("deleteAllSure", { n: count })}</p>
    <button type="button" class="button button-danger" onClick=${onDelete}>${t("deleteAll")}</button>
    <button type="button" class="button" ref=${keep} onClick=${onKeep}>${t("keep")}</button>`;
}

/**
 * @param {{conversation: Conversation, isOpen: boolean, onOpen: (id: string) => void, onRemove: (id: string) => void}}
 *   props
 */
function Entry({ conversation, isOpen, onOpen, onRemove }) {
  const { id, updated, pictures, turns } = conversation;
  const src = useObjectUrl(pictures[0]?.thumb);
  const title = titleOf(conversation);
  const date = new Date(updated).toLocaleString(tag(), DATE);
  return html`<li class="entry" aria-current=${isOpen}>
    <button type="button" class="entry-open" onClick=${() => onOpen(id)}>
      <span class="entry-picture">${src ? html`<img src=${src} alt="" />` : html`<${Icon} name="chat" />`}</span>
      <span class="entry-text">
        <strong>${title}</strong>
        <small>${date} · ${t("questions", { n: turns.length })}</small>
      </span>
    </button>
    <button type="button" class="icon-button" aria-label=${t("exportOne", { title })} title=${t("exportIt")}
      onClick=${() => downloadConversations([conversation])}>
      <${Icon} name="download" size=${18} />
    </button>
    <button type="button" class="icon-button" aria-label=${t("deleteOne", { title })} title=${t("deleteIt")}
      onClick=${() => onRemove(id)}>
      <${Icon} name="trash" size=${18} />
    </button>
  </li>`;
}
