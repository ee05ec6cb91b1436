// Conversations in the browser's database; their pictures, which are large and do not change, in a table of their own.
// Where there is no database, or it is full, they are kept until the page is closed.

/** @typedef {import("../app/state.js").Conversation} Conversation */
/** @typedef {import("../app/state.js").Picture} Picture */

const DATABASE = "vlrun";
const CONVERSATIONS = "conversations";
const PICTURES = "pictures";

/** @type {Map<string, Conversation>} What the database does not have. */
const unsaved = new Map();

/** @type {Map<string, Blob>} The files of pictures that the database has, by their keys. */
const savedPictures = new Map();

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
      request.onupgradeneeded = () => {
        request.result.createObjectStore(CONVERSATIONS, { keyPath: "id" });
        request.result.createObjectStore(PICTURES, { keyPath: "key" });
      };
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
 * Run requests in one transaction.
 *
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(conversations: IDBObjectStore, pictures: IDBObjectStore) => IDBRequest<T>} use
 * @returns {Promise<T>} The result of the request that `use` returns.
 */
async function run(mode, use) {
  const base = await database();
  if (!base) throw new Error("there is no database");
  return new Promise((resolve, reject) => {
    const transaction = base.transaction([CONVERSATIONS, PICTURES], mode);
    const request = use(transaction.objectStore(CONVERSATIONS), transaction.objectStore(PICTURES));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

/** @param {Conversation} conversation */
export async function saveConversation(conversation) {
  const pictures = conversation.pictures.filter(({ key, blob }) => savedPictures.get(key) !== blob);
  const entry = { ...conversation, pictures: conversation.pictures.map((each) => ({ ...each, blob: null, shown: null })) };
  try {
    await run("readwrite", (table, pictureTable) => {
      for (const { key, blob, shown } of pictures) pictureTable.put({ key, blob, shown });
      return table.put(entry);
    });
    for (const { key, blob } of pictures) savedPictures.set(key, blob);
    unsaved.delete(conversation.id);
  } catch {
    unsaved.set(conversation.id, conversation);
    trouble();
  }
}

/** @param {string} id @returns {Promise<Conversation | undefined>} With its pictures. */
export async function loadConversation(id) {
  const kept = unsaved.get(id);
  if (kept) return kept;
  try {
    /** @type {Conversation | undefined} */
    const saved = await run("readonly", (table) => table.get(id));
    if (!saved) return undefined;
    const pictures = await Promise.all(saved.pictures.map(loadPicture));
    return { ...saved, pictures: pictures.filter((picture) => picture !== null) };
  } catch {
    return undefined;
  }
}

/** @param {Picture} picture @returns {Promise<Picture | null>} With its file, if that is still there. */
async function loadPicture(picture) {
  const file = await run("readonly", (_, pictures) => pictures.get(picture.key));
  if (!file) return null;
  savedPictures.set(picture.key, file.blob);
  return { ...picture, blob: file.blob, shown: file.shown };
}

/** @returns {Promise<Conversation[]>} All of them, the newest first; their pictures without files. */
export async function listConversations() {
  /** @type {Conversation[]} */
  const saved = await run("readonly", (table) => table.getAll()).catch(() => []);
  const all = new Map([...saved, ...unsaved.values()].map((conversation) => [conversation.id, conversation]));
  return [...all.values()].sort((one, other) => other.updated - one.updated);
}

/** @param {Conversation} conversation */
export async function deleteConversation({ id, pictures }) {
  unsaved.delete(id);
  for (const { key } of pictures) savedPictures.delete(key);
  const remove = run("readwrite", (table, pictureTable) => {
    for (const { key } of pictures) pictureTable.delete(key);
    return table.delete(id);
  });
  await remove.catch(() => undefined);
}

export async function deleteAllConversations() {
  unsaved.clear();
  savedPictures.clear();
  const clear = run("readwrite", (table, pictures) => {
    pictures.clear();
    return table.clear();
  });
  await clear.catch(() => undefined);
}
