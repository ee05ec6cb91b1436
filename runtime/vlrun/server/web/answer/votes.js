// How often each value was answered, where the answers differ.

import { html } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";

/** @typedef {import("./count_chart.js").TileVotes} TileVotes */

const t = translator(messages);

/** So many differing values are listed. */
const MAX_PATHS = 50;
const MAX_VALUES = 8;
const MAX_TEXT = 80;

/** @param {{votes: readonly TileVotes[]}} props One for each tile. */
export function Votes({ votes }) {
  const paths = votes.flatMap((tile, index) => Object.entries(tile).map(([path, values]) => ({ index, path, values: sorted(values) })));
  if (!paths.length) return null;
  const differing = paths.filter(({ values }) => values.length > 1);
  const answers = Math.max(...paths.map(({ values }) => sum(values)));
  const summary = differing.length ? t("votesDiffer", { n: differing.length }) : t("votesAgree", { n: answers });
  if (!differing.length) return html`<p class="votes-agree">${summary}</p>`;
  return html`
    <details class="votes">
      <summary>${t("votes")}: ${summary}</summary>
      <dl>
        ${differing.slice(0, MAX_PATHS).map(
          ({ index, path, values }) => html`<div class="vote" key=${`${index} ${path}`}>
            <dt>${votes.length > 1 && html`<span class="vote-tile">${t("tile", { n: index + 1 })}</span> `}${clipped(path || t("result"))}</dt>
            <dd>${values.slice(0, MAX_VALUES).map(([value, n], at) => html`<${Share} key=${at} value=${value} n=${n} total=${sum(values)} first=${at === 0} />`)}</dd>
          </div>`,
        )}
      </dl>
    </details>
  `;
}

/** @param {{value: string, n: number, total: number, first: boolean}} props */
function Share({ value, n, total, first }) {
  return html`<span class=${`vote-share${first ? " won" : ""}`}>
    <span class="vote-value" title=${value}>${clipped(value)}</span>
    <span class="vote-track" aria-hidden="true"><span class="vote-bar" style=${{ width: `${(100 * n) / total}%` }}></span></span>
    <span class="vote-number" aria-label=${t("voteShare", { value, n, total })}>${n}</span>
  </span>`;
}

/** @param {Record<string, number>} values @returns {[string, number][]} */
function sorted(values) {
  return Object.entries(values).sort((a, b) => b[1] - a[1]);
}

/** @param {[string, number][]} values */
function sum(values) {
  return values.reduce((total, [, n]) => total + n, 0);
}

/** @param {string} text */
function clipped(text) {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 1)}…` : text;
}
