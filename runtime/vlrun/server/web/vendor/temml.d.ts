// temml.js is a script, not a module: it sets `globalThis.temml`.
import type { Options } from "temml";

declare global {
  var temml: { renderToString(tex: string, options?: Options): string };
}
export {};
