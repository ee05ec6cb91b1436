// purify.js is a script, not a module: it sets `globalThis.DOMPurify`.
import type Purify from "dompurify";

declare global {
  var DOMPurify: typeof Purify;
}
export {};
