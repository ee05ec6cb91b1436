// An answer: Markdown, or a JSON value as chart, table, tree and text.

import { html, useErrorBoundary, useMemo, useState } from "../vendor/preact.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";
import { useMarking } from "../viewer/active_mark.js";
import { CountChart } from "./count_chart.js";
import { formatted, isObject, parseJson } from "./json_value.js";
import { JsonTable } from "./json_table.js";
import { JsonTree } from "./json_tree.js";
import { MarkList } from "./mark_list.js";
import { CopyButton, SaveButton } from "./save.js";
import { canDraw, SeriesChart } from "./series_chart.js";
import { spansInUnits, tokensIn, tokenSpans } from "./spans.js";
import { countsOf, markIndexes, seriesOf, tablesOf } from "./tables.js";
import { Tabs } from "./tabs.js";
import { TextAnswer } from "./text_answer.js";
import { Votes } from "./votes.js";

/** @typedef {import("./spans.js").Span} Span */
/** @typedef {import("../viewer/active_mark.js").Marking} Marking */
/** @typedef {import("./count_chart.js").TileVotes} TileVotes */
/**
 * @typedef {object} AnswerViewProps
 * @property {string} text
 * @property {unknown} [value] The parsed JSON of a structured answer.
 * @property {readonly import("../viewer/marks.js").Mark[] | null} [marks]
 * @property {readonly (readonly number[] | null)[] | null} [spans] Of the marks in the text, in characters as in the API.
 * @property {number | null} [activeMark]
 * @property {(index: number | null) => void} [onActiveMark]
 * @property {readonly TileVotes[] | null} [votes]
 * @property {"text" | "json"} [format]
 * @property {boolean} [compact] Show what a JSON value says at a glance, and the value itself on request.
 * @property {boolean} [streaming]
 * @property {readonly string[] | null} [tokens] Of the heat map; with `onToken`, words can be chosen.
 * @property {readonly [number, number] | null} [activeTokens] The tokens whose heat map is shown.
 * @property {(tokens: [number, number] | null) => void} [onToken] First token of a word and the one after its last.
 */

const t = translator(messages);

/** @param {AnswerViewProps} props */
export function AnswerView(props) {
  const { text, votes, streaming = false, format = "text" } = props;
  const [failure] = useErrorBoundary();
  const marking = useMarking(props.activeMark ?? null, props.onActiveMark);
  const value = useMemo(() => (format === "json" && !streaming ? valueOf(props) : null), [text, props.value, format, streaming]);
  if (failure) return html`<div class="answer"><pre class="plain-text">${text}</pre></div>`;
  return html`
    <div class="answer" aria-busy=${streaming ? "true" : undefined}>
      ${value === null ? html`<${Words} ...${props} marking=${marking} raw=${format === "json"} />` : html`<${JsonAnswer} ...${props} marking=${marking} value=${value} />`}
      ${votes?.length ? html`<${Votes} votes=${votes} />` : null}
    </div>
  `;
}

/** @param {AnswerViewProps} props @returns {object | null} */
function valueOf({ text, value }) {
  const parsed = parseJson(text);
  if (parsed) return parsed;
  return typeof value === "object" ? value : null;
}

/** @param {AnswerViewProps & {marking: Marking, raw: boolean}} props `raw`: JSON as text. */
function Words(props) {
  const { text, spans, marking, tokens, activeTokens, onToken, streaming = false, raw } = props;
  const positions = useMemo(() => (tokens ? tokenSpans(tokens, text) : []), [tokens, text]);
  const units = useMemo(() => spansInUnits(text, spans), [text, spans]);
  const activeWord = activeTokens && positions.length ? /** @type {Span} */ ([positions[activeTokens[0]]?.[0] ?? 0, positions[activeTokens[1] - 1]?.[1] ?? 0]) : null;
  const onWord = (/** @type {Span} */ word) => {
    const found = tokensIn(positions, word);
    const again = found && activeTokens && found[0] === activeTokens[0] && found[1] === activeTokens[1];
    onToken?.(again ? null : found);
  };
  const shared = { marking, streaming, activeWord, onWord: onToken && positions.length && !streaming ? onWord : null };
  return html`<${TextAnswer} text=${text} raw=${raw} spans=${units} ...${shared} />`;
}

/** @param {AnswerViewProps & {marking: Marking}} props */
function JsonAnswer(props) {
  const { text, value, marking, compact = false } = props;
  const marks = useMemo(() => markIndexes(value, props.marks?.length ?? 0), [value, props.marks]);
  const tables = useMemo(() => tablesOf(value), [value]);
  const views = [tables.length && "table", "tree", "text"].filter(Boolean);
  const [view, setView] = useState(views[0]);
  const shown = views.includes(view) ? view : views[0];
  const json = () => (parseJson(text) ? formatted(value) : formatted(value) || text);
  const names = { table: t("viewTable"), tree: t("viewTree"), text: t("viewText") };
  const summary = summaryOf(value, props, marks, marking);
  const details = html`
    <${Tabs} label=${t("views")} tabs=${views.map((id) => ({ id, name: names[/** @type {"table"} */ (id)] }))} selected=${shown} onSelect=${setView}>
      ${shown === "table" && tables.map((table, at) => html`<${JsonTable} key=${at} table=${table} marking=${marking} markOf=${rowMarks(value, table, marks)} />`)}
      ${shown === "tree" && html`<${JsonTree} value=${value} marks=${marks} marking=${marking} />`}
      ${shown === "text" && html`<${Words} ...${props} raw />`}
    </${Tabs}>
    <div class="answer-actions">
      <${CopyButton} label=${t("copyJson")} text=${json} />
      <${SaveButton} label=${t("downloadJson")} name="vlrun.json" type="application/json" text=${json} />
    </div>
  `;
  if (!compact || !summary) return html`${summary}${details}`;
  return html`${summary}<details class="answer-details"><summary>${t("details")}</summary>${details}</details>`;
}

/**
 * What a count, a chart or a list of places says at a glance.
 *
 * @param {unknown} value
 * @param {AnswerViewProps} props
 * @param {Map<unknown, number>} indexes Of the marks, by the objects of the value that give them.
 * @param {Marking} marking
 */
function summaryOf(value, { votes, marks, compact }, indexes, marking) {
  const counts = countsOf(value);
  if (counts) return html`<${CountChart} ...${counts} votes=${votes ?? []} />`;
  const series = seriesOf(value);
  if (isObject(value) && canDraw(series)) {
    return html`<${SeriesChart} title=${String(value.title ?? "")} kind=${String(value.kind ?? "")} series=${series} />`;
  }
  const places = Array.isArray(value) ? value : [value];
  if (!compact || !marks?.length || !places.every((place) => indexes.has(place))) return null;
  return html`<${MarkList} marks=${marks} marking=${marking} />`;
}

/**
 * @param {unknown} value
 * @param {import("./tables.js").Table} table
 * @param {Map<unknown, number>} marks
 * @returns {(row: number) => number | undefined} The mark of a row of the table.
 */
function rowMarks(value, table, marks) {
  const list = Array.isArray(value) ? value : isObject(value) ? value[table.title] : null;
  return (row) => (Array.isArray(list) ? marks.get(list[row]) : undefined);
}
