// Markdown as DOM nodes: marked parses it, DOMPurify lets through a short list of elements.

import { Lexer, Marked } from "../vendor/marked.js";
import "../vendor/purify.js";
import { formulaExtensions } from "./formulas.js";

/** @typedef {{raw: string, start: number, rendered: boolean}} Block Of the text: a paragraph, a list, a table. */

/** The parser's time grows with the square of the length of a paragraph: longer ones are shown as they are. */
const MAX_PARAGRAPH = 10_000;
const MAX_BLOCK = 50_000;
const LONG_BLOCKS = new Set(["code", "list", "table"]);

const TEXT_TAGS = ["a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "kbd"];
const MORE_TAGS = ["li", "ol", "p", "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul"];
const TAGS = [...TEXT_TAGS, ...MORE_TAGS];
const ATTRIBUTES = ["href", "class", "start", "colspan", "rowspan", "align"];
/** Classes that this page gives; the answer's own are dropped. */
const CLASS = /^(?:formula(?: display)?|language-[\w+#.-]{1,40})$/;
/** HTML that answers use inside Markdown. Anything else is shown as the text that it is. */
const INLINE_HTML = /^<\/?(?:br|b|i|u|s|sub|sup|em|strong|kbd|del)\s*\/?>$/i;
const TABLE_HTML = /^\s*<table[\s>]/i;
const TABLE_TAG = /^(?:table|thead|tbody|tr|td|th|br|b|i|sub|sup)$/i;
const SAFE_LINK = /^https?:\/\//i;

const parser = new Marked({
  gfm: true,
  renderer: {
    html: ({ text, block }) => {
      if (block && TABLE_HTML.test(text)) return tableOnly(text);
      if (!block && INLINE_HTML.test(text)) return text;
      return block ? `<pre><code class="language-html">${escaped(text)}</code></pre>` : escaped(text);
    },
    // The page loads nothing that an answer names.
    image: ({ text, href }) => escaped(text || href),
  },
});
parser.use({ extensions: formulaExtensions });

const purifier = globalThis.DOMPurify(window);
purifier.addHook("uponSanitizeAttribute", (_, data) => {
  if (data.attrName === "class" && !CLASS.test(data.attrValue)) data.keepAttr = false;
  if (data.attrName === "href" && !SAFE_LINK.test(data.attrValue)) data.keepAttr = false;
});

/**
 * The blocks of a text. While it grows, only its end is parsed again.
 *
 * @param {string} text
 * @param {{text: string, blocks: Block[]} | null} before The result for a beginning of the text.
 * @returns {{text: string, blocks: Block[]}}
 */
export function blocksOf(text, before) {
  const source = text.replace(/\r\n?/g, (line) => " ".repeat(line.length - 1) + "\n");
  // The last two may go on: a list, and the empty line behind it.
  const kept = before && source.startsWith(before.text) ? before.blocks.slice(0, -2) : [];
  const last = kept.at(-1);
  let start = last ? last.start + last.raw.length : 0;
  const blocks = [...kept];
  // Only the blocks: what is in them is parsed when they are rendered.
  for (const { raw, type } of new Lexer(parser.defaults).blockTokens(source.slice(start), [])) {
    blocks.push({ raw, start, rendered: raw.length <= (LONG_BLOCKS.has(type) ? MAX_BLOCK : MAX_PARAGRAPH) });
    start += raw.length;
  }
  return { text: source, blocks };
}

/**
 * Render one block.
 *
 * @param {string} raw
 * @returns {DocumentFragment}
 */
export function render(raw) {
  const markup = /** @type {string} */ (parser.parse(raw, { async: false }));
  const fragment = purifier.sanitize(markup, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const link of fragment.querySelectorAll("a")) openOutside(link);
  return fragment;
}

/** @param {HTMLAnchorElement} link Its target is visible: the text of a link may pretend another. */
function openOutside(link) {
  const target = link.getAttribute("href");
  if (!target) {
    link.replaceWith(...link.childNodes);
    return;
  }
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = target;
  if (link.textContent?.trim() !== target) link.append(shownTarget(target));
}

/** @param {string} target */
function shownTarget(target) {
  const shown = document.createElement("span");
  shown.className = "link-target";
  shown.textContent = ` (${target.length > 80 ? `${target.slice(0, 79)}…` : target})`;
  return shown;
}

/**
 * Close what the end of a growing text leaves open, so that it does not jump when the rest arrives.
 *
 * @param {string} raw The last block.
 */
export function closed(raw) {
  if (/^\s*(?:```|~~~|\$\$|\\\[)/.test(raw)) return raw;
  const line = raw.slice(raw.lastIndexOf("\n") + 1);
  if (/^\s*\|[^\n]*(?:\n[\s|:-]*)?$/.test(raw)) return startedTable(raw);
  const code = (line.match(/`/g) ?? []).length % 2 === 1;
  if (code) return `${raw}\``;
  const cut = raw.replace(/!?\[[^\]\n]*(?:\]\([^)\n]*)?$/, "").replace(/(?<![*\w])\*{1,3}$/, "");
  const bold = (cut.match(/\*\*/g) ?? []).length % 2 === 1;
  return bold ? `${cut.trimEnd()}**` : cut;
}

/** @param {string} raw The head of a table, perhaps with a part of the line below it. */
function startedTable(raw) {
  const head = raw.split("\n", 1)[0].trimEnd();
  const row = head.endsWith("|") ? head : `${head} |`;
  const columns = row.split("|").length - 2;
  return columns > 0 ? `${row}\n|${" --- |".repeat(columns)}` : "";
}

/**
 * HTML of a table without its attributes (the policy of the page forbids styles), and with other elements as text.
 *
 * @param {string} markup
 */
function tableOnly(markup) {
  return markup.replace(/<(\/?)(\w+)([^>]*)>/g, (whole, slash, name, attributes) => {
    if (!TABLE_TAG.test(name)) return escaped(whole);
    const spans = slash ? [] : attributes.match(/\b(?:col|row)span="?\d{1,3}"?/gi) ?? [];
    return `<${slash}${[name, ...spans].join(" ")}>`;
  });
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
