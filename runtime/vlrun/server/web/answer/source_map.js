// Which characters of a rendered text come from which characters of its Markdown source.

/** How far ahead the source of a piece is searched: Markdown's own signs and link targets lie between. */
const WORD_REACH = 400;
const SIGN_REACH = 24;

const PIECES = /[\p{L}\p{N}]+|[^\s]/gu;

/**
 * For each text node of a container: the offset in the source of each of its characters, or -1.
 *
 * @param {Node} container
 * @param {string} source
 * @returns {Map<Text, Int32Array>}
 */
export function sourceOffsets(container, source) {
  /** @type {Map<Text, Int32Array>} */
  const offsets = new Map();
  const walker = document.createTreeWalker(container, NodeFilter.SHOW_TEXT);
  let position = 0;
  while (walker.nextNode()) {
    const node = /** @type {Text} */ (walker.currentNode);
    if (node.parentElement?.closest(".link-target, .formula, math")) continue;
    const found = new Int32Array(node.data.length).fill(-1);
    position = align(node.data, source, position, found);
    offsets.set(node, found);
  }
  return offsets;
}

/**
 * @param {string} text
 * @param {string} source
 * @param {number} start
 * @param {Int32Array} found Receives the offsets.
 * @returns {number} Where the source goes on.
 */
export function align(text, source, start, found) {
  let position = start;
  let before = 0;
  for (const { 0: piece, index } of text.matchAll(PIECES)) {
    const reach = piece.length > 1 ? WORD_REACH : SIGN_REACH;
    const at = source.slice(position, position + reach + piece.length).indexOf(piece);
    if (at < 0) continue;
    // Spaces between two pieces that follow each other belong to them.
    if (index > 0 && index - before === at) for (let i = before; i < index; i++) found[i] = position + i - before;
    position += at;
    for (let i = 0; i < piece.length; i++) found[index + i] = position + i;
    position += piece.length;
    before = index + piece.length;
  }
  return position;
}
