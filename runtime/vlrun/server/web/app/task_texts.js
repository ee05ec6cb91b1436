// Names, icons and examples of tasks. Those of a file of the operator have their own name and description.

import messages from "../i18n/tasks.js";
import { translator } from "../i18n/index.js";

const t = translator(messages);

/** @typedef {import("../api/types.js").TaskObject} Task */

/** @type {Record<string, import("./icons.js").IconName>} */
const ICONS = {
  describe: "eye",
  count: "count",
  locate: "locate",
  ocr: "ocr",
  fields: "fields",
  table: "table",
  chart: "chart",
  report: "report",
  handwriting: "pen",
  html: "code",
  compare: "compare",
};

/** @param {Task | {id: string}} task */
export function taskName(task) {
  return known(`${task.id}Name`) ?? task.id;
}

/** @param {Task} task */
export function taskAbout(task) {
  return known(`${task.id}About`) ?? task.about;
}

/** @param {{id: string}} task @returns {import("./icons.js").IconName} */
export function taskIcon({ id }) {
  return ICONS[id] ?? "tasks";
}

/** @param {{id: string}} task @returns {string[]} Names that can be tapped. */
export function taskExamples({ id }) {
  const list = known(`${id}Examples`);
  return list ? list.split("|") : [];
}

/** @param {string} key */
function known(key) {
  return key in messages.en ? t(/** @type {keyof typeof messages.en} */ (key)) : null;
}

/** @param {Task} task @returns {"items" | "fields" | null} The kind of names that a task takes. */
export function namesOf(task) {
  if (task.items && task.items !== "none") return "items";
  return task.fields && task.fields !== "none" ? "fields" : null;
}

/** @param {Task} task @returns {boolean} Whether it needs names. */
export function needsNames(task) {
  return task.items === "required" || task.fields === "required" || task.fields === true;
}
