// The person's picture.

import { preview } from "../api/images.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html, useEffect, useState } from "../vendor/preact.js";

const t = translator(messages);

/** @param {{picture: Blob}} props */
export function Picture({ picture }) {
  const [shown, setShown] = useState(picture);
  const url = useUrl(shown);
  // A browser that cannot show HEIC or TIFF gets the service's JPEG of it.
  const fallBack = () => shown === picture && preview(picture).then(setShown, () => undefined);
  return html`<figure class="picture">${url && html`<img src=${url} alt=${t("yourPicture")} onError=${fallBack} />`}</figure>`;
}

/** @param {Blob} blob @returns {string} A URL that lives as long as the component shows it. */
function useUrl(blob) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}
