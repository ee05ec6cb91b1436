// katex.js is a script, not a module: it sets `globalThis.katex`.
import type { KatexOptions } from "katex";

declare global {
  var katex: { renderToString(tex: string, options?: KatexOptions): string };
}
export {};
