// Offsets in an answer: of marks, and of the tokens that a heat map has.

/** @typedef {readonly [number, number]} Span Start and end in UTF-16 units, as in JavaScript strings. */

/**
 * The spans of marks in UTF-16 units: the API counts characters.
 *
 * @param {string} text
 * @param {readonly (readonly number[] | null | undefined)[] | null | undefined} spans In characters.
 * @returns {(Span | null)[]} Null for what is no span of the text.
 */
export function spansInUnits(text, spans) {
  const units = unitsOf(text);
  return (spans ?? []).map((span) => {
    if (!span || !Number.isInteger(span[0]) || !Number.isInteger(span[1])) return null;
    const [first, last] = [units(span[0]), units(span[1])];
    return first >= 0 && first < last && last <= text.length ? [first, last] : null;
  });
}

/** @param {string} text @returns {(character: number) => number} */
function unitsOf(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (character) => character;
  const starts = [0];
  for (const character of text) starts.push(/** @type {number} */ (starts.at(-1)) + character.length);
  return (character) => starts[character] ?? -1;
}

/** How far from its expected place a token's text may lie: the text of an answer is trimmed. */
const TOKEN_REACH = 16;

/**
 * Where each token lies in the text; tokens that are not found (a part of a character, a special token) are empty.
 *
 * @param {readonly string[]} tokens
 * @param {string} text
 * @returns {Span[]}
 */
export function tokenSpans(tokens, text) {
  let position = 0;
  return tokens.map((token) => {
    const at = token ? text.slice(position, position + TOKEN_REACH + token.length).indexOf(token) : -1;
    if (at < 0) return [position, position];
    const start = position + at;
    position = start + token.length;
    return [start, position];
  });
}

/**
 * The tokens that cover a part of the text.
 *
 * @param {readonly Span[]} spans Of all tokens.
 * @param {Span} part
 * @returns {[number, number] | null} First token and the one after the last.
 */
export function tokensIn(spans, [start, end]) {
  const first = spans.findIndex((span) => span[0] < end && span[1] > start);
  if (first < 0) return null;
  let last = first;
  while (last + 1 < spans.length && spans[last + 1][0] < end) last += 1;
  return [first, last + 1];
}
