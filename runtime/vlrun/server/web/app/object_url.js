// URLs of blobs, which are given back when they are no longer shown.

import { useEffect, useState } from "../vendor/preact.js";

/** @param {Blob | null | undefined} blob @returns {string | null} */
export function useObjectUrl(blob) {
  const [url, setUrl] = useState(/** @type {string | null} */ (null));
  useEffect(() => {
    if (!blob) return setUrl(null);
    const created = URL.createObjectURL(blob);
    setUrl(created);
    return () => URL.revokeObjectURL(created);
  }, [blob]);
  return url;
}
