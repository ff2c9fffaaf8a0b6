// Match: two pictures in; lines, a verdict, and one laid onto the other out.
import { ask, bring, counted, failure, h, pictureUrl, Refused, select } from "./dom.js";
import { show } from "./jobs.js";
import { pair } from "./pair.js";
import { Slot } from "./pictures.js";

const kept = { pictures: [null, null], options: null };

export async function page(place, job, signal) {
  const result = h("section", { "aria-label": "Result" });
  const go = h("button", { class: "main", onclick: () => start() }, "Match");
  const ready = () => {
    kept.pictures = slots.map((slot) => slot.picture);
    go.disabled = kept.pictures.includes(null);
    demo.hidden = !kept.pictures.every((each) => each === null);
  };
  const slots = [0, 1].map((n) => new Slot(`Picture ${n}`, (picture) => {
    ready();
    if (picture && !go.disabled) go.focus();
  }));
  const demo = h("p", {}, h("button", { onclick: () => offer() }, "Try the demo pair"),
    h("span", { class: "soft small" }, "  two views of a street corner, in morning and in evening light"));
  const controls = h("form", { class: "controls", onsubmit: (event) => event.preventDefault() });
  place.append(h("h1", {}, "Match two pictures"),
    h("p", { class: "soft" }, "The points that both show, and whether they show the same."),
    h("div", { class: "slots" }, slots.map((slot) => slot.element)), demo, controls, result);
  slots.forEach((slot, n) => slot.set(kept.pictures[n], true));
  ready();

  async function offer() {
    demo.firstChild.disabled = true;
    try {
      const pictures = await ask("/api/demo", {});
      pictures.forEach((picture, n) => slots[n].set(picture, true));
      ready();
      await start();
    } catch (error) { told(error); } finally { demo.firstChild.disabled = false; }
  }

  function told(error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    result.replaceChildren(failure(error.message));
  }

  async function start() {
    kept.options = Object.fromEntries(new FormData(controls));
    const [image0, image1] = slots.map((slot) => slot.picture.id);
    try {
      const { job: started } = await ask("/api/match", { ...kept.options, image0, image1 });
      history.replaceState(null, "", `#/match/${started}`);
      bring(result);
      await follow(started);
    } catch (error) { told(error); }
  }

  async function follow(name) {
    go.disabled = true;
    await show(name, result, { shown: (answer) => {
      answer.images.forEach((image, n) => slots[n].set({ id: image.id, name: image.name }, true));
      // A page that was loaded again shows what it was asked.
      for (const [control, value] of Object.entries(answer.options)) controls.elements[control].value = value;
      ready();
      result.replaceChildren(shown(name, answer));
      bring(result);
    } }, signal);
    ready();
  }

  try {
    const offered = await ask("/api/options", undefined, signal);
    const named = (name, label, title) => select(label, name, offered[name], kept.options?.[name], title);
    controls.append(named("effort", "Effort", "fast: one attempt; auto: others where that is not sure; thorough: also the best weights that were imported"),
      named("features", "Features", "What finds the points; auto leaves it to the effort"),
      named("matcher", "Matcher", "auto leaves it to the effort; another is used alone"),
      named("geometry", "Geometry", "homography: a plane; fundamental: any scene; essential: any scene, gives the relative pose"),
      named("rotate", "Turn", "auto also tries picture 1 on its side and upside down"),
      h("label", {}, "Keypoints", h("input", { type: "number", name: "max_keypoints", min: "1", max: "20000", value: kept.options?.max_keypoints || offered.max_keypoints })),
      go);
    if (job === "demo") await offer();
    else if (job) await follow(job);
    else if (!kept.pictures[0]) await preset();
  } catch (error) { told(error); }

  /** Pictures that were named on the command line. */
  async function preset() {
    const { sources } = await ask("/api/sources", undefined, signal);
    const named = sources.filter((source) => source.kind === "picture").slice(0, 2);
    for (const [n, source] of named.entries()) {
      const { pictures } = await ask(`/api/pictures?source=${source.id}`, undefined, signal);
      if (pictures[0]) slots[n].set(pictures[0], true);
    }
    ready();
  }
}

const WORDS = { same: "The same", different: "Different", unsure: "Unsure" };

/** A verdict in words, with its probability. */
export function verdict(answer) {
  const label = answer.verdict;
  return h("div", { class: "verdict" },
    label ? h("b", { class: label, "data-verdict": label }, WORDS[label]) : h("b", {}, "No verdict"),
    label ? h("span", {}, `probability of the same ${answer.probability.toFixed(3)}`) : null,
    h("span", {}, counted(answer.matches, "match", "matches") +
      (answer.inliers === null ? "" : `, ${answer.inliers.toLocaleString("en")} agree`)),
    answer.seconds ? h("span", { class: "soft" }, `${answer.seconds.toFixed(1)} s`) : null);
}

function shown(job, answer) {
  const body = h("div", {});
  const views = { "Lines": () => pair(answer), "Laid onto each other": () => laid(job, answer) };
  const tabs = Object.entries(views).map(([name, make]) => h("button", { "aria-pressed": "false", onclick: (event) => {
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab === event.currentTarget)));
    body.replaceChildren(make());
  } }, name));
  const file = (name, words) => h("a", { class: "button small", href: `/api/match/${job}/${name}`, download: name }, words);
  const made = h("div", {}, verdict(answer), h("div", { class: "row views" }, h("div", { class: "tabs grow" }, tabs),
    h("div", { class: "row" }, file("drawing.png", "Drawing"), file("matches.json", "JSON"), file("warped.png", "Warped picture"))),
    body, h("details", {}, h("summary", {}, "What was done"), answer.lines.map((line) => h("p", { class: "small" }, line))));
  tabs[0].click();
  return made;
}

/** Picture 1 on picture 0, uncovered by a swipe, or blended. */
function laid(job, answer) {
  const place = h("div", {}, h("p", { class: "soft" }, "Aligning ..."));
  ask(`/api/match/${job}/alignment`).then(({ text }) => {
    const below = h("img", { src: pictureUrl(answer.images[0].id, 1600), alt: answer.images[0].name });
    const above = h("img", { class: "top", src: `/api/match/${job}/overlay`, alt: `${answer.images[1].name}, warped` });
    const edge = h("div", { class: "edge" });
    const swipe = h("input", { type: "range", min: "0", max: "100", value: "50", oninput: () => draw() });
    const blend = h("input", { type: "range", min: "0", max: "100", value: "100", oninput: () => draw() });
    const draw = () => {
      above.style.clipPath = `inset(0 0 0 ${100 - Number(swipe.value)}%)`;
      edge.style.left = `${100 - Number(swipe.value)}%`;
      above.style.opacity = String(Number(blend.value) / 100);
    };
    const frame = h("div", { class: "laid" }, below, above, edge);
    // All of it is seen at once, with the sliders below.
    frame.style.maxWidth = `calc(70vh * ${answer.images[0].width / answer.images[0].height})`;
    const to = (event) => {
      const box = frame.getBoundingClientRect();
      swipe.value = String(100 - 100 * (event.clientX - box.left) / box.width);
      draw();
    };
    frame.addEventListener("pointerdown", to);
    frame.addEventListener("pointermove", (event) => { if (event.buttons) { event.preventDefault(); to(event); } });
    place.replaceChildren(frame, h("div", { class: "controls" }, h("label", {}, "Swipe", swipe), h("label", {}, "Blend", blend)),
      h("p", { class: "small" }, text));
    draw();
  }, (error) => place.replaceChildren(failure(error.message)));
  return place;
}
