// Pages of a document as people write them: 1-3,7.

/**
 * @param {string} text
 * @param {number} count Pages of the document.
 * @returns {number[] | null} In the order given, each once; null if the text names none, or one that is not there.
 */
export function parsePages(text, count) {
  /** @type {Set<number>} */
  const pages = new Set();
  for (const part of text.split(/[,，、]/)) {
    const found = /^\s*(\d{1,5})\s*(?:([-–])\s*(\d{1,5})?\s*)?$/.exec(part);
    if (!found) return null;
    const first = Number(found[1]);
    const last = found[2] ? Number(found[3] ?? count) : first;
    if (first < 1 || last < first || last > count) return null;
    for (let page = first; page <= last; page++) pages.add(page);
  }
  return [...pages];
}

/** @param {number[]} pages @returns {string} */
export function formatPages(pages) {
  /** @type {[number, number][]} */
  const ranges = [];
  for (const page of pages) {
    const last = ranges.at(-1);
    if (last && last[1] === page - 1) last[1] = page;
    else ranges.push([page, page]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}
