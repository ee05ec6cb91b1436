// Counted items as bars; with votes, how far the answers lie apart.

import { html, useState } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";

/** @typedef {Record<string, Record<string, number>>} TileVotes For each path of the result, its values with their votes. */
/** @typedef {{low: number, high: number}} Range */

const t = translator(messages);

const FIRST_ITEMS = 30;

/**
 * @param {object} props
 * @param {readonly [string, number][]} props.items
 * @param {number} props.total
 * @param {readonly TileVotes[]} props.votes One for each tile; their counts add up.
 */
export function CountChart({ items, total, votes }) {
  const [all, setAll] = useState(false);
  const sorted = [...items].sort((a, b) => b[1] - a[1]);
  const shown = all ? sorted : sorted.slice(0, FIRST_ITEMS);
  const ranges = new Map(shown.map(([name]) => [name, rangeOf(votes, `items.${name}`)]));
  const highest = Math.max(1, ...sorted.map(([, count]) => count), ...[...ranges.values()].map((range) => range?.high ?? 0));
  return html`
    <figure class="count-chart">
      <figcaption class="count-total"><strong>${total.toLocaleString()}</strong> <span>${t("total")}</span></figcaption>
      <ul class="count-items" aria-label=${t("counted")}>
        ${shown.map(([name, count]) => html`<${Bar} key=${name} name=${name} count=${count} range=${ranges.get(name) ?? null} highest=${highest} />`)}
      </ul>
      ${shown.length < sorted.length &&
      html`<button type="button" class="answer-button" onClick=${() => setAll(true)}>${t("more", { n: sorted.length - shown.length })}</button>`}
    </figure>
  `;
}

/** @param {{name: string, count: number, range: Range | null, highest: number}} props */
function Bar({ name, count, range, highest }) {
  const percent = (/** @type {number} */ value) => `${(100 * value) / highest}%`;
  const spread = range && range.high > range.low ? range : null;
  const label = spread && t("countRange", { low: spread.low, high: spread.high });
  return html`<li class="count-item">
    <span class="count-name" title=${name}>${name}</span>
    <span class="count-track" aria-hidden="true">
      <span class="count-bar" style=${{ width: percent(count) }}></span>
      ${spread && html`<span class="count-spread" style=${{ left: percent(spread.low), width: percent(spread.high - spread.low) }}></span>`}
    </span>
    <span class="count-number">${count.toLocaleString()}</span>
    <span class="count-range">${label}</span>
  </li>`;
}

/**
 * The lowest and highest count that was answered; for several tiles, the sums of theirs.
 *
 * @param {readonly TileVotes[]} votes
 * @param {string} path
 * @returns {Range | null} Null without votes.
 */
export function rangeOf(votes, path) {
  const range = { low: 0, high: 0 };
  let voted = false;
  for (const tile of votes) {
    const values = Object.keys(Object.hasOwn(tile, path) ? tile[path] : {}).map(Number).filter(Number.isFinite);
    if (!values.length) continue;
    voted = true;
    range.low += Math.min(...values);
    range.high += Math.max(...values);
  }
  return voted ? range : null;
}
