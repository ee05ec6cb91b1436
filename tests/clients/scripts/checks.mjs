// What the scripts of all Node clients share; the same as checks.py.
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const BASE_URL = process.argv[2];
export const API = `${BASE_URL}/v1`;
export const KEY = "none-is-needed";
export const MODEL = "vlrun-tiny";

const shelf = readFileSync(join(process.argv[3], "shelf.png"));
export const SHELF = new Uint8Array(shelf);
export const SHELF_URL = `data:image/png;base64,${shelf.toString("base64")}`;

export const HELLO = "Who are you?";
export const HELLO_ANSWER = "I am the tiny demo model of vlrun. Show me a picture.";
export const HOW_MANY = "How many bottles are there?";
export const HOW_MANY_ANSWER = "6";
export const COUNT = "Count the bottles and cans.";
export const COUNTS = { bottles: 6, cans: 1 };
export const COUNT_SCHEMA = {
  type: "object",
  properties: { bottles: { type: "integer" }, cans: { type: "integer" } },
  required: ["bottles", "cans"],
  additionalProperties: false,
};

export function question(text) {
  return [{ role: "user", content: [{ type: "text", text }, { type: "image_url", image_url: { url: SHELF_URL } }] }];
}

export function equal(given, right) {
  const [found, wanted] = [given, right].map((value) => JSON.stringify(value));
  if (found !== wanted) throw new Error(`${found} is not ${wanted}`);
}

export async function run(package_, checks) {
  const manifest = JSON.parse(readFileSync(join("node_modules", package_, "package.json")));
  console.log(JSON.stringify({ version: manifest.version }));
  for (const [name, check] of Object.entries(checks)) {
    let error = null;
    try {
      await check();
    } catch (wrong) {
      console.error(wrong);
      error = `${wrong}`.slice(0, 2000);
    }
    console.log(JSON.stringify({ check: name, error }));
  }
}
