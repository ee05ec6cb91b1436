// How long each part of an answer took, and its tokens.

import messages from "../i18n/app.js";
import { tag, translator } from "../i18n/index.js";
import { html } from "../vendor/preact.js";

const t = translator(messages);

/**
 * @param {{timings: import("../api/types.js").Timings, usage: import("../api/types.js").Usage | null}} props
 */
export function Timings({ timings, usage }) {
  const details = usage?.prompt_tokens_details;
  /** @type {[string, string | undefined][]} */
  const rows = [
    [t("timeQueue"), seconds(timings.queue)],
    [t("timeVision"), seconds(timings.vision)],
    [t("timePrefill"), seconds(timings.prefill)],
    [t("timeFirst"), seconds(timings.ttft)],
    [t("timeToken"), typeof timings.tpot === "number" ? milliseconds(timings.tpot) : undefined],
    [t("timeTotal"), seconds(timings.total)],
    [t("tokensPrompt"), usage?.prompt_tokens.toLocaleString(tag())],
    [t("tokensImage"), details?.image_tokens?.toLocaleString(tag())],
    [t("tokensCached"), details?.cached_tokens?.toLocaleString(tag())],
    [t("tokensAnswer"), usage?.completion_tokens.toLocaleString(tag())],
  ];
  return html`<dl class="timings" aria-label=${t("timings")}>
    ${rows
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

/** @param {number | undefined} value */
function seconds(value) {
  if (value === undefined) return undefined;
  return value < 1 ? milliseconds(value) : `${value.toLocaleString(tag(), { maximumFractionDigits: 1 })} s`;
}

/** @param {number} value Seconds. */
function milliseconds(value) {
  return `${(value * 1000).toLocaleString(tag(), { maximumFractionDigits: value < 0.01 ? 1 : 0 })} ms`;
}
