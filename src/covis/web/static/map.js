// Map: points and cameras in three dimensions, photos and what they share, another photo located.
import { ask, bring, bytes, counted, dialog, failure, h, pictureUrl, Refused, save, select, tell } from "./dom.js";
import { show } from "./jobs.js";
import { pair } from "./pair.js";
import { Slot } from "./pictures.js";
import { View3d } from "./view3d.js";

const kept = { map: null, model: 0 };
const FEW = 6; // Photos that share points, before more are asked for.

export async function page(place, job, signal) {
  const said = h("div", {});
  place.append(h("h1", {}, "See a map"),
    h("p", { class: "soft" }, "The points and the cameras of a map, what its photos share, and where another photo was taken."), said);
  let maps, problem, asked = null;
  try {
    ({ maps, problem } = await ask("/api/maps", undefined, signal));
    if (job) asked = await ask(`/api/jobs/${encodeURIComponent(job)}`, undefined, signal);
  } catch (error) { tell(error, said); }
  if (!maps) return;
  if (!maps.length) {
    place.append(h("p", { class: "empty" }, "No map was given. Make one of a folder of photos, and start covis with both: covis map ~/photos -o MODEL, then covis web MODEL ~/photos"));
    return;
  }
  if (problem) { said.append(failure(problem)); return; }
  if (asked?.answer?.map) Object.assign(kept, { map: asked.answer.map, model: asked.answer.model });
  if (!maps.some((each) => each.id === kept.map)) Object.assign(kept, { map: maps[0].id, model: 0 });
  const body = h("div", {});
  const choice = h("label", {}, "Map", h("select", { name: "map", onchange: (event) => { Object.assign(kept, { map: event.target.value, model: 0 }); again(); } },
    maps.map((each) => h("option", { value: each.id, selected: each.id === kept.map, title: each.uri }, each.name))));
  const bar = h("div", { class: "controls" });
  place.append(bar, body);
  let open = null;
  signal.addEventListener("abort", () => open?.close());

  async function again(started) {
    const map = maps.find((each) => each.id === kept.map), numbers = [...Array(Math.max(1, map.models)).keys()];
    bar.replaceChildren(choice, map.models < 2 ? "" : h("label", {}, "Model", h("select", { name: "model",
      onchange: (event) => { kept.model = Number(event.target.value); again(); } },
    numbers.map((n) => h("option", { value: n, selected: n === kept.model }, `${n + 1} of ${map.models}`)))));
    open?.close();
    open = null;
    body.replaceChildren(h("p", { class: "soft" }, "Reading the map ..."));
    try {
      const query = `?model=${kept.model}`, answer = await ask(`/api/maps/${map.id}${query}`, undefined, signal);
      const points = await bytes(`/api/maps/${map.id}/points${query}`, undefined, signal);
      open = new Shown(map, kept.model, answer, points, signal);
      body.replaceChildren(open.element);
      bar.append(...open.controls());
      if (started) open.follow(started);
    } catch (error) { body.replaceChildren(); tell(error, body); }
  }
  await again(job);
}

