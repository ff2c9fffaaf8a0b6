// Two pictures side by side and the lines between what matches, zoomed and moved together.
import { counted, h, pictureUrl } from "./dom.js";

const GAP = 8;
const NEAR = 14; // Screen pixels from a point within which it is hovered.

/** What `answer` (of /api/match or a hit) says, as an element. */
export function pair(answer) {
  return new Pair(answer).element;
}

class Pair {
  constructor(answer) {
    this.answer = answer;
    this.order = [...answer.scores.keys()];
    this.colour = answer.inliers === null ? "score" : "inlier";
    this.outliers = answer.inliers === null;
    this.most = 200;
    this.hovered = -1;
    this.view = { scale: 1, x: 0, y: 0 };
    this.pointers = new Map();
    this.build();
    this.pictures = answer.images.map((image) => {
      const made = new Image();
      made.onload = () => this.draw();
      made.src = pictureUrl(image.id, 1600);
      return made;
    });
    new ResizeObserver(() => this.layout()).observe(this.stage);
  }

  build() {
    this.canvas = h("canvas", { tabindex: "0", role: "img", "aria-label": "Both pictures and what matches: arrows move, + and - zoom, 0 shows all" });
    this.told = h("div", { class: "told", hidden: true });
    this.stage = h("div", { class: "stage" }, this.canvas, this.told);
    this.count = h("span", { class: "small soft" });
    const slider = h("input", { type: "range", min: "0", max: "100", value: "50", "aria-label": "How many lines are drawn" });
    slider.value = String(this.position());
    slider.addEventListener("input", () => { this.most = this.amount(Number(slider.value)); this.draw(); });
    const colours = [["inlier", "agreeing or not"], ["score", this.answer.told ? "error" : "score"], ["place", "place"]];
    const colour = h("select", { onchange: () => { this.colour = colour.value; this.draw(); } },
      colours.slice(this.answer.told ? 1 : 0).map(([value, words]) =>
        h("option", { value, selected: value === this.colour }, words)));
    const outliers = h("input", { type: "checkbox", checked: this.outliers, onchange: () => { this.outliers = outliers.checked; this.draw(); } });
    const zoom = (factor) => h("button", { class: "small", title: factor > 1 ? "Larger (+)" : "Smaller (-)",
      onclick: () => this.zoom(factor) }, factor > 1 ? "+" : "−");
    this.element = h("div", {}, this.stage, h("div", { class: "controls" },
      h("label", {}, "Lines", slider), h("label", {}, "Coloured by", colour),
      this.answer.inliers === null ? null : h("label", { class: "inline" }, outliers, "also those that do not agree"),
      h("span", { class: "row" }, zoom(1.4), zoom(1 / 1.4), h("button", { class: "small", onclick: () => this.fit() }, "Show all")),
      this.count));
    const listen = (name, does) => this.canvas.addEventListener(name, does, { passive: false });
    listen("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 400), this.at(event)); });
    listen("pointerdown", (event) => { this.pointers.set(event.pointerId, this.at(event)); this.canvas.setPointerCapture(event.pointerId); });
    listen("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel"]) listen(name, (event) => this.pointers.delete(event.pointerId));
    listen("pointerleave", () => this.hover(-1));
    listen("keydown", (event) => this.key(event));
    listen("dblclick", (event) => this.zoom(2, this.at(event)));
  }

  // A slider that is fine where there are few lines: from 1 to all by even ratios.
  amount(position) { return Math.round(Math.max(1, this.order.length) ** (position / 100)); }
  position() { return this.order.length < 2 ? 100 : Math.min(100, 100 * Math.log(Math.min(this.most, this.order.length)) / Math.log(this.order.length)); }

