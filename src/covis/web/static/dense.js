// Dense: places of one picture found in another, and a mask carried through frames.
import { ask, bring, counted, failure, h, pictureUrl, Refused, save, select, tell, upload } from "./dom.js";
import { Brush, colour } from "./brush.js";
import { show } from "./jobs.js";
import { Slot } from "./pictures.js";

const kept = { tab: 0, pictures: [null, null], model: null };
const OBJECTS = 4;

export async function page(place, job, signal) {
  const said = h("div", {}), body = h("div", {});
  const tabs = ["Places in two pictures", "A mask through frames"].map((name, n) =>
    h("button", { "aria-pressed": "false", onclick: () => open(n) }, name));
  place.append(h("h1", {}, "Dense features"),
    h("p", { class: "soft" }, "What is alike everywhere in two pictures, and what is drawn on one frame found in the next ones."),
    h("div", { class: "tabs" }, tabs), said, body);
  let options, asked = null;
  try {
    options = await ask("/api/dense/options", undefined, signal);
    if (job) asked = await ask(`/api/jobs/${encodeURIComponent(job)}`, undefined, signal);
  } catch (error) { tell(error, said); }
  if (!options) return;

  async function open(n, started) {
    kept.tab = n;
    tabs.forEach((tab, each) => tab.setAttribute("aria-pressed", String(each === n)));
    body.replaceChildren();
    await (n ? masks : places)(body, options, signal, started);
  }
  const kind = asked?.answer?.kind || (asked?.progress?.stage === "frames" ? "masks" : null);
  await open(kind === "masks" ? 1 : kind ? 0 : kept.tab, kind ? job : null);
}

function started(job) { history.replaceState(null, "", `#/dense/${job}`); }

/** Two pictures; a click on one shows where the same is in the other. */
async function places(place, options, signal, job) {
  const result = h("section", { "aria-label": "Places" });
  const go = h("button", { class: "main", onclick: () => start() }, "Compare");
  const model = select("Model", "model", options.models, kept.model, "What describes the pictures; auto takes an imported ViT if there is one");
  const ready = () => { kept.pictures = slots.map((slot) => slot.picture); go.disabled = kept.pictures.includes(null); };
  const slots = [0, 1].map((n) => new Slot(`Picture ${n}`, () => ready()));
  place.append(h("div", { class: "slots" }, slots.map((slot) => slot.element)), h("div", { class: "controls" }, model, go), result);
  slots.forEach((slot, n) => slot.set(kept.pictures[n], true));
  ready();
  if (job) await follow(job);

  async function start() {
    kept.model = model.querySelector("select").value;
    const [image0, image1] = slots.map((slot) => slot.picture.id);
    try {
      const { job: begun } = await ask("/api/dense/places", { image0, image1, model: kept.model });
      started(begun);
      await follow(begun);
    } catch (error) { result.replaceChildren(); tell(error, result); }
  }

  async function follow(name) {
    await show(name, result, { shown: (answer) => {
      answer.images.forEach((image, n) => slots[n].set({ id: image.id, name: image.name }, true));
      ready();
      result.replaceChildren(new Places(name, answer).element);
      bring(result);
    } }, signal);
  }
}

class Places {
  constructor(job, answer) {
    Object.assign(this, { job, answer, places: [...answer.places], chosen: answer.places.length - 1 });
    this.frames = answer.images.map((image, n) => {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
      const shown = h("img", { src: pictureUrl(image.id, 1600), alt: image.name, draggable: "false" });
      const heat = n ? h("img", { class: "heat", alt: "", hidden: true }) : null;
      const element = h("div", { class: "places-of", tabindex: n ? null : "0", role: n ? null : "application",
        "aria-label": n ? null : "Picture 0: click a place, or move the cross with arrows and press Enter" }, shown, heat, svg);
      return { element, svg, heat, image };
    });
    const [first, second] = this.frames;
    this.cross = { x: first.image.width / 2, y: first.image.height / 2, shown: false };
    first.element.addEventListener("click", (event) => {
      const box = first.svg.getBoundingClientRect();
      this.add((event.clientX - box.left) / box.width * first.image.width, (event.clientY - box.top) / box.height * first.image.height);
    });
    first.element.addEventListener("keydown", (event) => this.key(event));
    const blend = h("input", { type: "range", name: "heat", min: "0", max: "100", value: "80", oninput: () => { second.heat.style.opacity = String(Number(blend.value) / 100); } });
    second.heat.style.opacity = "0.8";
    this.list = h("ol", { class: "places" });
    this.said = h("div", {});
    this.element = h("div", {}, h("p", { class: "soft small" }, "Click a place in picture 0: the heat over picture 1 shows how alike each place is, the ring the best one."),
      h("div", { class: "two" }, first.element, second.element), h("div", { class: "controls" }, h("label", {}, "Heat", blend),
        h("button", { onclick: () => { this.places = []; this.chosen = -1; this.draw(); } }, "Clear")), this.said, this.list,
      h("p", { class: "soft small" }, `Model: ${answer.model}; licence: ${answer.licence}. The cosine says how alike two places are, 1 at most; the most alike one is shown whatever it is.`));
    this.draw();
  }

