// A mask of a picture, drawn with a round brush: one label of each object a pixel, 0 for none.
import { h, pictureUrl } from "./dom.js";

const UNDONE = 10; // Strokes that can be taken back.

/** The colour of a label, as covis draws it. */
export const colour = (label) => [15 + 137.508 * (label - 1)].map((hue) => `hsl(${hue % 360} 100% 62.5%)`)[0];

export class Brush {
  /** `changed` is called after each stroke with whether anything is drawn. */
  constructor(changed) {
    this.changed = changed;
    this.label = 1;
    this.radius = 0.03; // Of the picture's longer side.
    this.before = [];
    this.canvas = h("canvas", { class: "brush", tabindex: "0", role: "application",
      "aria-label": "The frame: draw the mask with mouse or finger; with keys arrows move the brush, space draws, Ctrl Z takes a stroke back" });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.element = h("div", { class: "stage" }, this.canvas);
    this.at = null;
    const listen = (name, does) => this.canvas.addEventListener(name, does, { passive: false });
    listen("pointerdown", (event) => { event.preventDefault(); this.canvas.focus({ preventScroll: true }); this.canvas.setPointerCapture(event.pointerId); this.begin(); this.at = this.place(event); this.line(this.at, this.at); });
    listen("pointermove", (event) => { const now = this.place(event); if (this.drawing) this.line(this.at, now); this.at = now; this.draw(); });
    for (const name of ["pointerup", "pointercancel"]) listen(name, () => this.end());
    listen("pointerleave", () => { if (!this.drawing) { this.at = null; this.draw(); } });
    listen("keydown", (event) => this.key(event));
  }

  /** Show a picture {id}; what was drawn goes. */
  async show(picture) {
    const image = new Image();
    image.src = pictureUrl(picture.id, 1600);
    await image.decode();
    this.image = image;
    Object.assign(this.canvas, { width: image.naturalWidth, height: image.naturalHeight });
    this.labels = new Uint8Array(this.canvas.width * this.canvas.height);
    this.tint = new ImageData(this.canvas.width, this.canvas.height);
    this.layer = h("canvas", { width: this.canvas.width, height: this.canvas.height });
    this.before = [];
    this.draw();
    this.changed(false);
  }

  get size() { return Math.max(1, this.radius * Math.max(this.canvas.width, this.canvas.height)); }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width * this.canvas.width, y: (event.clientY - box.top) / box.height * this.canvas.height };
  }

  begin() {
    if (!this.labels) return;
    this.drawing = true;
    this.before.push(this.labels.slice());
    if (this.before.length > UNDONE) this.before.shift();
  }

  end() {
    if (!this.drawing) return;
    this.drawing = false;
    this.changed(this.labels.some((label) => label));
  }

  line(from, to) {
    if (!this.labels) return;
    const steps = Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / (this.size / 3)) || 1;
    for (let k = 0; k <= steps; k++) this.stamp(from.x + (to.x - from.x) * k / steps, from.y + (to.y - from.y) * k / steps);
    this.draw();
  }

  stamp(x, y) {
    const r = this.size, { width, height } = this.canvas;
    const left = Math.max(0, Math.floor(x - r)), right = Math.min(width - 1, Math.ceil(x + r));
    const top = Math.max(0, Math.floor(y - r)), bottom = Math.min(height - 1, Math.ceil(y + r));
    for (let row = top; row <= bottom; row++) for (let column = left; column <= right; column++) {
      if ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= r * r) this.labels[row * width + column] = this.label;
    }
    this.paint(left, top, right - left + 1, bottom - top + 1);
  }

  /** Bring a part of the tint up to the labels. */
  paint(left, top, width, height) {
    if (width < 1 || height < 1) return;
    const whole = this.canvas.width, data = this.tint.data;
    for (let row = top; row < top + height; row++) for (let column = left; column < left + width; column++) {
      const at = row * whole + column, label = this.labels[at];
      data.set(label ? [...rgb(label), 140] : [0, 0, 0, 0], 4 * at);
    }
    this.layer.getContext("2d").putImageData(this.tint, 0, 0, left, top, width, height);
  }

  undo() {
    if (!this.before.length) return;
    this.labels = this.before.pop();
    this.paint(0, 0, this.canvas.width, this.canvas.height);
    this.draw();
    this.changed(this.labels.some((label) => label));
  }

  draw() {
    if (this.pending || !this.image) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      const c = this.context;
      c.drawImage(this.image, 0, 0, this.canvas.width, this.canvas.height);
      c.drawImage(this.layer, 0, 0);
      if (!this.at) return;
      for (const [width, tint] of [[4, "#000"], [2, this.label ? colour(this.label) : "#fff"]]) {
        c.lineWidth = width;
        c.strokeStyle = tint;
        c.beginPath();
        c.arc(this.at.x, this.at.y, this.size, 0, 7);
        c.stroke();
      }
    });
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, move = moves[event.key];
    if ((event.ctrlKey || event.metaKey) && event.key === "z") this.undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (move) {
      this.at ||= { x: this.canvas.width / 2, y: this.canvas.height / 2 };
      const inside = (value, most) => Math.min(most, Math.max(0, value));
      this.at = { x: inside(this.at.x + move[0] * this.size, this.canvas.width), y: inside(this.at.y + move[1] * this.size, this.canvas.height) };
      this.draw();
    } else if (event.key === " " && this.at) { this.begin(); this.line(this.at, this.at); this.end(); } else return;
    event.preventDefault();
  }

  /** The labels as a file: a PNG whose greys are the labels. */
  async file() {
    const { width, height } = this.canvas, made = h("canvas", { width, height }), data = new ImageData(width, height);
    this.labels.forEach((label, at) => data.data.set([label, label, label, 255], 4 * at));
    made.getContext("2d").putImageData(data, 0, 0);
    const blob = await new Promise((done) => made.toBlob(done, "image/png"));
    return new File([blob], "mask.png");
  }
}

const known = {};
function rgb(label) {
  if (!known[label]) {
    const hue = (15 + 137.508 * (label - 1)) % 360;
    known[label] = [5, 3, 1].map((n) => {
      const k = (n + hue / 60) % 6;
      return Math.round(255 * (1 - 0.75 * Math.max(0, Math.min(k, 4 - k, 1))));
    });
  }
  return known[label];
}
