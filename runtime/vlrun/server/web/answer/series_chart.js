// The series that were read from a chart, drawn again: bars or lines. The table below has the same values as text.

import { html, useLayoutEffect, useRef, useState } from "../vendor/preact.js";
import { language, translator } from "../i18n/index.js";
import messages from "../i18n/viewer.js";
import { fontScale } from "./font_scale.js";

/** @typedef {import("./tables.js").Series} Series */

const t = translator(messages);

const MIN_WIDTH = 240;
const MAX_WIDTH = 720;
const HEIGHT = 240;
const EDGE = { left: 56, right: 12, top: 12, bottom: 32 };
/** As many series as there are colours in tokens.css; others would look the same. */
const MAX_SERIES = 6;
const MAX_X = 200;
const LABEL_WIDTH = 64;
const LINES = new Set(["line", "area", "scatter"]);

/** @param {readonly Series[]} series @returns {boolean} Whether a chart of them would be readable. */
export function canDraw(series) {
  const values = series.flatMap(({ points }) => points);
  return values.length > 1 && series.length <= MAX_SERIES && new Set(values.map(({ x }) => x)).size <= MAX_X;
}

/**
 * @param {object} props
 * @param {string} props.title
 * @param {string} props.kind
 * @param {readonly Series[]} props.series
 */
export function SeriesChart({ title, kind, series }) {
  const names = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))];
  const ticks = ticksOf(series.flatMap(({ points }) => points.map(({ y }) => y)));
  const [low, high] = [ticks[0], ticks[ticks.length - 1]];
  const [width, figure] = useWidth();
  const step = (width - EDGE.left - EDGE.right) / names.length;
  const middle = (/** @type {string} */ x) => EDGE.left + (names.indexOf(x) + 0.5) * step;
  const height = (/** @type {number} */ y) => EDGE.top + ((high - y) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const every = Math.ceil((names.length * LABEL_WIDTH) / width);
  const compact = new Intl.NumberFormat(language(), { notation: "compact", maximumFractionDigits: 2 });
  const Shape = LINES.has(kind) ? Line : Bars;
  return html`
    <figure class="series-chart" ref=${figure}>
      <figcaption>${title}</figcaption>
      <svg viewBox=${`0 0 ${width} ${HEIGHT}`} role="img" aria-label=${t("chartOf", { title: title || series.map(({ name }) => name).join(", ") })}>
        ${ticks.map((tick) => html`<g key=${tick}>
          <line class=${tick === 0 ? "zero" : "grid"} x1=${EDGE.left} x2=${width - EDGE.right} y1=${height(tick)} y2=${height(tick)} />
          <text x=${EDGE.left - 8} y=${height(tick) + 4} text-anchor="end">${compact.format(tick)}</text>
        </g>`)}
        ${names.map((x, at) => at % every === 0 && html`<text key=${x} x=${middle(x)} y=${HEIGHT - 10} text-anchor="middle">${clipped(x, (step * every) / 7)}</text>`)}
        ${series.map(({ points }, at) => html`<${Shape} key=${at} points=${points} at=${at} of=${series.length} middle=${middle} height=${height} step=${step} low=${low} />`)}
      </svg>
      ${series.length > 1 &&
      html`<ul class="chart-legend">${series.map(({ name }, at) => html`<li key=${at} class=${`series-${at + 1}`}>${name || t("series")}</li>`)}</ul>`}
    </figure>
  `;
}

/**
 * The width of the chart in its own units, which are pixels where texts have their usual size, and larger on a kiosk.
 *
 * @returns {[number, {current: HTMLElement | null}]}
 */
function useWidth() {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  const [width, setWidth] = useState(MAX_WIDTH);
  useLayoutEffect(() => {
    const measure = () => {
      const shown = element.current ? element.current.clientWidth / fontScale() : MAX_WIDTH;
      setWidth(Math.min(MAX_WIDTH, Math.max(MIN_WIDTH, shown)));
    };
    const observer = new ResizeObserver(measure);
    if (element.current) observer.observe(element.current);
    measure();
    return () => observer.disconnect();
  }, []);
  return [width, element];
}

/**
 * @typedef {object} ShapeProps
 * @property {Series["points"]} points
 * @property {number} at Which series.
 * @property {number} of How many there are.
 * @property {(x: string) => number} middle
 * @property {(y: number) => number} height
 * @property {number} step
 */

/** @param {ShapeProps} props */
function Bars({ points, at, of, middle, height, step }) {
  const width = Math.max(1, Math.min(48, (step * 0.72) / of));
  const zero = height(0);
  return html`<g class=${`series-${at + 1}`}>
    ${points.map(({ x, y }, key) => {
      const left = middle(x) - (width * of) / 2 + at * width;
      return html`<rect key=${key} x=${left} y=${Math.min(zero, height(y))} width=${Math.max(0.5, width - 1)} height=${Math.abs(zero - height(y))} rx="1.5"><title>${x}: ${y}</title></rect>`;
    })}
  </g>`;
}

/** @param {ShapeProps} props */
function Line({ points, at, middle, height }) {
  const path = points.map(({ x, y }) => `${middle(x)},${height(y)}`).join(" ");
  return html`<g class=${`series-${at + 1}`}>
    <polyline points=${path} />
    ${points.map(({ x, y }, key) => html`<circle key=${key} cx=${middle(x)} cy=${height(y)} r="3"><title>${x}: ${y}</title></circle>`)}
  </g>`;
}

/**
 * Round values for the lines of the chart, from below the lowest (or 0) to above the highest.
 *
 * @param {number[]} values
 */
export function ticksOf(values) {
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values);
  const rough = (high - low || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough) ?? rough;
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step));
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

/** @param {string} text @param {number} characters */
function clipped(text, characters) {
  const length = Math.max(2, Math.floor(characters));
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
