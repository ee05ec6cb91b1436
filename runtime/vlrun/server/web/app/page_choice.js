// Chooses pages of a document by their pictures or their numbers.

import { preview } from "../api/images.js";
import messages from "../i18n/files.js";
import { translator } from "../i18n/index.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { useObjectUrl } from "./object_url.js";
import { formatPages, parsePages } from "./page_numbers.js";
import { app } from "./store.js";

const t = translator(messages);

/** Pages that are shown at first, and by each press of the button below them. */
const STEP = 48;
const THUMB_SIDE = 200;
/** Pictures of pages that the service draws at once: it takes turns with other people. */
const PARALLEL = 2;

/**
 * Let the person choose.
 *
 * @param {Omit<import("./state.js").PageChoice, "done">} choice
 * @returns {Promise<number[]>} None if nothing was chosen.
 */
export function choosePages(choice) {
  return new Promise((resolve) => app.set({ pageChoice: { ...choice, done: resolve }, dialog: "pages" }));
}

/** @param {{state: import("./state.js").State, onClose: () => void}} props */
export function PageDialog({ state, onClose }) {
  const { pageChoice: choice } = state;
  const [text, setText] = useState("");
  const [shown, setShown] = useState(STEP);
  const count = choice?.count ?? 0;
  const pages = text.trim() ? parsePages(text, count) : [];
  const chosen = new Set(pages ?? []);
  useEffect(() => () => choice?.done([]), [choice]); // nothing happens if it has been told the pages
  if (!choice) return null;
  const tooMany = chosen.size > choice.most;
  const trouble = pages === null ? t("pageNumbersWrong", { n: count }) : tooMany ? t("tooManyPages", { n: choice.most }) : "";
  const toggle = (/** @type {number} */ page) => {
    if (!chosen.delete(page)) chosen.add(page);
    setText(formatPages([...chosen].sort((one, other) => one - other)));
  };
  const add = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!chosen.size || trouble) return;
    choice.done([...chosen]);
    onClose();
  };
  const footer = html`<form class="page-numbers" onSubmit=${add}>
    <input type="text" inputmode="text" autocomplete="off" aria-label=${t("pageNumbers")} placeholder=${t("pageNumbers")}
      aria-invalid=${trouble !== ""} aria-describedby="page-trouble" value=${text}
      onInput=${(/** @type {any} */ event) => setText(event.target.value)} />
    <button type="submit" class="button button-primary" disabled=${!chosen.size || trouble !== ""}>
      <${Icon} name="plus" size=${18} />${chosen.size ? t("addPages", { n: chosen.size }) : t("addNoPages")}
    </button>
    <p id="page-trouble" class="trouble" role="alert">${trouble}</p>
  </form>`;
  return html`<${Dialog} title=${t("choosePages")} onClose=${onClose} footer=${footer}>
    <p class="hint pages-hint">${t("pagesHint", { name: choice.name, n: count })}</p>
    <${Thumbnails} choice=${choice} shown=${Math.min(shown, count)} chosen=${chosen} onToggle=${toggle} />
    ${shown < count &&
    html`<button type="button" class="button more-pages" onClick=${() => setShown(shown + STEP)}>${t("morePages")}</button>`}
  <//>`;
}

/**
 * @param {{choice: import("./state.js").PageChoice, shown: number, chosen: Set<number>,
 *   onToggle: (page: number) => void}} props
 */
function Thumbnails({ choice, shown, chosen, onToggle }) {
  const load = usePictures(choice.blob);
  return html`<ul class="page-grid" aria-label=${t("pages")}>
    ${Array.from({ length: shown }, (_, index) => index + 1).map(
      (page) => html`<li key=${page}>
        <${Thumbnail} page=${page} load=${load} chosen=${chosen.has(page)} onToggle=${onToggle} />
      </li>`,
    )}
  </ul>`;
}

/**
 * @param {{page: number, load: (page: number) => Promise<Blob | null>, chosen: boolean,
 *   onToggle: (page: number) => void}} props
 */
function Thumbnail({ page, load, chosen, onToggle }) {
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  const [blob, setBlob] = useState(/** @type {Blob | null} */ (null));
  const src = useObjectUrl(blob);
  useEffect(() => {
    if (!ref.current) return undefined;
    const observer = new IntersectionObserver(async (entries) => {
      if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
      observer.disconnect();
      setBlob(await load(page));
    });
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return html`<button type="button" ref=${ref} class="page-thumb" aria-pressed=${chosen} aria-label=${t("page", { n: page })}
    onClick=${() => onToggle(page)}>
    <span class="page-paper">${src ? html`<img src=${src} alt="" />` : html`<${Icon} name="report" size=${28} />`}</span>
    <span class="page-number">${chosen && html`<${Icon} name="check" size=${16} />`}${page}</span>
  </button>`;
}

/**
 * What loads the pictures of pages, a few at a time, until the dialog is closed.
 *
 * @param {Blob} blob
 * @returns {(page: number) => Promise<Blob | null>} Null for a page that cannot be drawn.
 */
function usePictures(blob) {
  const [load, abort] = useState(() => pictureLoader(blob))[0];
  useEffect(() => abort, []);
  return load;
}

/** @param {Blob} blob @returns {[(page: number) => Promise<Blob | null>, () => void]} */
function pictureLoader(blob) {
  const controller = new AbortController();
  /** @type {Promise<unknown>[]} */
  const lanes = Array.from({ length: PARALLEL }, () => Promise.resolve());
  let next = 0;
  const draw = async (/** @type {number} */ page) => {
    try {
      controller.signal.throwIfAborted();
      return await preview(blob, { page, side: THUMB_SIDE, signal: controller.signal });
    } catch {
      return null; // the page can still be chosen by its number
    }
  };
  const load = (/** @type {number} */ page) => {
    const lane = next++ % PARALLEL;
    const drawn = lanes[lane].then(() => draw(page));
    lanes[lane] = drawn;
    return drawn;
  };
  return [load, () => controller.abort()];
}
