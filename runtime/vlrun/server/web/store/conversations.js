// Conversations in the browser's database. Where there is none, or it is full, they are kept until the page is closed.

/** @typedef {import("../app/state.js").Conversation} Conversation */

const DATABASE = "vlrun";
const CONVERSATIONS = "conversations";

/** @type {Map<string, Conversation>} What the database does not have. */
const unsaved = new Map();

/** @type {Promise<IDBDatabase | null> | undefined} */
let opened;

/** @type {() => void} */
let trouble = () => undefined;

/** @param {() => void} listener Called once, when a conversation cannot be saved. */
export function onHistoryTrouble(listener) {
  trouble = () => {
    trouble = () => undefined;
    listener();
  };
}

/** @returns {Promise<IDBDatabase | null>} Null if the browser has none, as in some private windows. */
function database() {
  opened ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(CONVERSATIONS, { keyPath: "id" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
      request.onblocked = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  return opened;
}

/**
 * Run one request on the conversations.
 *
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} use
 * @returns {Promise<T | undefined>} Undefined without a database.
 */
async function run(mode, use) {
  const base = await database();
  if (!base) return undefined;
  return new Promise((resolve, reject) => {
    const transaction = base.transaction(CONVERSATIONS, mode);
    const request = use(transaction.objectStore(CONVERSATIONS));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
    transaction.onerror = () => reject(transaction.error);
  });
}

/** @param {Conversation} conversation */
export async function saveConversation(conversation) {
  try {
    if (!(await database())) throw new Error("no database");
    await run("readwrite", (store) => store.put(conversation));
    unsaved.delete(conversation.id);
  } catch {
    unsaved.set(conversation.id, conversation);
    trouble();
  }
}

/** @param {string} id @returns {Promise<Conversation | undefined>} */
export async function loadConversation(id) {
  return unsaved.get(id) ?? (await run("readonly", (store) => store.get(id)).catch(() => undefined));
}

/** @returns {Promise<Conversation[]>} All of them, the newest first. */
export async function listConversations() {
  /** @type {Conversation[]} */
  const saved = (await run("readonly", (store) => store.getAll()).catch(() => undefined)) ?? [];
  const all = new Map([...saved, ...unsaved.values()].map((conversation) => [conversation.id, conversation]));
  return [...all.values()].sort((one, other) => other.updated - one.updated);
}

/** @param {string} id */
export async function deleteConversation(id) {
  unsaved.delete(id);
  await run("readwrite", (store) => store.delete(id));
}

export async function deleteAllConversations() {
  unsaved.clear();
  await run("readwrite", (store) => store.clear());
}
