// A place for a picture: dropped, chosen from a dialog, pasted, or picked from what was given.
import { ask, dialog, failure, h, note, pictureUrl, Refused, tell, upload } from "./dom.js";

const slots = new Set();
const BY_KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 0.02; // Of a side, by which a key moves a box.
const LEAST = 0.02; // Of a side: a smaller box is a slip of the hand.

/** A box in parts of the sides, moved by a key, or its lower right corner. */
function stepped([x, y, w, t], [across, down], resized) {
  const within = (value, least, most) => Math.min(most, Math.max(least, value));
  if (resized) return [x, y, within(w + across * STEP, STEP, 1 - x), within(t + down * STEP, STEP, 1 - y)];
  return [within(x + across * STEP, 0, 1 - w), within(y + down * STEP, 0, 1 - t), w, t];
}

/** A slot. `changed` is called with {id, name} or null. `drawable`: a box can be drawn on it. */
export class Slot {
  constructor(label, changed, { drawable = false } = {}) {
    this.label = label;
    this.changed = changed;
    this.drawable = drawable;
    this.picture = null;
    this.region = null;
    this.element = h("div", { class: "slot", role: "group", "aria-label": label });
    this.input = h("input", { type: "file", accept: "image/*,.heic,.heif,.tif,.tiff", hidden: true,
      onchange: () => { if (this.input.files[0]) this.take(this.input.files[0]); this.input.value = ""; } });
    this.element.addEventListener("dragover", (event) => { event.preventDefault(); this.element.classList.add("over"); });
    this.element.addEventListener("dragleave", () => this.element.classList.remove("over"));
    this.element.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      this.element.classList.remove("over");
      given(event.dataTransfer, this);
    });
    slots.add(this);
    this.render();
  }

  async take(file) {
    this.element.replaceChildren(h("p", { class: "soft" }, `Reading ${file.name || "the picture"} ...`));
    try {
      this.set(await upload(file));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.set(null);
      this.element.append(failure(error.message));
    }
  }

  set(picture, quiet = false) {
    this.picture = picture;
    this.region = null;
    this.render();
    if (!quiet) this.changed(picture);
  }

  render() {
    const choose = h("button", { class: "small", onclick: () => this.input.click() }, "Choose a file");
    const pick = h("button", { class: "small", onclick: () => this.pick() }, "From your folders");
    this.element.classList.toggle("full", !!this.picture);
    if (!this.picture) {
      this.element.replaceChildren(h("b", {}, this.label),
        h("span", { class: "soft small" }, "Drop a picture here, paste one, or"),
        h("div", { class: "row" }, choose, pick), this.input);
      return;
    }
    const image = h("img", { src: pictureUrl(this.picture.id, this.drawable ? 1600 : 320), alt: this.picture.name, draggable: "false" });
    image.addEventListener("error", () => this.element.append(failure(`${this.picture?.name}: cannot be shown.`)), { once: true });
    const frame = this.drawable ? h("div", { class: "picture drawable", tabindex: "0", role: "application", "aria-label": `${this.picture.name}: draw a box for the part that counts; with keys Enter makes one, arrows move it, with Shift they change its size, Escape removes it` }, image) :
      h("div", { class: "picture" }, image);
    if (this.drawable) this.boxes(frame, image);
    this.element.replaceChildren(frame, h("span", { class: "name-of" }, this.picture.name),
      h("div", { class: "row" }, choose, pick,
        h("button", { class: "small", onclick: () => this.set(null) }, "Clear")), this.input);
  }

  /** Let a box be drawn with the mouse or a finger: the part that counts, in parts of the sides. */
  boxes(frame, image) {
    const mark = h("div", { class: "marked", hidden: true });
    let start = null;
    const at = (event) => {
      const box = image.getBoundingClientRect();
      const inside = (value) => Math.min(1, Math.max(0, value));
      return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
    };
    const draw = () => {
      mark.hidden = !this.region;
      if (!this.region) return;
      const [x, y, w, t] = this.region;
      Object.assign(mark.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * w}%`, height: `${100 * t}%` });
    };
    frame.addEventListener("pointerdown", (event) => { start = at(event); frame.setPointerCapture(event.pointerId); event.preventDefault(); });
    frame.addEventListener("pointermove", (event) => {
      if (!start) return;
      const end = at(event);
      this.region = [Math.min(start[0], end[0]), Math.min(start[1], end[1]), Math.abs(end[0] - start[0]), Math.abs(end[1] - start[1])];
      draw();
    });
    frame.addEventListener("pointerup", () => {
      start = null;
      const small = !!this.region && (this.region[2] < LEAST || this.region[3] < LEAST);
      if (small) this.region = null;
      draw();
      this.drawn?.(this.region, small);
    });
    frame.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !this.region) this.region = [0.25, 0.25, 0.5, 0.5];
      else if (event.key === "Escape" && this.region) this.region = null;
      else if (this.region && BY_KEYS[event.key]) this.region = stepped(this.region, BY_KEYS[event.key], event.shiftKey);
      else return;
      event.preventDefault();
      draw();
      this.drawn?.(this.region);
    });
    this.clearRegion = () => { this.region = null; draw(); this.drawn?.(null); };
    frame.append(mark);
    this.showRegion = (region) => { this.region = region; draw(); };
  }

  /** Pick from the folders and stores that covis web was given. */
  async pick() {
    const body = h("div", {});
    const shown = dialog(this.label, body);
    const done = (picture) => { shown.close(); this.set(picture); };
    try {
      const { sources } = await ask("/api/sources");
      const some = sources.filter((source) => source.made);
      if (!some.length) {
        body.append(h("p", { class: "empty" }, "No folder was given. Start covis with one: covis web ~/photos"));
        return;
      }
      const list = h("div", {});
      const choice = h("select", { "aria-label": "Folder or store", onchange: () => thumbs(choice.value, list, done) },
        some.map((source) => h("option", { value: source.id }, `${source.name} (${source.kind})`)));
      body.append(choice, list);
      await thumbs(choice.value, list, done);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      body.append(failure(error.message));
    }
  }
}

async function thumbs(source, place, done) {
  const grid = h("div", { class: "thumbs" });
  const more = h("button", {}, "More");
  let start = 0;
  const next = async () => {
    let pictures, total;
    try {
      ({ pictures, total } = await ask(`/api/pictures?source=${source}&start=${start}`));
    } catch (error) { tell(error, place); return; }
    grid.append(...pictures.map((each) => h("button", { title: each.path, onclick: () => done(each) },
      h("img", { src: pictureUrl(each.id, 320), alt: "", loading: "lazy" }), each.name)));
    start += 60;
    more.hidden = start >= total;
    if (!total) grid.replaceWith(h("p", { class: "empty" }, "There are no pictures in it."));
  };
  more.addEventListener("click", next);
  place.replaceChildren(grid, more);
  await next();
}

/** Files of a drop or a paste: the first into `slot`, a second into the other one. */
function given(data, slot) {
  const files = [...data.files];
  if (!files.length) return false;
  slot.take(files[0]);
  const other = [...slots].find((each) => each !== slot && each.element.isConnected);
  if (files[1] && other) other.take(files[1]);
  else if (files.length > 1) note("Only the first picture was taken.");
  return true;
}

function next() {
  const there = [...slots].filter((slot) => slot.element.isConnected);
  return there.find((slot) => !slot.picture) || there[0];
}

export function forget() { slots.clear(); }

document.addEventListener("paste", (event) => {
  const slot = next();
  if (slot && given(event.clipboardData, slot)) event.preventDefault();
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const slot = next();
  if (slot) given(event.dataTransfer, slot);
});