  async add(x, y) {
    this.said.replaceChildren();
    try {
      const found = await ask(`/api/dense/places/${this.job}`, { x, y, keep: true });
      this.places.push(found);
      this.chosen = this.places.length - 1;
      this.draw();
    } catch (error) { tell(error, this.said); }
  }

  key(event) {
    const { width, height } = this.frames[0].image, step = Math.max(width, height) / 60;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, move = moves[event.key];
    if (move) {
      this.cross.x = Math.min(width, Math.max(0, this.cross.x + move[0] * step));
      this.cross.y = Math.min(height, Math.max(0, this.cross.y + move[1] * step));
      this.cross.shown = true;
      this.draw();
    } else if (event.key === "Enter") this.add(this.cross.x, this.cross.y);
    else return;
    event.preventDefault();
  }

  draw() {
    this.frames.forEach(({ svg, image }, n) => {
      const size = Math.max(image.width, image.height) / 60;
      svg.replaceChildren();
      this.places.forEach((each, number) => {
        const [x, y] = n ? each.to : each.from;
        mark(svg, "circle", { cx: x, cy: y, r: size * (number === this.chosen ? 1 : 0.7), stroke: colour(number + 1) });
        mark(svg, "text", { x: x + size, y: y - size / 2, "font-size": 2.2 * size, fill: colour(number + 1) }, String(number + 1));
      });
      if (!n && this.cross.shown) mark(svg, "path", { d: `M${this.cross.x - size} ${this.cross.y}h${2 * size}M${this.cross.x} ${this.cross.y - size}v${2 * size}`, stroke: "#fff" });
    });
    this.list.replaceChildren(...this.places.map((each, number) => h("li", {},
      h("button", { class: "small", "aria-pressed": String(number === this.chosen), onclick: () => { this.chosen = number; this.draw(); } },
        `${each.from.join(", ")} → ${each.to.join(", ")}; cosine ${each.cosine.toFixed(3)}`))));
    const heat = this.frames[1].heat, now = this.places[this.chosen];
    heat.hidden = !now;
    if (now) {
      const wanted = `/api/dense/places/${this.job}/heat?x=${now.from[0]}&y=${now.from[1]}`;
      if (heat.getAttribute("src") !== wanted) heat.src = wanted;
    }
  }
}

function mark(svg, name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [each, value] of Object.entries(attributes)) made.setAttribute(each, value);
  if (text) made.textContent = text;
  svg.append(made);
}

