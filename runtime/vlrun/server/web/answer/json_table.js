// The tables of a JSON answer, with copy and download as CSV.

import { html, useState } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";
import { BYTE_ORDER_MARK, toCsv } from "./csv.js";
import { markEvents } from "./mark_events.js";
import { isNumber, isScalar, textOf } from "./json_value.js";
import { CopyButton, SaveButton } from "./save.js";

/** @typedef {import("./tables.js").Table} Table */
/** @typedef {import("../viewer/active_mark.js").Marking} Marking */

const t = translator(messages);

/** Rows that are drawn at first, and with each press of the button. */
const FIRST_ROWS = 100;
const MORE_ROWS = 1000;
const MAX_CELL = 500;

/**
 * @param {object} props
 * @param {Table} props.table
 * @param {(row: number) => number | undefined} props.markOf The mark that a row is.
 * @param {Marking} props.marking
 */
export function JsonTable({ table, markOf, marking }) {
  const [limit, setLimit] = useState(FIRST_ROWS);
  const { title, columns, rows } = table;
  const rest = rows.length - limit;
  const shown = rest > 0 ? t("rowsShown", { shown: limit, total: rows.length }) : t("rows", { n: rows.length });
  const numeric = columns.map((_, column) => rows.slice(0, FIRST_ROWS).some((row) => isNumber(row[column])));
  return html`
    <figure class="json-table">
      ${title && html`<figcaption>${title}</figcaption>`}
      <div class="table-scroll" tabindex="0" role="region" aria-label=${title || t("scrollableTable")}>
        <table>
          <thead>
            <tr>
              ${columns.map((column, at) => html`<th scope="col" key=${at} class=${numeric[at] ? "number" : ""}>${shortened(column)}</th>`)}
            </tr>
          </thead>
          <tbody>
            ${rows.slice(0, limit).map((row, at) => html`<${Row} key=${at} row=${row} columns=${columns} mark=${markOf(at)} marking=${marking} />`)}
          </tbody>
        </table>
      </div>
      <div class="answer-actions">
        <span class="answer-note">${shown}</span>
        ${rest > 0 && html`<button type="button" class="answer-button" onClick=${() => setLimit(limit + MORE_ROWS)}>${t("more", { n: Math.min(rest, MORE_ROWS) })}</button>`}
        <${CopyButton} label=${t("copyCsv")} text=${() => toCsv(table)} />
        <${SaveButton} label=${t("downloadCsv")} name="vlrun.csv" type="text/csv" text=${() => BYTE_ORDER_MARK + toCsv(table)} />
      </div>
    </figure>
  `;
}

/** @param {{row: unknown[], columns: string[], mark: number | undefined, marking: Marking}} props */
function Row({ row, columns, mark, marking }) {
  const lit = mark !== undefined && mark === marking.active;
  return html`<tr class=${lit ? "active" : ""} ...${mark === undefined ? {} : markEvents(mark, marking)}>
    ${columns.map((_, column) => html`<td key=${column} class=${isNumber(row[column]) ? "number" : ""}>${cellOf(row[column])}</td>`)}
  </tr>`;
}

/** @param {unknown} value */
function cellOf(value) {
  if (value === null || value === undefined) return html`<span class="nothing">–</span>`;
  return isScalar(value) ? shortened(textOf(value)) : html`<code>${shortened(textOf(value))}</code>`;
}

/** @param {string} text */
function shortened(text) {
  return text.length > MAX_CELL ? `${text.slice(0, MAX_CELL)}…` : text;
}
