// The API key: entered once by the operator and kept in this browser, unlike on the page at `/`.

import { ApiError, sendJson, setApiKey } from "../api/client.js";
import { readValue, writeValue } from "../store/browser_storage.js";

const KEY = "vlrun.kiosk.api-key";

/** Use the key that was entered before. */
export function useStoredKey() {
  setApiKey(readValue("local", KEY) ?? "");
}

/**
 * Try a key, and keep it if the service accepts it.
 *
 * @param {string} key Empty to forget the stored one.
 * @returns {Promise<"keySaved" | "wrongKey" | "noService">}
 */
export async function changeKey(key) {
  setApiKey(key);
  try {
    await sendJson("/v1/models");
  } catch (error) {
    if (key) useStoredKey();
    if (!(error instanceof ApiError)) throw error;
    if (key) return error.status === 401 || error.status === 403 ? "wrongKey" : "noService";
  }
  writeValue("local", KEY, key);
  return "keySaved";
}
