// The request of a question about the picture.

import { language } from "../i18n/index.js";
import { localized } from "./config.js";

/**
 * @param {import("../api/types.js").ImageObject} image
 * @param {import("./config.js").Question} question
 * @returns {object} The body of a chat completion.
 */
export function requestBody(image, { label, question, task, items, fields }) {
  const text = localized(question) || (task ? "" : localized(label));
  const content = [
    { type: "image_url", image_url: { url: image.url } },
    ...(text ? [{ type: "text", text }] : []),
  ];
  const wanted = { task, ...(items?.length ? { items } : {}), ...(fields?.length ? { fields } : {}) };
  const messages = [{ role: "user", content }];
  return task ? { messages, vlrun: { ...wanted, language: language() } } : { messages };
}
