// Moves the focus to the heading of a screen that appears, so that a keyboard and a screen reader follow.

import { html, useEffect, useRef } from "../vendor/preact.js";

/** @param {{children?: unknown, class?: string}} props */
export function Heading({ children, class: name = "" }) {
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => heading.current?.focus({ preventScroll: true }), []);
  return html`<h1 class=${name} tabindex="-1" ref=${heading}>${children}</h1>`;
}
