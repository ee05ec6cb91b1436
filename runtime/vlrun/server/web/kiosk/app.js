// The screens and what lies over them.

import { onLanguage, translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html, useEffect, useReducer, useRef, useState } from "../vendor/preact.js";
import { AnswerScreen } from "./answer_screen.js";
import { AskScreen } from "./ask_screen.js";
import { CameraScreen } from "./camera_screen.js";
import { localized } from "./config.js";
import { HomeScreen } from "./home_screen.js";
import { watchIdle } from "./idle.js";
import { IdleWarning } from "./idle_warning.js";
import { LanguageButtons } from "./language_buttons.js";
import { Moment } from "./moment.js";
import { OperatorScreen } from "./operator_screen.js";
import { delay, isReady, untilReady } from "./service.js";

const t = translator(messages);
const CHECK_MS = 10_000;
const SETUP_PRESS_MS = 3000; // on the title: long enough that nobody does it by accident

/** @param {{session: import("./session.js").Session, config: import("./config.js").Config | null}} props */
export function App({ session, config }) {
  const [, redraw] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const [left, setLeft] = useState(/** @type {number | null} */ (null));
  const [setup, setSetup] = useState(new URLSearchParams(location.search).has("setup"));
  const { screen, needsKey } = session.state;
  const away = useAway(config !== null && screen === "home" && !needsKey);

  useEffect(() => session.subscribe(() => redraw(0)), [session]);
  useEffect(() => onLanguage(() => redraw(0)), []);
  useEffect(() => {
    if (!config) return;
    return watchIdle({
      seconds: config.idle_seconds,
      isFresh: () => session.isFresh,
      isBusy: () => session.isAnswering && !["waiting", "busy"].includes(session.state.phase),
      onWarning: setLeft,
      onIdle: () => {
        setSetup(false);
        session.reset();
      },
    });
  }, [config]);
  useEffect(() => {
    document.title = localized(config?.title) || t("title");
  });

  const props = { session, config };
  const screens = { home: HomeScreen, camera: CameraScreen, ask: AskScreen, answer: AnswerScreen };
  const shown = !config || away
    ? html`<main class="center"><${Moment} /></main>`
    : needsKey || setup
      ? html`<${OperatorScreen} session=${session} needed=${needsKey} onClose=${() => setSetup(false)} />`
      : html`<${screens[screen]} ...${props} />`;
  return html`
    <header class="top">
      <${Brand} config=${config} named=${screen !== "home"} onSetup=${() => setSetup(true)} />
      ${config && html`<${LanguageButtons} />`}
    </header>
    ${shown}
    ${left !== null && html`<${IdleWarning} left=${left} />`}
  `;
}

/**
 * Logo, and the title where it is not the heading. Pressed for three seconds, this corner opens the operator's settings.
 *
 * @param {{config: import("./config.js").Config | null, named: boolean, onSetup: () => void}} props
 */
function Brand({ config, named, onSetup }) {
  const timer = useRef(0);
  const release = () => clearTimeout(timer.current);
  const press = () => {
    release();
    timer.current = setTimeout(onSetup, SETUP_PRESS_MS);
  };
  const name = localized(config?.title);
  return html`<div class="brand" onPointerDown=${press} onPointerUp=${release} onPointerLeave=${release}
      onPointerCancel=${release}>
    ${config?.logo && html`<img src=${config.logo} alt=${name} />`}
    ${named && html`<span>${name || t("title")}</span>`}
  </div>`;
}

/** @param {boolean} checks @returns {boolean} Whether the service is away, while nobody waits for an answer. */
function useAway(checks) {
  const [away, setAway] = useState(false);
  useEffect(() => {
    if (!checks) return;
    const ended = new AbortController();
    void watch(ended.signal, setAway).catch(() => undefined);
    return () => {
      ended.abort();
      setAway(false);
    };
  }, [checks]);
  return away;
}

/**
 * @param {AbortSignal} signal
 * @param {(away: boolean) => void} tell
 */
async function watch(signal, tell) {
  for (;;) {
    if (!(await isReady(signal))) {
      tell(true);
      await untilReady(signal);
      tell(false);
    }
    await delay(CHECK_MS, signal);
  }
}
