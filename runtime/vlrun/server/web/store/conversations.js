// Conversations in the browser's database; their pictures, which are large and do not change, in a table of their own.
// Where there is no database, or it is full, they are kept until the page is closed.

/** @typedef {import("../app/state.js").Conversation} Conversation */
/** @typedef {import("../app/state.js").Picture} Picture */

const DATABASE = "vlrun";
const CONVERSATIONS = "conversations";
const PICTURES = "pictures";

/** @type {Map<string, Conversation>} What the database does not have. */
const unsaved = new Map();

/** @type {Map<string, Conversation>} What is being saved. */
const pending = new Map();

/** @type {Set<string>} Conversations that this tab has saved or loaded: one that is gone was deleted in another tab. */
const known = new Set();

/** @type {Map<string, Blob | null>} The files of the records of pictures that this tab has saved or loaded. */
const savedFiles = new Map();

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

/**
 * Save a conversation; an empty one is deleted. What another tab has added to it stays.
 *
 * @param {Conversation} conversation
 * @returns {Promise<boolean>} False if it was deleted in another tab.
 */
export async function saveConversation(conversation) {
  const { id, turns, pictures } = conversation;
  if (turns.length || pictures.length) return save(conversation);
  if (known.delete(id) || unsaved.has(id)) await deleteConversation(id);
  return true;
}

/**
 * Save a conversation, and what is being saved, without a look at what is there: the page goes away, and would not see it.
 *
 * @param {Conversation | null} conversation
 */
export function saveAtOnce(conversation) {
  if (conversation?.turns.length || conversation?.pictures.length) pending.set(conversation.id, conversation);
  for (const each of pending.values())
    void run("readwrite", (table, pictures) => {
      for (const record of changedRecords(each)) pictures.put(record);
      const request = table.put(merged(each, undefined));
      request.transaction?.commit(); // or it would end with the page
      return request;
    }).catch(() => undefined);
}

/** @param {Conversation} conversation @returns {Promise<boolean>} */
async function save(conversation) {
  const { id, pictures } = conversation;
  pending.set(id, conversation);
  const isPending = () => pending.get(id) === conversation; // neither deleted nor replaced
  const changed = changedRecords(conversation);
  let isGone = false;
  try {
    await change(id, (table, pictureTable, found) => {
      isGone = !found && known.has(id);
      if (isGone) return;
      for (const record of changed) pictureTable.put(record);
      table.put(merged(conversation, found));
      const kept = recordsOf(pictures);
      for (const key of recordsOf(found?.pictures ?? []).keys())
        if (savedFiles.has(key) && !kept.has(key)) removeRecord(pictureTable, key);
    });
    if (isGone) return !isPending();
    for (const record of changed) savedFiles.set(record.key, fileOf(record));
    known.add(id);
    if (isPending()) unsaved.delete(id);
  } catch {
    if (!isPending()) return true;
    unsaved.set(id, conversation);
    trouble();
  } finally {
    if (isPending()) pending.delete(id);
  }
  return true;
}

/**
 * Change the tables, knowing what they have of a conversation.
 *
 * @param {string} id
 * @param {(conversations: IDBObjectStore, pictures: IDBObjectStore, found: Conversation | undefined) => void} use
 * @returns {Promise<unknown>}
 */
function change(id, use) {
  return run("readwrite", (conversations, pictures) => {
    const request = conversations.get(id);
    request.onsuccess = () => {
      try {
        use(conversations, pictures, request.result);
      } catch {
        request.transaction?.abort();
      }
    };
    return request;
  });
}

/**
 * @param {Conversation} own
 * @param {Conversation | undefined} found In the database, where another tab may have changed it.
 * @returns {Conversation} Without the files of its pictures.
 */
