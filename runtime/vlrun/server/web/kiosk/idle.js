// Notices that nobody uses the kiosk.

const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "input"];
/** What calls the warning off: the end of a touch or a key, so that nothing of it reaches what lies below. */
const REPLIES = ["click", "keyup"];
const TICK_MS = 250;
const WARNING_SECONDS = 10;

/**
 * @typedef {object} IdleOptions
 * @property {number} seconds
 * @property {() => boolean} isFresh Whether there is nothing to forget.
 * @property {() => boolean} isBusy Whether an answer is coming, which is no idle time.
 * @property {(left: number | null) => void} onWarning The seconds left before the end; null when it is called off.
 * @property {() => void} onIdle
 */

/**
 * @param {IdleOptions} options
 * @returns {() => void} Ends the watch.
 */
export function watchIdle({ seconds, isFresh, isBusy, onWarning, onIdle }) {
  const warning = Math.min(WARNING_SECONDS, seconds / 2);
  let last = performance.now();
  let warned = false;

  function restart() {
    last = performance.now();
    if (warned) onWarning(null);
    warned = false;
  }

  /** @param {Event} event */
  function touched({ type }) {
    if (!warned || REPLIES.includes(type)) restart();
  }

  function check() {
    if (isBusy()) return restart();
    const left = seconds - (performance.now() - last) / 1000;
    if (left <= 0) {
      restart();
      onIdle();
    } else if (left <= warning && !isFresh()) {
      warned = true;
      onWarning(Math.ceil(left));
    }
  }

  for (const name of [...SIGNS, ...REPLIES]) addEventListener(name, touched, { capture: true, passive: true });
  const timer = setInterval(check, TICK_MS);
  return () => {
    clearInterval(timer);
    for (const name of [...SIGNS, ...REPLIES]) removeEventListener(name, touched, { capture: true });
  };
}
