// The state of the page: one value that is replaced, never changed, and what listens to it.

import { useEffect, useState } from "../vendor/preact.js";

/**
 * @typedef {object} Picture
 * @property {string} key
 * @property {string} name
 * @property {Blob} blob What is sent.
 * @property {string} [file] What names it in the browser's database, if several pages of a document share it.
 * @property {number | null} page Of the document that is sent; null for a picture.
 * @property {Blob | null} shown What the browser shows, if it cannot show that.
 * @property {Blob | null} thumb
 * @property {number | null} seconds How long a video is; null for a picture.
 * @property {number} width Of the upright picture.
 * @property {number} height
 */

/**
 * @typedef {object} TurnError
 * @property {number} status
 * @property {string} code
 * @property {string} message
 * @property {string | null} param
 * @property {number | null} retryAt Milliseconds since the epoch.
 */

/**
 * @typedef {object} Progress
 * @property {string} phase
 * @property {number} done
 * @property {number} total
 * @property {number} percent
 * @property {number | null} secondsLeft
 */

/**
 * @typedef {object} TaskChoice
 * @property {string} id
 * @property {string[]} items
 * @property {string[]} fields
 */

/**
 * @typedef {object} Turn A question and its answer.
 * @property {string} id
 * @property {string} question
 * @property {TaskChoice | null} task
 * @property {boolean} json Whether a JSON answer was asked for, without a task.
 * @property {string} schema The JSON Schema of that answer; empty for any object.
 * @property {string[]} pictures Keys.
 * @property {import("../api/types.js").Region | null} region Of the first of these pictures.
 * @property {boolean} enhance
 * @property {"sending" | "waiting" | "reading" | "answering" | "done" | "stopped" | "failed"} status
 * @property {number} attempts
 * @property {Progress | null} progress
 * @property {string} text
 * @property {string} reasoning
 * @property {import("../api/types.js").Extension} extension
 * @property {import("../api/types.js").Usage | null} usage
 * @property {import("../api/types.js").Timings | null} timings
 * @property {string | null} finish The reason why the answer ended.
 * @property {TurnError | null} error
 */

/**
 * @typedef {object} Conversation
 * @property {string} id
 * @property {number} created
 * @property {number} updated
 * @property {Picture[]} pictures
 * @property {Turn[]} turns
 */

/**
 * @typedef {object} Toast
 * @property {number} id
 * @property {string} text
 * @property {"info" | "danger"} kind
 * @property {{label: string, run: () => void} | null} action
 */

/**
 * @typedef {object} Moment A place of the video that is shown. Another object leads there once more.
 * @property {number} seconds
 */

/**
 * @typedef {object} PageChoice A document of which pages are to be chosen.
 * @property {Blob} blob
 * @property {string} name
 * @property {number} count
 * @property {number} most How many may be chosen.
 * @property {(pages: number[]) => void} done
 */

/** @typedef {"settings" | "history" | "camera" | "key" | "help" | "pages" | "server" | null} DialogName */

/**
 * @typedef {object} State
 * @property {Conversation} conversation
 * @property {string} draft The question that is being typed.
 * @property {TaskChoice | null} task Of the draft.
 * @property {boolean} json
 * @property {string} schema
 * @property {string | null} picture The key of the picture that is shown.
 * @property {import("../api/types.js").Region | null} region Of that picture.
 * @property {boolean} enhance
 * @property {boolean} heat Whether heat maps are shown.
 * @property {string | null} shownTurn The turn whose marks are on the picture; null for the last one.
 * @property {number | null} activeMark
 * @property {[number, number] | null} tokens The part of the answer whose heat map is shown; null for all of it.
 * @property {DialogName} dialog
 * @property {PageChoice | null} pageChoice
 * @property {Moment | null} moment
 * @property {boolean} keyNeeded Whether the service waits for an API key.
 * @property {boolean} keyWrong
 * @property {import("../api/types.js").Readiness | null} server Null while it cannot be reached.
 * @property {boolean} offline Whether the last try to reach the service failed.
 * @property {import("../api/types.js").TaskObject[]} tasks
 * @property {import("./settings.js").Settings} settings
 * @property {Toast[]} toasts
 * @property {boolean} adding Whether pictures are being read.
 */

/** @template T */
export class Store {
  /** @param {T} value */
  constructor(value) {
    this.value = value;
    /** @type {Set<() => void>} */
    this.listeners = new Set();
  }

  /** @param {Partial<T>} changes Replace some of the value's properties. */
  set(changes) {
    this.value = { ...this.value, ...changes };
    for (const listener of [...this.listeners]) listener();
  }
}

/**
 * The value of a store; the component is rendered again after each change.
 *
 * @template T
 * @param {Store<T>} store
 * @returns {T}
 */
export function useStore(store) {
  const [value, setValue] = useState(store.value);
  useEffect(() => {
    const listener = () => setValue(store.value);
    store.listeners.add(listener);
    listener();
    return () => void store.listeners.delete(listener);
  }, [store]);
  return value;
}

/** @returns {Conversation} An empty one. */
export function newConversation() {
  const now = Date.now();
  return { id: randomId(), created: now, updated: now, pictures: [], turns: [] };
}

/** @returns {string} An identifier. `crypto.randomUUID` is missing on pages that came over plain HTTP from another machine. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