function merged(own, found) {
  const finished = new Map(found?.turns.filter(({ status }) => status === "done").map((turn) => [turn.id, turn]));
  const turns = own.turns.map((turn) => (turn.status === "done" ? turn : (finished.get(turn.id) ?? turn)));
  const otherTurns = (found?.turns ?? []).filter(({ id }) => !own.turns.some((turn) => turn.id === id));
  const otherPictures = (found?.pictures ?? []).filter(({ key }) => !savedFiles.has(key));
  const all = [...own.pictures, ...otherPictures.filter(({ key }) => !own.pictures.some((each) => each.key === key))];
  return {
    ...own,
    turns: [...turns, ...otherTurns],
    pictures: all.map((each) => ({ ...each, blob: /** @type {any} */ (null), shown: null })),
  };
}

/** @typedef {{key: string, blob: Blob | null, shown: Blob | null}} PictureRecord */

/**
 * The records of pictures by their keys. Pages of one document share the record of its file.
 *
 * @param {Picture[]} pictures
 * @returns {Map<string, PictureRecord>}
 */
function recordsOf(pictures) {
  /** @type {Map<string, PictureRecord>} */
  const records = new Map();
  for (const { key, file, blob, shown } of pictures) {
    records.set(key, { key, blob: file ? null : blob, shown });
    if (file) records.set(file, { key: file, blob, shown: null });
  }
  return records;
}

/** @param {Conversation} conversation @returns {PictureRecord[]} Those that the database does not have. */
function changedRecords({ pictures }) {
  return [...recordsOf(pictures).values()].filter((record) => savedFiles.get(record.key) !== fileOf(record));
}

/** @param {IDBObjectStore} pictures @param {string} key */
function removeRecord(pictures, key) {
  pictures.delete(key);
  savedFiles.delete(key);
}

/** @param {PictureRecord} record */
function fileOf({ blob, shown }) {
  return blob ?? shown;
}

/** @param {string} id @returns {Promise<Conversation | undefined>} With its pictures. */
export async function loadConversation(id) {
  const kept = unsaved.get(id);
  if (kept) return kept;
  try {
    /** @type {Conversation | undefined} */
    const saved = await run("readonly", (table) => table.get(id));
    if (!saved) return undefined;
    const keys = [...recordsOf(saved.pictures).keys()];
    const found = await Promise.all(keys.map((key) => run("readonly", (_, table) => table.get(key))));
    /** @type {Map<string, PictureRecord>} */
    const records = new Map(found.filter(Boolean).map((record) => [record.key, record]));
    for (const record of records.values()) savedFiles.set(record.key, fileOf(record));
    known.add(id);
    const pictures = saved.pictures.flatMap((picture) => {
      const blob = records.get(picture.file ?? picture.key)?.blob;
      return blob ? [{ ...picture, blob, shown: records.get(picture.key)?.shown ?? null }] : [];
    });
    return { ...saved, pictures };
  } catch {
    return undefined;
  }
}

/** @returns {Promise<Conversation[]>} All of them, the newest first; their pictures without files. */
export async function listConversations() {
  /** @type {Conversation[]} */
  const saved = await run("readonly", (table) => table.getAll()).catch(() => []);
  const all = new Map([...saved, ...unsaved.values()].map((conversation) => [conversation.id, conversation]));
  return [...all.values()].sort((one, other) => other.updated - one.updated);
}

/** @param {string} id Delete a conversation, also what is being saved of it. */
export async function deleteConversation(id) {
  pending.delete(id);
  unsaved.delete(id);
  const remove = run("readwrite", (table, pictures) => {
    const request = table.get(id);
    request.onsuccess = () => {
      for (const key of recordsOf(request.result?.pictures ?? []).keys()) removeRecord(pictures, key);
    };
    return table.delete(id);
  });
  await remove.catch(() => undefined);
}

/** Delete all conversations, also what is being saved. */
export async function deleteAllConversations() {
  pending.clear();
  unsaved.clear();
  savedFiles.clear();
  const clear = run("readwrite", (table, pictures) => {
    pictures.clear();
    return table.clear();
  });
  await clear.catch(() => undefined);
}
