// Icons, 24 units wide, drawn with lines in the color of the text.

import { html } from "../vendor/preact.js";

const PATHS = {
  camera: "M4 8h3l1.6-2.4h6.8L17 8h3a1 1 0 0 1 1 1v9.5a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V9a1 1 0 0 1 1-1Zm8 2.2a3.6 3.6 0 1 0 0 7.2 3.6 3.6 0 0 0 0-7.2Z",
  picture: "M4 4.5h16a1 1 0 0 1 1 1v13a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1v-13a1 1 0 0 1 1-1Zm-1 11 4.5-4.5 5 5 2.5-2.5 6 6M16 7.8a1.4 1.4 0 1 0 0 2.8 1.4 1.4 0 0 0 0-2.8Z",
  question: "M12 20.5a8.5 8.5 0 1 0-7.6-4.7L3.5 20.5l4.7-.9a8.5 8.5 0 0 0 3.8.9ZM9.8 9.6a2.3 2.3 0 1 1 3.3 2c-.7.4-1.1.9-1.1 1.7M12 16.2v.1",
  answer: "M4 5h16a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1h-7l-5 3.5V17H4a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1Zm3.5 4.5h9m-9 3.5h6",
  again: "M4.5 12a7.5 7.5 0 1 0 2.4-5.5M4.5 4v4h4",
  stop: "M7 7h10v10H7z",
  back: "M14.5 5 7.5 12l7 7",
  switch: "M4 9a8 8 0 0 1 14.5-2.5M20 15a8 8 0 0 1-14.5 2.5M18.8 3v4h-4M5.2 21v-4h4",
  send: "M5 12h14m-6-6 6 6-6 6",
};

/** @param {{name: keyof typeof PATHS}} props */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}
