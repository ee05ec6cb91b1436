// Pointers, wheel and double click on the pane, as drags, pinches and taps. Does not know what they mean.

/** @typedef {import("./view.js").Point} Point */

/**
 * @typedef {object} Gestures
 * @property {(at: Point, event: PointerEvent) => void} start A drag or tap begins.
 * @property {(at: Point, from: Point) => void} drag
 * @property {(at: Point) => void} end
 * @property {() => void} cancel A second finger came down, or the browser scrolls: undo what the drag did.
 * @property {(at: Point) => void} tap
 * @property {(at: Point) => void} doubleTap
 * @property {(at: Point | null) => void} hover
 * @property {(factor: number, centre: Point, by: Point) => void} pinch
 * @property {(factor: number, at: Point) => boolean} wheel Whether it zoomed; if not, the page may scroll.
 */

/** A pointer that moved no further is a tap. */
const TAP_RADIUS = 5;
const DOUBLE_TAP_MS = 300;
const WHEEL_SPEED = 0.0018;
/** Pixels of one line or page, for mice that count in those. */
const WHEEL_UNITS = [1, 16, 240];

/**
 * Follow the pointers on an element.
 *
 * @param {HTMLElement} pane
 * @param {Gestures} gestures
 * @returns {() => void} Ends it.
 */
export function followPointers(pane, gestures) {
  const tracker = new Tracker(pane, gestures);
  const ending = new AbortController();
  const { signal } = ending;
  pane.addEventListener("pointerdown", (event) => tracker.down(event), { signal });
  pane.addEventListener("pointermove", (event) => tracker.move(event), { signal });
  pane.addEventListener("pointerup", (event) => tracker.up(event), { signal });
  pane.addEventListener("pointercancel", (event) => tracker.cancelled(event), { signal });
  pane.addEventListener("pointerleave", () => gestures.hover(null), { signal });
  pane.addEventListener("wheel", (event) => tracker.wheel(event), { signal, passive: false });
  return () => ending.abort();
}

class Tracker {
  /** @param {HTMLElement} pane @param {Gestures} gestures */
  constructor(pane, gestures) {
    this.pane = pane;
    this.gestures = gestures;
    /** @type {Map<number, Point>} */
    this.pointers = new Map();
    /** @type {Point | null} */
    this.from = null;
    this.moved = false;
    this.lastTap = { time: -Infinity, at: { x: 0, y: 0 } };
  }

  /** @param {MouseEvent} event @returns {Point} */
  at(event) {
    const frame = this.pane.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (event.button > 0 || isControl(event.target)) return;
    this.pointers.set(event.pointerId, this.at(event));
    this.pane.setPointerCapture(event.pointerId);
    if (this.pointers.size === 1) {
      this.from = this.at(event);
      this.moved = false;
      this.gestures.start(this.from, event);
    } else if (this.from) {
      this.from = null;
      this.gestures.cancel();
    }
  }

  /** @param {PointerEvent} event */
  move(event) {
    const at = this.at(event);
    if (!this.pointers.has(event.pointerId)) {
      if (event.pointerType === "mouse") this.gestures.hover(at);
      return;
    }
    const before = [...this.pointers.values()];
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) this.pinch(before, [...this.pointers.values()]);
    if (!this.from) return;
    this.moved ||= Math.hypot(at.x - this.from.x, at.y - this.from.y) > TAP_RADIUS;
    if (this.moved) this.gestures.drag(at, this.from);
  }

  /** @param {Point[]} before @param {Point[]} after */
  pinch(before, after) {
    const [old, now] = [middle(before), middle(after)];
    const factor = distance(after) / Math.max(1, distance(before));
    this.gestures.pinch(factor, now, { x: now.x - old.x, y: now.y - old.y });
  }

  /** @param {PointerEvent} event */
  up(event) {
    if (!this.pointers.delete(event.pointerId) || !this.from) return;
    const at = this.at(event);
    this.from = null;
    if (this.moved) this.gestures.end(at);
    else this.tapped(at, event.timeStamp);
  }

  /** @param {Point} at @param {number} time */
  tapped(at, time) {
    this.gestures.cancel();
    const repeated = time - this.lastTap.time < DOUBLE_TAP_MS && distance([at, this.lastTap.at]) < 24;
    this.lastTap = { time: repeated ? -Infinity : time, at };
    if (repeated) this.gestures.doubleTap(at);
    else this.gestures.tap(at);
  }

  /** @param {PointerEvent} event */
  cancelled(event) {
    if (this.pointers.delete(event.pointerId) && this.from) {
      this.from = null;
      this.gestures.cancel();
    }
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    const pixels = event.deltaY * (WHEEL_UNITS[event.deltaMode] ?? 1);
    const zooms = event.ctrlKey || event.metaKey || this.pane.contains(document.activeElement) || !scrolls(this.pane, pixels);
    // Trackpads send a pinch as small steps of the wheel with ctrl.
    const factor = Math.exp(-pixels * WHEEL_SPEED * (event.ctrlKey ? 4 : 1));
    if (zooms && (this.gestures.wheel(factor, this.at(event)) || event.ctrlKey)) event.preventDefault();
  }
}

/** @param {EventTarget | null} target */
function isControl(target) {
  return target instanceof Element && target.closest("button, input, a") !== null;
}

/**
 * Whether a wheel event over the element would scroll something around it.
 *
 * @param {Element} element
 * @param {number} pixels
 */
function scrolls(element, pixels) {
  for (let around = element.parentElement; around; around = around.parentElement) {
    const overflow = getComputedStyle(around).overflowY;
    const isRoot = around === document.documentElement;
    if (!isRoot && overflow !== "auto" && overflow !== "scroll") continue;
    const rest = pixels < 0 ? around.scrollTop : around.scrollHeight - around.clientHeight - around.scrollTop;
    if (rest >= 1 && overflow !== "hidden") return true;
  }
  return false;
}

/** @param {Point[]} points @returns {Point} */
function middle([a, b]) {
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

/** @param {Point[]} points */
function distance([a, b]) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}
