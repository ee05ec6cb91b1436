// What waits for the next person.

import { localized } from "./config.js";
import { translator } from "../i18n/index.js";
import messages from "../i18n/kiosk.js";
import { html, useEffect, useState } from "../vendor/preact.js";
import { FileButton } from "./file_button.js";
import { Heading } from "./focus.js";
import { Icon } from "../app/icons.js";
import { fillScreen } from "./screen.js";

const t = translator(messages);

/** @param {{session: import("./session.js").Session, config: import("./config.js").Config}} props */
export function HomeScreen({ session, config }) {
  const hasCamera = useCamera();
  const { problem } = session.state;
  const photograph = () => {
    void fillScreen();
    session.update({ screen: "camera", problem: null });
  };
  return html`<main class="home">
    <${Heading}>${localized(config.title) || t("title")}<//>
    ${problem && html`<p class="problem" role="alert">${t(problem)}</p>`}
    <div class="choices">
      ${hasCamera && html`<button type="button" class="huge primary" onClick=${photograph}>
        <${Icon} name="camera" />${t("photograph")}
      </button>`}
      <${FileButton} session=${session} primary=${!hasCamera} />
    </div>
    <ol class="steps">
      <li><${Icon} name="camera" /><span>${t("stepPicture")}</span></li>
      <li><${Icon} name="help" /><span>${t("stepQuestion")}</span></li>
      <li><${Icon} name="chat" /><span>${t("stepAnswer")}</span></li>
    </ol>
    <p class="privacy">${t("privacy")}</p>
  </main>`;
}

/** @returns {boolean} Whether a camera can be used: there is one, and the page may (HTTPS or loopback). */
function useCamera() {
  const [has, setHas] = useState("mediaDevices" in navigator); // until it is known
  useEffect(() => {
    const devices = /** @type {MediaDevices | undefined} */ (navigator.mediaDevices);
    if (!devices) return;
    const look = async () => setHas((await devices.enumerateDevices()).some(({ kind }) => kind === "videoinput"));
    void look();
    devices.addEventListener("devicechange", look);
    return () => devices.removeEventListener("devicechange", look);
  }, []);
  return has;
}
