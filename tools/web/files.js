// Checks the files of the pages: vendored ones are those of npm, and no page is too heavy. Prints how heavy each is.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const TOOLS = dirname(fileURLToPath(import.meta.url));
const WEB = join(TOOLS, "../../runtime/vlrun/server/web");
const VENDORED = {
  "preact.js": "htm/preact/standalone.module.js",
  "marked.js": "marked/lib/marked.esm.js",
  "purify.js": "dompurify/dist/purify.min.js",
  "temml.js": "temml/dist/temml.min.js",
};
/** Of all that a page may load, compressed, without pictures. */
const MAX_BYTES = 250_000;
const PAGES = ["index.html", "kiosk.html"];
/** What a file names: links and scripts of HTML, imports of scripts. `new URL(...)` is loaded when it is needed. */
const NAMED = {
  ".html": [/(?:href|src)="\/web\/([^"]+)"/g],
  ".js": [/^(?:import|export)[^"'()]*["'](\.[^"']+)["']/gm, /\bnew URL\(["'](\.[^"']+)["'], import\.meta\.url\)/g],
};

/** @param {string} file @param {boolean} all Also what is loaded only when it is needed. @param {Set<string>} found */
function follow(file, all, found = new Set()) {
  if (found.has(file) || /\.png$/.test(file)) return found;
  found.add(file);
  const text = readFileSync(join(WEB, file), "utf-8");
  const patterns = file.includes("vendor/") ? [] : (NAMED[posix.extname(file)] ?? []);
  for (const pattern of all ? patterns : patterns.slice(0, 1)) {
    for (const [, name] of text.matchAll(pattern)) {
      const target = name.startsWith(".") ? posix.join(posix.dirname(file), name) : name;
      if (existsSync(join(WEB, target))) follow(target, all, found);
    }
  }
  return found;
}

/** @param {Set<string>} files */
function weight(files) {
  return [...files].reduce((sum, file) => sum + gzipSync(readFileSync(join(WEB, file))).length, 0);
}

let failed = false;
for (const [file, source] of Object.entries(VENDORED)) {
  const same = readFileSync(join(WEB, "vendor", file)).equals(readFileSync(join(TOOLS, "node_modules", source)));
  if (!same) console.error(`vendor/${file} is not ${source} of the version in package-lock.json`);
  failed ||= !same;
}
for (const page of PAGES) {
  const first = follow(page, false);
  const all = weight(follow(page, true));
  const kib = (/** @type {number} */ bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
  console.log(`${page}: ${kib(weight(first))} in ${first.size} files, gzipped; at most ${kib(all)} with all that answers need`);
  if (all > MAX_BYTES) console.error(`${page} is too heavy: the limit is ${kib(MAX_BYTES)}`);
  failed ||= all > MAX_BYTES;
}
process.exitCode = failed ? 1 : 0;