  layout() {
    const width = this.stage.clientWidth;
    if (!width) return;
    const [one, other] = this.answer.images;
    this.stacked = width < 560 && one.width + other.width > one.height + other.height;
    const sizes = [one, other];
    // At one height side by side, at one width where the page is narrow.
    const shape = this.stacked
      ? sizes.map((s) => [1, s.height / s.width]) : sizes.map((s) => [s.width / s.height, 1]);
    const along = this.stacked ? 1 : 0;
    let unit = this.stacked ? width : (width - GAP) / (shape[0][0] + shape[1][0]);
    const limit = window.innerHeight * 0.72;
    const tall = this.stacked ? unit * (shape[0][1] + shape[1][1]) + GAP : unit;
    if (tall > limit) unit *= limit / tall;
    this.boxes = shape.map(([w, t]) => ({ width: w * unit, height: t * unit }));
    const [first, second] = this.boxes;
    const total = this.stacked ? { width: unit, height: first.height + GAP + second.height } : { width: first.width + GAP + second.width, height: unit };
    const left = (width - total.width) / 2;
    Object.assign(first, { x: left, y: 0 });
    Object.assign(second, along ? { x: left, y: first.height + GAP } : { x: left + first.width + GAP, y: 0 });
    this.size = { width, height: total.height };
    const dense = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * dense);
    this.canvas.height = Math.round(total.height * dense);
    this.canvas.style.height = `${total.height}px`;
    this.place();
    this.clamp();
    this.draw();
  }

  /** Where all points lie before zooming. */
  place() {
    const { images, points0, points1 } = this.answer;
    this.ends = [points0, points1].map((points, number) => {
      const box = this.boxes[number], image = images[number];
      const placed = new Float32Array(points.length);
      for (let i = 0; i < points.length; i += 2) {
        placed[i] = box.x + points[i] / image.width * box.width;
        placed[i + 1] = box.y + points[i + 1] / image.height * box.height;
      }
      return placed;
    });
  }

  /** The matches that are drawn: of the best, and spread over the ranking. */
  drawn() {
    const some = this.outliers ? this.order : this.order.filter((i) => this.answer.agree[i]);
    const most = Math.min(this.most, some.length);
    return Array.from({ length: most }, (_, k) => some[Math.floor(k * some.length / most)]);
  }

  hue(i) {
    const { scores, agree, points0, images } = this.answer;
    if (this.colour === "inlier") return agree[i] ? "hsl(150 75% 50%)" : "hsl(5 85% 60%)";
    if (this.colour === "score") return `hsl(${Math.round(20 + 140 * Math.min(1, Math.max(0, scores[i])))} 85% 55%)`;
    return `hsl(${Math.round(300 * points0[2 * i] / images[0].width)} 85% 60%)`;
  }

  draw() {
    if (this.pending || !this.boxes) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.paint(); });
  }

  paint() {
    const c = this.canvas.getContext("2d"), dense = window.devicePixelRatio || 1, { scale, x, y } = this.view;
    c.setTransform(dense, 0, 0, dense, 0, 0);
    c.clearRect(0, 0, this.size.width, this.size.height);
    c.setTransform(dense * scale, 0, 0, dense * scale, dense * x, dense * y);
    c.imageSmoothingQuality = "high";
    this.pictures.forEach((picture, number) => {
      const box = this.boxes[number];
      if (picture.complete && picture.naturalWidth) c.drawImage(picture, box.x, box.y, box.width, box.height);
    });
    const shown = this.drawn(), [a, b] = this.ends;
    this.shown = shown;
    c.globalAlpha = Math.min(0.8, Math.max(0.3, 6 / Math.sqrt(shown.length || 1)));
    c.lineWidth = 1.2 / scale;
    for (const i of shown) {
      c.strokeStyle = this.hue(i);
      c.beginPath();
      c.moveTo(a[2 * i], a[2 * i + 1]);
      c.lineTo(b[2 * i], b[2 * i + 1]);
      c.stroke();
    }
    c.globalAlpha = 1;
    for (const i of shown) for (const ends of this.ends) this.dot(c, ends, i, 2.2, this.hue(i));
    if (this.hovered >= 0) this.partner(c, this.hovered, dense);
    const all = this.outliers ? this.order.length : this.answer.inliers;
    const which = this.outliers ? "" : " that agree";
    this.count.textContent = `${shown.length.toLocaleString("en")} of ${counted(all, "match", "matches")}${which} drawn`;
    this.canvas.dataset.drawn = String(shown.length);
  }

  dot(c, ends, i, radius, colour) {
    c.beginPath();
    c.arc(ends[2 * i], ends[2 * i + 1], radius / this.view.scale, 0, 7);
    c.fillStyle = colour;
    c.fill();
  }

  /** The hovered match, with what is around both its points. */
  partner(c, i, dense) {
    const [a, b] = this.ends;
    for (const [width, colour] of [[4, "#000"], [2, "#fff"]]) {
      c.lineWidth = width / this.view.scale;
      c.strokeStyle = colour;
      c.beginPath();
      c.moveTo(a[2 * i], a[2 * i + 1]);
      c.lineTo(b[2 * i], b[2 * i + 1]);
      c.stroke();
    }
    for (const ends of this.ends) { this.dot(c, ends, i, 6, "#000"); this.dot(c, ends, i, 4.5, "#fff"); }
    c.setTransform(dense, 0, 0, dense, 0, 0);
    const side = Math.min(110, this.size.width / 4), part = 0.08;
    this.pictures.forEach((picture, number) => {
      if (!picture.naturalWidth) return;
      const image = this.answer.images[number], points = number ? this.answer.points1 : this.answer.points0;
      const from = part * Math.max(picture.naturalWidth, picture.naturalHeight);
      const left = this.size.width - (2 - number) * (side + 6), top = this.size.height - side - 6;
      c.fillStyle = "#000";
      c.fillRect(left - 2, top - 2, side + 4, side + 4);
      c.drawImage(picture, points[2 * i] / image.width * picture.naturalWidth - from / 2,
        points[2 * i + 1] / image.height * picture.naturalHeight - from / 2, from, from, left, top, side, side);
      c.strokeStyle = "#fff";
      c.lineWidth = 1.5;
      c.strokeRect(left + side / 2 - 4, top + side / 2 - 4, 8, 8);
    });
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  moved(event) {
    const now = this.at(event), before = this.pointers.get(event.pointerId);
    if (!before) { this.hover(this.nearest(now)); return; }
    if (this.pointers.size === 2) {
      const other = [...this.pointers.entries()].find(([id]) => id !== event.pointerId)[1];
      const apart = (p) => Math.hypot(p.x - other.x, p.y - other.y);
      this.zoom(apart(now) / Math.max(1, apart(before)), other);
    } else {
      this.view.x += now.x - before.x;
      this.view.y += now.y - before.y;
      this.clamp();
      this.draw();
    }
    this.pointers.set(event.pointerId, now);
  }

  nearest({ x, y }) {
    const { scale, x: dx, y: dy } = this.view;
    let best = -1, least = NEAR * NEAR;
    for (const i of this.shown || []) for (const ends of this.ends) {
      const away = (ends[2 * i] * scale + dx - x) ** 2 + (ends[2 * i + 1] * scale + dy - y) ** 2;
      if (away < least) { least = away; best = i; }
    }
    return best;
  }

  hover(i) {
    if (i === this.hovered) return;
    this.hovered = i;
    this.told.hidden = i < 0;
    if (i >= 0) {
      const { points0: p, points1: q, scores, agree, inliers } = this.answer;
      const agrees = inliers === null ? "" : agree[i] ? ", agrees" : ", does not agree";
      const words = this.answer.told?.[i] || `score ${scores[i].toFixed(2)}${agrees}`;
      this.told.textContent = `${p[2 * i]}, ${p[2 * i + 1]} ↔ ${q[2 * i]}, ${q[2 * i + 1]}; ${words}`;
    }
    this.draw();
  }

  zoom(factor, at = { x: this.size.width / 2, y: this.size.height / 2 }) {
    const scale = Math.min(40, Math.max(1, this.view.scale * factor)), times = scale / this.view.scale;
    this.view = { scale, x: at.x - (at.x - this.view.x) * times, y: at.y - (at.y - this.view.y) * times };
    this.clamp();
    this.draw();
  }

  fit() { this.view = { scale: 1, x: 0, y: 0 }; this.draw(); }

  clamp() {
    const { width, height } = this.size, { scale } = this.view;
    this.view.x = Math.min(0, Math.max(width * (1 - scale), this.view.x));
    this.view.y = Math.min(0, Math.max(height * (1 - scale), this.view.y));
  }

  key(event) {
    const step = 60, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) {
      this.view.x += moves[event.key][0];
      this.view.y += moves[event.key][1];
      this.clamp();
      this.draw();
    } else if (event.key === "+" || event.key === "=") this.zoom(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }
}
