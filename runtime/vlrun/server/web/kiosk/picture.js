// The person's picture, with the boxes and points of the answer.

import { fontScale } from "../answer/font_scale.js";
import { preview } from "../api/images.js";
import { useObjectUrl } from "../app/object_url.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html, useLayoutEffect, useRef, useState } from "../vendor/preact.js";
import { drawnMarks, Marks } from "../viewer/marks.js";
import { fit } from "../viewer/view.js";

const t = translator(messages);

/**
 * @typedef {object} PictureProps
 * @property {Blob} picture
 * @property {{width: number, height: number} | null} size Of the upright picture, in pixels; null before it was sent.
 * @property {import("../api/types.js").Mark[]} [marks]
 * @property {number | null} [activeMark]
 */

/** @param {PictureProps} props */
export function Picture({ picture, size, marks = [], activeMark = null }) {
  const [shown, setShown] = useState(picture);
  const url = useObjectUrl(shown);
  const frame = useRef(/** @type {HTMLElement | null} */ (null));
  const pane = useSize(frame);
  // A browser that cannot show HEIC or TIFF gets the service's JPEG of it.
  const fallBack = () => shown === picture && preview(picture).then(setShown, () => undefined);
  const view = size && pane.width > 0 && fit(pane, size);
  const place = view && { width: `${view.scale * size.width}px`, height: `${view.scale * size.height}px` };
  const drawn = view && marks.length > 0 && drawnMarks(marks.map(({ label = "", ...mark }) => ({ label, ...mark })), size);
  return html`<figure class="picture" ref=${frame}>
    ${url && html`<img src=${url} alt=${t("yourPicture")} style=${place || {}} onError=${fallBack} />`}
    ${drawn && html`<${Marks} marks=${drawn} activeMark=${activeMark} view=${view} pane=${pane} zoom=${fontScale()} />`}
  </figure>`;
}

/** @param {{current: HTMLElement | null}} element @returns {{width: number, height: number}} */
function useSize(element) {
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    if (!element.current) return undefined;
    const { current } = element;
    const measure = () => setSize({ width: current.clientWidth, height: current.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(current);
    measure();
    return () => observer.disconnect();
  }, []);
  return size;
}
