// Tabs with the keys that screen readers expect.

import { html, useRef } from "../vendor/preact.js";

let count = 0;

/**
 * @param {object} props
 * @param {string} props.label
 * @param {readonly {id: string, name: string}[]} props.tabs
 * @param {string} props.selected
 * @param {(id: string) => void} props.onSelect
 * @param {unknown} [props.children] What the selected tab shows.
 */
export function Tabs({ label, tabs, selected, onSelect, children }) {
  const prefix = useRef("");
  prefix.current ||= `tabs-${(count += 1)}`;
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const at = tabs.findIndex(({ id }) => id === selected);
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const index = (next + tabs.length) % tabs.length;
    onSelect(tabs[index].id);
    /** @type {HTMLElement | undefined} */ (list.current?.children[index])?.focus();
  };
  return html`
    <div class="tabs" role="tablist" aria-label=${label} ref=${list} onKeyDown=${onKey}>
      ${tabs.map(
        ({ id, name }) => html`<button
          key=${id}
          type="button"
          role="tab"
          id=${`${prefix.current}-${id}`}
          aria-selected=${id === selected ? "true" : "false"}
          aria-controls=${`${prefix.current}-panel`}
          tabindex=${id === selected ? 0 : -1}
          onClick=${() => onSelect(id)}
        >
          ${name}
        </button>`,
      )}
    </div>
    <div class="tab-panel" role="tabpanel" id=${`${prefix.current}-panel`} aria-labelledby=${`${prefix.current}-${selected}`}>${children}</div>
  `;
}
