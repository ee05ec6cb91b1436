// How much larger than usual the texts of the page are: drawings with texts of a fixed size grow with them on a kiosk.

const USUAL_FONT_SIZE = 16; // of a browser, in pixels

/** @returns {number} */
export function fontScale() {
  return Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / USUAL_FONT_SIZE || 1;
}
