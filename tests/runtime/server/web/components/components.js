// A page with one viewer and one answer, whose properties tests set: `show({viewer, answer})`.

import { html, render } from "/web/vendor/preact.js";
import { setLanguage } from "/web/i18n/index.js";
import { AnswerView } from "/web/answer/answer_view.js";
import { heatOf } from "/web/viewer/heat_map.js";
import { ImageViewer } from "/web/viewer/image_viewer.js";

const state = { viewer: null, answer: null, activeMark: null, tokens: null };
const main = document.createElement("main");
document.body.append(main);
window.events = [];

function draw() {
  const { viewer, answer, activeMark, tokens } = state;
  const onActiveMark = (index) => change("activeMark", index);
  const heat = viewer?.heatmap ? heatOf({ heatmap: viewer.heatmap }, tokens) : null;
  render(
    html`
      <h1 class="visually-hidden">Components</h1>
      ${viewer &&
      html`<div class="stage">
        <${ImageViewer} ...${viewer} heat=${heat} activeMark=${activeMark} onActiveMark=${onActiveMark}
          onRegion=${viewer.focus ? (region) => change("region", region) : undefined} />
      </div>`}
      ${answer &&
      html`<div class="reading">
        <${AnswerView} ...${answer} activeMark=${activeMark} onActiveMark=${onActiveMark} activeTokens=${tokens}
          onToken=${answer.tokens ? (range) => change("tokens", range) : undefined} />
      </div>`}
    `,
    main,
  );
}

function change(name, value) {
  window.events.push([name, value]);
  if (name === "region") state.viewer = { ...state.viewer, region: value };
  else state[name] = value;
  draw();
}

window.state = state;
window.show = (changes) => {
  Object.assign(state, changes);
  draw();
};
window.reset = (language) => {
  window.show({ viewer: null, answer: null });
  window.show({ activeMark: null, tokens: null }); // what lost the focus or the pointer has changed them
  window.events = [];
  document.body.removeAttribute("style");
  scrollTo(0, 0);
  setLanguage(language, { remember: false });
};
document.documentElement.dataset.ready = "true";
