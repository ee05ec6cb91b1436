// What the pointer does on an element that belongs to a mark.

/**
 * @param {number} mark
 * @param {import("../viewer/active_mark.js").Marking} marking
 */
export function markEvents(mark, marking) {
  return {
    onPointerEnter: (/** @type {PointerEvent} */ event) => event.pointerType === "mouse" && marking.hover(mark),
    onPointerLeave: (/** @type {PointerEvent} */ event) => event.pointerType === "mouse" && marking.hover(null),
    onClick: () => marking.choose(mark),
  };
}
