// Formulas in Markdown: `$..$`, `$$..$$`, `\(..\)` and `\[..\]` are kept from the parser and shown by Temml as MathML.

import "../vendor/purify.js";

/** @typedef {import("../vendor/marked.js").TokenizerAndRendererExtension} Extension */
/** @typedef {typeof import("../vendor/temml.js")} Temml The script, which sets `globalThis.temml`. */

/** Longer ones are shown as text: no formula in a picture is that long. */
const MAX_LENGTH = 4000;
const INLINE_CLASS = "formula";
const DISPLAY_CLASS = "formula display";
/** Temml replaces at most so many macros in a formula (its own default). */
const MAX_EXPAND = 1000;
/** The greatest size that a formula may choose, in em, and the most parts that a macro may give it. */
const MAX_SIZE = /** @type {[number, number]} */ ([20, 1000]);

/** @type {Promise<void> | undefined} */
let loaded;

/** @returns {Promise<void>} When Temml is there, which is a script and no module. */
function load() {
  loaded ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.onload = () => resolve();
    script.onerror = () => {
      loaded = undefined;
      script.remove();
      reject(new Error("Temml did not come"));
    };
    script.src = new URL("../vendor/temml.js", import.meta.url).href;
    document.head.append(script);
  });
  return loaded;
}

const DISPLAY = /^(?:\$\$(?!\$)([^$]+?)\$\$|\\\[([\s\S]+?)\\\])/;
/** As in Pandoc: no space inside the dollars, no digit behind them, so that prices stay prices. */
const INLINE = /^(?:\$(?![\s$])((?:[^$\\\n]|\\[^\n])+?)(?<!\s)\$(?!\d)|\\\(([^\n]+?)\\\))/;

/** @type {Extension[]} */
export const formulaExtensions = [
  extension("displayFormula", "block", [], DISPLAY, DISPLAY_CLASS),
  extension("displayFormulaInText", "inline", ["$$", "\\["], DISPLAY, DISPLAY_CLASS),
  extension("inlineFormula", "inline", ["$", "\\("], INLINE, INLINE_CLASS),
];

/**
 * @param {string} name
 * @param {"block" | "inline"} level
 * @param {string[]} openings What ends plain text before the formula. Found with indexOf: fast also in a long text.
 * @param {RegExp} whole
 * @param {string} classes
 * @returns {Extension}
 */
function extension(name, level, openings, whole, classes) {
  return {
    name,
    level,
    start: (source) => {
      const found = openings.map((opening) => source.indexOf(opening)).filter((at) => at >= 0);
      return found.length ? Math.min(...found) : undefined;
    },
    tokenizer: (source) => {
      const found = whole.exec(source.slice(0, MAX_LENGTH));
      const tex = found?.[1] ?? found?.[2];
      return found && tex?.trim() ? { type: name, raw: found[0], tex: tex.trim() } : undefined;
    },
    renderer: (token) => `<code class="${classes}">${escaped(token.tex)}</code>`,
  };
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/**
 * Replace the formulas of sanitised content by MathML. Temml is loaded for the first one.
 *
 * @param {HTMLElement} content
 */
export async function showFormulas(content) {
  const formulas = [...content.querySelectorAll(`code.${INLINE_CLASS}`)];
  if (!formulas.length) return;
  try {
    await load();
  } catch {
    return; // the service is away: the text of the formulas stays
  }
  for (const formula of formulas) {
    const math = mathOf(formula.textContent ?? "", formula.classList.contains("display"));
    if (math && formula.isConnected) formula.replaceChildren(math);
  }
}

/**
 * @param {string} tex
 * @param {boolean} displayMode
 * @returns {DocumentFragment | null} Null for what is no formula; its text stays.
 */
function mathOf(tex, displayMode) {
  try {
    const limits = { trust: false, maxExpand: MAX_EXPAND, maxSize: MAX_SIZE };
    const markup = globalThis.temml.renderToString(tex, { ...limits, displayMode, throwOnError: true });
    const unstyled = markup.replace(/ style="[^"]*"/g, ""); // already the parser would break the page's policy
    // <annotation> holds the source of the formula, which would be shown as text.
    return globalThis.DOMPurify.sanitize(unstyled, {
      USE_PROFILES: { mathMl: true },
      FORBID_ATTR: ["style", "href", "id"],
      FORBID_TAGS: ["annotation", "style"],
      FORBID_CONTENTS: ["annotation"],
      RETURN_DOM_FRAGMENT: true,
    });
  } catch {
    return null;
  }
}
