// The page: a picture, a question, an answer.

import { withImages } from "../api/images.js";
import { streamChat } from "../api/stream.js";
import messages from "../i18n/app.js";
import { onLanguage, setLanguage, language, translator } from "../i18n/index.js";
import { html, render, useState } from "../vendor/preact.js";

const t = translator(messages);

function App() {
  const [file, setFile] = useState(/** @type {File | null} */ (null));
  const [answer, setAnswer] = useState("");

  /** @param {SubmitEvent} event */
  async function ask(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const question = String(new FormData(form).get("question"));
    setAnswer("");
    await withImages(file ? [file] : [], async (images) => {
      const pictures = images.map(({ url }) => ({ type: "image_url", image_url: { url } }));
      const content = [...pictures, { type: "text", text: question }];
      const body = { messages: [{ role: "user", content }] };
      for await (const event of streamChat(body, new AbortController().signal)) {
        if (event.type === "chunk") setAnswer((text) => text + (event.chunk.choices[0]?.delta.content ?? ""));
      }
    });
  }

  return html`<form onSubmit=${ask}>
    <input type="file" aria-label=${t("picture")} onChange=${(/** @type {any} */ event) => setFile(event.target.files[0])} />
    <input name="question" aria-label=${t("question")} />
    <button>${t("ask")}</button>
    <output>${answer}</output>
  </form>`;
}

function start() {
  const root = /** @type {HTMLElement} */ (document.getElementById("app"));
  render(html`<${App} />`, root);
}

onLanguage(start);
setLanguage(language(), { remember: false });
