// The one mark that is lit, on the picture and in the answer. Hovering lights one for a while, choosing one keeps it.

import { useRef } from "../vendor/preact.js";

/**
 * @typedef {object} Marking
 * @property {number | null} active
 * @property {(index: number | null) => void} hover The pointer is over a mark, or has left it.
 * @property {(index: number | null) => void} choose Keep a mark lit; the same one again: no longer.
 */

/**
 * @param {number | null} active
 * @param {((index: number | null) => void) | undefined} onActiveMark
 * @returns {Marking}
 */
export function useMarking(active, onActiveMark) {
  const state = useRef({ kept: active, set: active }).current;
  // Set by someone else, for example in the answer while this is the picture.
  if (active !== state.set) state.kept = state.set = active;
  /** @param {number | null} index */
  const set = (index) => {
    state.set = index;
    if (index !== active) onActiveMark?.(index);
  };
  return {
    active,
    hover: (index) => set(index ?? state.kept),
    choose: (index) => {
      state.kept = index === state.kept ? null : index;
      set(state.kept);
    },
  };
}