/** A mask drawn on a frame, carried through those after it. */
async function masks(place, options, signal, job) {
  if (!options.clips.length && !job) {
    place.append(h("p", { class: "empty" }, "No folder with frames was given. Start covis with a folder of two or more pictures, or of videos: covis web ~/frames"));
    return;
  }
  const result = h("section", { "aria-label": "Masks" }), said = h("div", {});
  const clip = h("select", { name: "clip", onchange: () => frame() },
    options.clips.length > 1 ? h("option", { value: "", selected: true }, "choose ...") : null, options.clips.map((each) => h("option", { value: each.id }, each.name)));
  const start = h("input", { type: "number", name: "start", min: "0", value: "0", onchange: () => frame() });
  const model = select("Model", "model", options.models, "auto", "What tells the parts of a frame apart; auto takes the one that follows outlines best");
  const go = h("button", { class: "main", disabled: true, onclick: () => carry() }, "Carry through the frames");
  const brush = new Brush((some) => { go.disabled = !some; });
  const object = h("select", { name: "object", onchange: () => { brush.label = Number(object.value); } },
    [...Array(OBJECTS).keys()].map((n) => h("option", { value: n + 1 }, `object ${n + 1}`)), h("option", { value: 0 }, "eraser"));
  const size = h("input", { type: "range", name: "size", min: "1", max: "100", value: "30", oninput: () => { brush.radius = Number(size.value) / 1000; } });
  const tools = h("div", { class: "controls" }, h("label", {}, "Draw", object), h("label", {}, "Brush", size),
    h("button", { onclick: () => brush.undo() }, "Undo"), go);
  place.append(h("div", { class: "controls" }, h("label", {}, "Frames", clip), h("label", {}, "From frame", start), model),
    said, brush.element, tools, result);
  await frame();
  if (job) await follow(job);

  async function frame() {
    said.replaceChildren();
    brush.element.hidden = tools.hidden = !clip.value;
    if (!clip.value) {
      said.replaceChildren(h("p", { class: "empty" }, "Choose a folder of frames or a video above; then draw on its first frame."));
      return;
    }
    try {
      const found = await ask(`/api/dense/frame?clip=${clip.value}&start=${encodeURIComponent(start.value)}`, undefined, signal);
      await brush.show(found);
      said.replaceChildren(h("p", { class: "soft small", "data-frame": found.name }, `${found.name}${found.left ? `; ${counted(found.left, "frame")} from here on` : ""}. Draw over what is to be followed.`));
    } catch (error) { tell(error, said); }
  }

  async function carry() {
    go.disabled = true;
    try {
      const mask = await upload(await brush.file());
      const { job: begun } = await ask("/api/dense/masks", { clip: clip.value, start: Number(start.value), mask: mask.id, model: model.querySelector("select").value });
      started(begun);
      await follow(begun);
    } catch (error) {
      if (error.name !== "AbortError" && !(error instanceof Refused)) throw error;
      if (error instanceof Refused) result.replaceChildren(failure(error.message));
    } finally { go.disabled = false; }
  }

  async function follow(name) {
    const head = h("div", {}), viewer = new Viewer(name);
    result.replaceChildren(head, viewer.element);
    bring(result);
    await show(name, head, { partly: (answer) => viewer.show(answer, false), shown: (answer) => viewer.show(answer, true) }, signal);
  }
}

/** Frames with their masks, one at a time. */
class Viewer {
  constructor(job) {
    this.job = job;
    this.image = h("img", { class: "carried", alt: "A frame with its mask" });
    this.slider = h("input", { type: "range", name: "frame", min: "0", max: "0", value: "0", oninput: () => this.draw() });
    this.play = h("button", { onclick: () => this.run() }, "Play");
    this.words = h("span", { class: "small soft" });
    const get = h("button", { onclick: async () => {
      try {
        await save(`/api/dense/files/${this.job}`, "masks.zip");
        get.dataset.saved = "true";
      } catch (error) { tell(error, this.element); }
    } }, "Download the masks");
    this.element = h("div", { hidden: true }, this.image, h("div", { class: "controls" }, h("label", {}, "Frame", this.slider), this.play, get, this.words));
  }

  show(answer, all) {
    if (!answer.frames) return;
    this.element.hidden = false;
    const atEnd = this.slider.value === this.slider.max;
    this.slider.max = String(answer.frames - 1);
    if (atEnd && !all) this.slider.value = this.slider.max;
    this.total = answer.frames;
    this.element.dataset.frames = all ? String(answer.frames) : "";
    this.draw();
  }

  draw() {
    const wanted = `/api/dense/masks/${this.job}/${this.slider.value}`;
    if (this.image.getAttribute("src") !== wanted) this.image.src = wanted;
    this.words.textContent = `${Number(this.slider.value) + 1} of ${counted(this.total, "frame")}`;
  }

  async run() {
    this.playing = !this.playing;
    this.play.textContent = this.playing ? "Pause" : "Play";
    if (this.playing && this.slider.value === this.slider.max) this.slider.value = "0";
    while (this.playing && this.element.isConnected && this.slider.value !== this.slider.max) {
      this.slider.value = String(Number(this.slider.value) + 1);
      this.draw();
      await Promise.all([this.image.decode().catch(() => null), new Promise((done) => { setTimeout(done, 80); })]);
    }
    this.playing = false;
    this.play.textContent = "Play";
  }
}