class Shown {
  constructor(map, model, answer, points, signal) {
    Object.assign(this, { map, model, answer, signal, cameras: answer.cameras });
    this.path = `/api/maps/${map.id}`;
    this.view = new View3d({
      picked: (number) => this.choose(number), hovered: (number) => this.hover(number),
      next: (step) => this.choose((Math.max(this.view.chosen, step > 0 ? -1 : 0) + step + this.cameras.length) % this.cameras.length),
    });
    this.told = h("div", { class: "told", hidden: true });
    this.aside = h("section", { class: "aside", "aria-label": "Photo" });
    this.located = h("section", { "aria-label": "Located", role: "status" });
    this.slot = new Slot("Locate another photo", (picture) => picture && this.locate(picture));
    this.stage = h("div", { class: "stage" }, this.view.gl ? this.view.canvas :
      h("p", { class: "empty" }, "This browser does not show WebGL, so the map cannot be turned here; its photos are in the list."), this.told);
    this.stage.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      if (event.dataTransfer.files[0]) this.slot.take(event.dataTransfer.files[0]);
    });
    const left = h("div", {}, this.stage, h("p", { class: "soft small" }, answer.shown < answer.points ?
      `${answer.shown.toLocaleString("en")} of ${counted(answer.points, "point")} are drawn. ` : "",
    "Drag to turn, with Shift or the right button to move; the wheel or two fingers zoom; click a camera for its photo."),
    this.unplaced(), h("h2", {}, "Where was another photo taken?"),
    answer.locates ? h("div", { class: "slots one" }, this.slot.element) :
      h("p", { class: "empty" }, "covis did not make this map, so it has no features to find places by; make them, keeping its poses: covis map PHOTOS -o NEW --model MODEL"),
    this.located);
    this.element = h("div", {}, h("p", { "data-map": "true" }, answer.text), answer.hidden ? failure(answer.hidden) : null,
      h("div", { class: "beside" }, left, this.aside));
    if (this.view.gl) this.view.load(points);
    this.view.photos = this.cameras.length <= 40;
    this.view.show(this.cameras);
    this.empty();
  }

  close() { this.view.close(); }

  controls() {
    const slider = (label, name, value, set) => h("label", {}, label, h("input", { type: "range", name, min: "0", max: "100", value,
      oninput: (event) => { set(Number(event.target.value) / 100); this.view.draw(); } }));
    const photos = h("input", { type: "checkbox", checked: this.view.photos, onchange: () => { this.view.photos = photos.checked; this.view.draw(); } });
    const kind = select("Export", "export", this.answer.exports, "ply", "ply: points; text, binary: COLMAP's files; nerfstudio: transforms.json, which expects the photos in images/ beside it");
    const get = h("button", { onclick: async () => {
      const wanted = kind.querySelector("select").value, name = wanted === "ply" ? "points.ply" : `covis-map-${wanted}.zip`;
      try {
        await save(`${this.path}/export/${wanted}?model=${this.model}`, name);
        get.dataset.saved = wanted;
      } catch (error) { tell(error, this.aside); }
    } }, "Download");
    return [slider("Points", "points", "30", (part) => { this.view.size = 10 * part; }),
      slider("Cameras", "cameras", "40", (part) => { this.view.reach = 0.2 * part; }),
      h("label", { class: "inline" }, photos, "photos"), h("button", { onclick: () => this.view.whole() }, "Show all"), kind, get];
  }

  hover(number) {
    this.told.hidden = number < 0;
    if (number >= 0) this.told.textContent = this.view.cameras[number].name;
  }

  empty() {
    this.aside.replaceChildren(this.list(), h("p", { class: "soft" }, "Click a camera, or choose a photo here, to see it and what it shares with others."));
  }

  list() {
    return h("label", {}, "Photo", h("select", { name: "photo", onchange: (event) => this.choose(Number(event.target.value)) },
      this.view.chosen < 0 ? h("option", { value: "-1", selected: true }, "none chosen") : null,
      this.cameras.map((camera, number) => h("option", { value: number, selected: number === this.view.chosen }, camera.name))));
  }

  async choose(number) {
    const camera = this.cameras[number];
    if (!camera) return;  // The located photo has its own place below.
    this.view.chosen = number;
    this.view.draw();
    const asked = this.asked = {};
    let answer;
    try {
      answer = await ask(`${this.path}/photos/${camera.photo}?model=${this.model}`, undefined, this.signal);
    } catch (error) { tell(error, this.aside); return; }
    if (asked !== this.asked) return;  // Another one was chosen meanwhile.
    this.view.lit = new Set(answer.partners.map((each) => each.photo));
    this.view.draw();
    const partners = h("div", { class: "thumbs" });
    const more = h("button", { class: "small", onclick: () => fill(answer.partners.length) }, "More");
    const fill = (most) => {
      partners.replaceChildren(...answer.partners.slice(0, most).map((each) => this.thumb(each, `${counted(each.points, "point")}`, () => this.pair(camera, each))));
      more.hidden = most >= answer.partners.length;
    };
    fill(FEW);
    const alone = this.cameras.length - 1 - answer.others;
    this.aside.replaceChildren(this.list(), camera.image ? h("img", { class: "photo", src: pictureUrl(camera.image, 1600), alt: camera.name }) : "",
      h("p", { class: "small", "data-photo": camera.name }, `${answer.name}: ${counted(answer.points, "point")}. `, answer.lines.join(" ")),
      h("div", { class: "row" }, h("button", { class: "small", onclick: () => this.choose((number + this.cameras.length - 1) % this.cameras.length) }, "Previous"),
        h("button", { class: "small", onclick: () => this.choose((number + 1) % this.cameras.length) }, "Next"),
        h("button", { class: "small", onclick: () => this.view.from(number) }, "See from there")),
      h("h2", {}, `Shares points with ${counted(answer.others, "photo")}`), partners, more,
      alone ? h("p", { class: "soft small" }, `${counted(alone, "other photo shares", "other photos share")} none with it.`) : "");
  }

  thumb(each, words, onclick) {
    const image = this.cameras.find((camera) => camera.photo === each.photo)?.image;
    return h("button", { title: each.name, onclick }, image ? h("img", { src: pictureUrl(image, 320), alt: "", loading: "lazy" }) : null, `${each.name}: ${words}`);
  }

  /** The points that two photos see, in the viewer for pairs. */
  async pair(camera, other) {
    const body = h("div", {}, h("p", { class: "soft" }, "Reading ..."));
    dialog(`${camera.name} and ${other.name}`, body);
    try {
      const answer = await ask(`${this.path}/pairs/${camera.photo}/${other.photo}?model=${this.model}`, undefined, this.signal);
      body.replaceChildren(h("p", {}, `${counted(answer.matches, "point")} of the map that both see.`), pair(answer));
    } catch (error) { body.replaceChildren(); tell(error, body); }
  }

  unplaced() {
    const { unplaced, without, advice } = this.answer;
    if (!without) return h("p", { class: "soft small" }, "All photos have a place in this model.");
    return h("details", { "data-unplaced": String(without) }, h("summary", {}, `${counted(without, "photo has", "photos have")} no place: why`),
      advice.map((line) => h("p", {}, line)),
      h("ul", { class: "plain pictures" }, unplaced.map((each) => h("li", {},
        each.image ? h("img", { src: pictureUrl(each.image, 320), alt: "", loading: "lazy" }) : null, h("span", {}, h("b", {}, each.name), `: ${each.why}`)))),
      without > unplaced.length ? h("p", { class: "soft small" }, `And ${counted(without - unplaced.length, "more")}.`) : null);
  }

  async locate(picture) {
    try {
      const { job } = await ask(`${this.path}/locate`, { image: picture.id, model: this.model });
      history.replaceState(null, "", `#/map/${job}`);
      await this.follow(job);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.located.replaceChildren(failure(error.message));
    }
  }

  async follow(job) {
    bring(this.located);
    await show(job, this.located, { shown: (answer) => this.place(answer) }, this.signal);
  }

  /** What was found of the located photo: its camera in red, with an ellipsoid of how sure that is. */
  place(answer) {
    if (answer.map !== this.map.id || answer.model !== this.model) {
      location.reload();  // It was asked of another map, which is now known.
      return;
    }
    this.slot.set(answer.query, true);
    const { camera, spread, query, partners } = answer;
    const cameras = camera ? [...this.cameras, { ...camera, image: query.id, name: query.name, kind: "query" }] : this.cameras;
    const axes = spread ? [0, 3, 6].map((k) => spread.slice(k, k + 3)) : null;
    this.view.show(cameras, axes ? [[0, 1], [0, 2], [1, 2]].map(([a, b]) => [camera.eye, axes[a], axes[b]]) : []);
    const see = h("button", { class: "small", onclick: () => { this.view.from(cameras.length - 1); this.stage.scrollIntoView({ block: "center" }); } }, "See from there");
    this.located.replaceChildren(h("div", { class: "verdict", "data-located": String(answer.located) },
      h("b", { class: answer.located ? "same" : "unsure" }, answer.located ? "Found" : "Cannot say"),
      answer.located ? h("span", {}, `confidence ${answer.confidence.toFixed(3)}`) : null, camera ? see : null),
    ...answer.lines.map((line) => h("p", { class: "small" }, line)),
    partners.length && camera ? h("div", { class: "thumbs" }, partners.slice(0, FEW).map((each) => this.thumb(each, `${counted(each.points, "inlier")}`,
      () => { this.choose(this.cameras.findIndex((one) => one.photo === each.photo)); this.stage.scrollIntoView({ block: "center" }); }))) : "");
  }
}
