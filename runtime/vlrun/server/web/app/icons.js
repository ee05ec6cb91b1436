// Icons, drawn with lines of the text's colour.

import { html } from "../vendor/preact.js";

/** Paths in a square of 24. */
const PATHS = {
  plus: "M12 5v14M5 12h14",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15.5 9.5h.01",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 16.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM9 19.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z",
  history: "M4.5 12a7.5 7.5 0 1 0 2.3-5.4M4 4v4h4M12 8v4l3 2",
  help: "M9.5 9.2a2.6 2.6 0 1 1 3.7 2.4c-.8.4-1.2 1-1.2 1.9M12 16.8h.01M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v11H9zM5 15V4h10",
  edit: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
  retry: "M19.5 12a7.5 7.5 0 1 1-2.3-5.4M20 4v4h-4",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l4 4",
  enhance: "M12 4l1.8 5.2L19 11l-5.2 1.8L12 18l-1.8-5.2L5 11l5.2-1.8zM19 16v4M17 18h4",
  heat: "M12 20c-3.5 0-6-2.4-6-5.7C6 10 10 8.5 11 4c4 2.3 7 6 7 10.3 0 3.3-2.5 5.7-6 5.7zM12 20c-1.5 0-2.5-1.1-2.5-2.6 0-1.7 1.5-2.4 2.5-4.4 1 2 2.5 2.7 2.5 4.4 0 1.5-1 2.6-2.5 2.6z",
  json: "M9 4c-3 0-3 2-3 4s0 4-3 4c3 0 3 2 3 4s0 4 3 4M15 4c3 0 3 2 3 4s0 4 3 4c-3 0-3 2-3 4s0 4-3 4",
  crop: "M7 3v14h14M3 7h14v14",
  swap: "M4 9h13l-3-3M20 15H7l3 3",
  check: "M5 12.5l4.5 4.5L19 7",
  alert: "M12 4l9 16H3zM12 10v4M12 17h.01",
  tasks: "M4 6h16v0M4 12h16M4 18h10M4 6h16",
  chat: "M4 5h16v11H11l-4 4v-4H4z",
  count: "M4 20V10h4v10M10 20V4h4v16M16 20v-7h4v7",
  locate: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M9 9h6v6H9z",
  ocr: "M5 7V4h14v3M12 4v16M9 20h6",
  table: "M4 5h16v14H4zM4 10h16M4 14.5h16M10 5v14",
  fields: "M4 6h6M4 12h6M4 18h6M13 4h7v4h-7zM13 10h7v4h-7zM13 16h7v4h-7z",
  compare: "M4 5h7v14H4zM13 5h7v14h-7z",
  chart: "M4 4v16h16M8 15l3-4 3 2 5-6",
  report: "M6 3h9l4 4v14H6zM9 12h7M9 16h5M9 8h3",
  pen: "M4 20c3-1 5-6 8-9s5-5 7-7c1 3-2 6-5 9s-6 4-10 7z",
  code: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  back: "M15 5l-7 7 7 7",
  chevron: "M8 10l4 4 4-4",
};

/**
 * @param {{name: keyof typeof PATHS, size?: number}} props
 */
export function Icon({ name, size = 20 }) {
  return html`<svg class="icon" viewBox="0 0 24 24" width=${size} height=${size} aria-hidden="true">
    <path d=${PATHS[name]} />
  </svg>`;
}

/** @typedef {keyof typeof PATHS} IconName */
