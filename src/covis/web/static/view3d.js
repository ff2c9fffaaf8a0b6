// A map's points and cameras in three dimensions, by WebGL: turned, zoomed and moved by mouse,
// fingers and keys.
import { h, pictureUrl } from "./dom.js";

const FIELD = 0.9; // Radians that are seen from top to bottom.
const NEAR = 14; // Screen pixels from a camera within which it is hovered.
const TEXTURES = 48; // Photos that are held at a time.

const POINTS = [`
attribute vec3 place; attribute vec3 colour; uniform mat4 seen; uniform float size; varying vec3 tint;
void main() { gl_Position = seen * vec4(place, 1.0); gl_PointSize = clamp(size / gl_Position.w, 1.0, 24.0); tint = colour; }`, `
precision mediump float; varying vec3 tint;
void main() { vec2 off = gl_PointCoord - 0.5; if (dot(off, off) > 0.25) discard; gl_FragColor = vec4(tint, 1.0); }`];
const LINES = [`
attribute vec3 place; attribute vec3 colour; uniform mat4 seen; varying vec3 tint;
void main() { gl_Position = seen * vec4(place, 1.0); tint = colour; }`, `
precision mediump float; varying vec3 tint;
void main() { gl_FragColor = vec4(tint, 1.0); }`];
const PHOTOS = [`
attribute vec3 place; attribute vec2 at; uniform mat4 seen; varying vec2 where;
void main() { gl_Position = seen * vec4(place, 1.0); where = at; }`, `
precision mediump float; varying vec2 where; uniform sampler2D photo;
void main() { gl_FragColor = vec4(texture2D(photo, where).rgb, 1.0); }`];

const add = (a, b, times = 1) => [0, 1, 2].map((i) => a[i] + times * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((v) => v / (Math.hypot(...a) || 1));

/** A view. `picked` and `hovered` are called with the number of a camera, or -1. */
export class View3d {
  constructor({ picked, hovered, next }) {
    this.picked = picked;
    this.hovered = hovered;
    this.next = next;
    this.points = null;
    this.cameras = [];
    this.rings = [];
    this.size = 3;
    this.reach = 0.08;
    this.photos = false;
    this.chosen = this.over = -1;
    this.lit = new Set();
    this.pointers = new Map();
    this.textures = new Map();
    this.whole();
    this.canvas = h("canvas", { class: "view3d", tabindex: "0", role: "application",
      "aria-label": "The map: arrows turn it, with Shift they move it, + and - zoom, 0 shows all, n and p choose the next and the previous photo" });
    this.gl = this.canvas.getContext("webgl", { antialias: true });
    if (!this.gl) return;
    this.build();
    const listen = (name, does) => this.canvas.addEventListener(name, does, { passive: false });
    listen("webglcontextlost", (event) => event.preventDefault());
    listen("webglcontextrestored", () => { this.build(); this.draw(); });
    listen("contextmenu", (event) => event.preventDefault());
    listen("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(event.deltaY / 500)); });
    listen("pointerdown", (event) => this.down(event));
    listen("pointermove", (event) => this.moved(event));
    listen("pointerup", (event) => this.up(event));
    listen("pointercancel", (event) => this.pointers.delete(event.pointerId));
    listen("pointerleave", () => this.hover(-1));
    listen("dblclick", () => { if (this.over >= 0) this.from(this.over); });
    listen("keydown", (event) => this.key(event));
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.canvas);
  }

  /** Let go of what the browser holds for it. */
  close() {
    this.watch?.disconnect();
    this.closed = true;
    this.gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }

  build() {
    const gl = this.gl;
    this.programs = [POINTS, LINES, PHOTOS].map((sources) => program(gl, sources));
    this.buffers = Object.fromEntries(["points", "colours", "lines", "tints", "quads", "corners"].map((name) => [name, gl.createBuffer()]));
    this.textures.clear();
    this.lined = null;
    gl.enable(gl.DEPTH_TEST);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.corners);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
    if (this.points) this.load(this.points);
  }

  /** Points: a buffer of N times three Float32, then N times three Uint8. */
  load(buffer) {
    const gl = this.gl;
    this.points = buffer;
    this.count = buffer.byteLength / 15;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.points);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(buffer, 0, 3 * this.count), gl.STATIC_DRAW);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.colours);
    gl.bufferData(gl.ARRAY_BUFFER, new Uint8Array(buffer, 12 * this.count), gl.STATIC_DRAW);
    this.draw();
  }

  /** Cameras: {eye, corners, image, kind} each; rings: ellipses, [middle, side, side] each. */
  show(cameras, rings = []) {
    this.cameras = cameras;
    this.rings = rings;
    this.draw();
  }

  /** See all, from above and behind the cameras. */
  whole() { Object.assign(this, { target: [0, 0, 0], yaw: 0, pitch: 0.4, away: 2.1, within: -1 }); this.draw(); }

  /** See what a camera sees, without photos before it until all is shown again. */
  from(number) {
    this.within = number;
    const { eye, corners } = this.cameras[number];
    const ahead = unit([0, 1, 2].map((i) => corners[i] + corners[3 + i] + corners[6 + i] + corners[9 + i]));
    this.away = Math.min(1, this.away);
    this.target = add(eye, ahead, this.away);
    this.pitch = Math.asin(Math.max(-1, Math.min(1, -ahead[1])));
    this.yaw = Math.atan2(-ahead[0], -ahead[2]);
    this.draw();
  }

  /** The eye, and what is right, up and behind from there. */
  axes() {
    const back = [Math.cos(this.pitch) * Math.sin(this.yaw), Math.sin(this.pitch), Math.cos(this.pitch) * Math.cos(this.yaw)];
    const right = [Math.cos(this.yaw), 0, -Math.sin(this.yaw)];
    return { eye: add(this.target, back, this.away), right, up: cross(back, right), back };
  }

  matrix() {
    const { eye, right, up, back } = this.axes(), flat = 1 / Math.tan(FIELD / 2);
    const across = flat * this.canvas.height / this.canvas.width, near = this.away / 200, far = this.away + 200;
    const depth = (far + near) / (near - far), shift = 2 * far * near / (near - far);
    const rows = [right.map((v) => across * v).concat(-across * dot(right, eye)), up.map((v) => flat * v).concat(-flat * dot(up, eye)),
      back.map((v) => depth * v).concat(-depth * dot(back, eye) + shift), back.map((v) => -v).concat(dot(back, eye))];
    return new Float32Array([0, 1, 2, 3].flatMap((column) => rows.map((row) => row[column])));
  }

  draw() {
    if (this.pending || !this.gl || this.closed) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; if (!this.closed) this.paint(); });
  }

  paint() {
    const gl = this.gl, dense = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * dense), height = Math.round(this.canvas.clientHeight * dense);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.seen = this.matrix();
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (this.points) {
      const use = this.start(0);
      gl.uniform1f(gl.getUniformLocation(use, "size"), this.size * dense * 2.6);
      this.bind(use, "place", this.buffers.points, 3, gl.FLOAT);
      this.bind(use, "colour", this.buffers.colours, 3, gl.UNSIGNED_BYTE, true);
      gl.drawArrays(gl.POINTS, 0, this.count);
    }
    this.paintPhotos();
    this.paintLines();
    Object.assign(this.canvas.dataset, { points: String(this.count || 0), cameras: String(this.cameras.length), textures: String(this.textures.size),
      view: [this.yaw, this.pitch, this.away, ...this.target].map((value) => value.toFixed(3)).join(" ") });
  }

  start(number) {
    const gl = this.gl, use = this.programs[number];
    gl.useProgram(use);
    gl.uniformMatrix4fv(gl.getUniformLocation(use, "seen"), false, this.seen);
    return use;
  }

  bind(use, name, buffer, count, type, normalised = false) {
    const gl = this.gl, at = gl.getAttribLocation(use, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, count, type, normalised, 0, 0);
  }

  /** The corners of a camera's picture. */
  corners(number) {
    const { eye, corners, kind } = this.cameras[number];
    const reach = this.reach * (number === this.chosen || kind === "query" ? 1.6 : 1);
    return [0, 3, 6, 9].map((k) => add(eye, corners.slice(k, k + 3), reach));
  }

  paintLines() {
    const gl = this.gl, use = this.start(1), now = [this.cameras, this.chosen, this.over, this.within, this.lit, this.reach];
    const changed = now.some((value, k) => value !== this.lined?.[k]);
    const lines = changed ? this.lines() : null;
    this.lined = now;
    [["lines", "place"], ["tints", "colour"]].forEach(([name, attribute], k) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
      if (lines) gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(lines[k]), gl.DYNAMIC_DRAW);
      this.bind(use, attribute, this.buffers[name], 3, gl.FLOAT);
    });
    if (lines) this.lineEnds = lines[0].length / 3;
    gl.drawArrays(gl.LINES, 0, this.lineEnds);
  }

  /** Places and colours of the ends of all lines: cameras, and how sure a located one is. */
  lines() {
    const places = [], tints = [];
    const line = (a, b, tint) => { places.push(...a, ...b); tints.push(...tint, ...tint); };
    this.cameras.forEach((camera, number) => {
      if (number === this.within) return;
      const tint = camera.kind === "query" ? [1, 0.25, 0.3] : number === this.chosen ? [0.1, 0.75, 0.85] :
        number === this.over ? [1, 1, 0.4] : this.lit.has(camera.photo) ? [0.95, 0.75, 0.1] : [0.95, 0.5, 0.2];
      const around = this.corners(number);
      around.forEach((corner, k) => { line(camera.eye, corner, tint); line(corner, around[(k + 1) % 4], tint); });
    });
    for (const [middle, a, b] of this.rings) for (let k = 0; k < 48; k++) {
      const at = (step) => add(add(middle, a, Math.cos(step * Math.PI / 24)), b, Math.sin(step * Math.PI / 24));
      line(at(k), at(k + 1), [1, 0.25, 0.3]);
    }
    return [places, tints];
  }

  /** The photos of the chosen, the hovered and the located camera; of all, as many as are held. */
  paintPhotos() {
    if (this.within >= 0) return;
    const gl = this.gl, use = this.start(2), count = this.cameras.length;
    const each = Math.max(1, Math.ceil(count / (TEXTURES - 3)));
    const shown = this.cameras.map((_, number) => number).filter((number) => this.cameras[number].image &&
      (number === this.chosen || number === this.over || this.cameras[number].kind === "query" || (this.photos && number % each === 0)));
    for (const number of shown) {
      const texture = this.texture(this.cameras[number].image);
      if (!texture) continue;
      const [a, b, c, d] = this.corners(number);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.quads);
      gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([a, b, d, c].flat()), gl.DYNAMIC_DRAW);
      this.bind(use, "place", this.buffers.quads, 3, gl.FLOAT);
      this.bind(use, "at", this.buffers.corners, 2, gl.FLOAT);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    }
  }

  /** A picture's texture once it is there; those not used for longest go. */
  texture(id) {
    const gl = this.gl, known = this.textures.get(id);
    if (known) {
      this.textures.delete(id);
      this.textures.set(id, known);
      return known.texture;
    }
    const held = { texture: null };
    this.textures.set(id, held);
    while (this.textures.size > TEXTURES) {
      const [oldest, { texture }] = this.textures.entries().next().value;
      if (texture) gl.deleteTexture(texture);
      this.textures.delete(oldest);
    }
    const picture = new Image();
    picture.onload = () => {
      if (this.closed || this.textures.get(id) !== held) return;
      held.texture = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, held.texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, picture);
      for (const [name, value] of [["WRAP_S", "CLAMP_TO_EDGE"], ["WRAP_T", "CLAMP_TO_EDGE"], ["MIN_FILTER", "LINEAR"], ["MAG_FILTER", "LINEAR"]]) {
        gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl[value]);
      }
      this.draw();
    };
    picture.src = pictureUrl(id, 320);
    return null;
  }

  /** Where a place of the scene is on the screen, and how far away; null behind the eye. */
  screen(place) {
    const m = this.seen, part = (row) => m[row] * place[0] + m[4 + row] * place[1] + m[8 + row] * place[2] + m[12 + row];
    const far = part(3);
    if (far <= 0) return null;
    return { x: (part(0) / far + 1) / 2 * this.canvas.clientWidth, y: (1 - part(1) / far) / 2 * this.canvas.clientHeight, far };
  }

  /** The camera at a place of the screen: whose picture is there, the nearest, else whose eye. */
  at({ x, y }) {
    let best = -1, least = Infinity;
    if (!this.seen) return best;
    this.cameras.forEach((camera, number) => {
      const eye = this.screen(camera.eye), around = this.corners(number).map((corner) => this.screen(corner));
      if (!eye || around.includes(null)) return;
      const near = Math.hypot(eye.x - x, eye.y - y) < NEAR / 2;
      if ((near || inside(x, y, around)) && eye.far < least) { least = eye.far; best = number; }
    });
    return best;
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  down(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    this.began = this.pointers.size === 1 ? this.place(event) : null;
  }

  moved(event) {
    const now = this.place(event), before = this.pointers.get(event.pointerId);
    if (!before) { this.hover(this.at(now)); return; }
    const right = now.x - before.x, down = now.y - before.y;
    if (this.pointers.size === 2) {
      const other = [...this.pointers.entries()].find(([id]) => id !== event.pointerId)[1];
      const apart = (p) => Math.hypot(p.x - other.x, p.y - other.y);
      this.zoom(Math.max(1, apart(before)) / Math.max(1, apart(now)));
      this.pan(right / 2, down / 2);
    } else if (event.shiftKey || event.buttons & 6) this.pan(right, down);
    else this.turn(-right / 180, down / 180);
    if (this.began && Math.hypot(now.x - this.began.x, now.y - this.began.y) > 4) this.began = null;
    this.pointers.set(event.pointerId, now);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (this.began && !this.pointers.size) {
      const found = this.at(this.place(event));
      if (found >= 0) this.picked(found);
    }
    this.began = null;
  }

  hover(number) {
    if (number === this.over) return;
    this.over = number;
    this.canvas.classList.toggle("pointing", number >= 0);
    this.hovered(number);
    this.draw();
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.min(1.55, Math.max(-1.55, this.pitch + pitch));
    this.draw();
  }

  pan(right, down) {
    const axes = this.axes(), step = 2 * this.away * Math.tan(FIELD / 2) / Math.max(1, this.canvas.clientHeight);
    this.target = add(add(this.target, axes.right, -right * step), axes.up, down * step);
    this.draw();
  }

  zoom(factor) { this.away = Math.min(30, Math.max(0.01, this.away * factor)); this.draw(); }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }, move = moves[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (move && event.shiftKey) this.pan(-40 * move[0], 40 * move[1]);
    else if (move) this.turn(0.12 * move[0], 0.12 * move[1]);
    else if (event.key === "+" || event.key === "=") this.zoom(0.8);
    else if (event.key === "-") this.zoom(1.25);
    else if (event.key === "0") this.whole();
    else if (event.key === "n" || event.key === "p") this.next(event.key === "n" ? 1 : -1);
    else return;
    event.preventDefault();
  }
}

function program(gl, sources) {
  const made = gl.createProgram();
  sources.forEach((source, number) => {
    const shader = gl.createShader(number ? gl.FRAGMENT_SHADER : gl.VERTEX_SHADER);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  });
  gl.linkProgram(made);
  return made;
}

/** Whether a place lies in a polygon. */
function inside(x, y, around) {
  let crossed = false;
  around.forEach((a, k) => {
    const b = around[(k + 1) % around.length];
    if (a.y > y !== b.y > y && x < (b.x - a.x) * (y - a.y) / (b.y - a.y) + a.x) crossed = !crossed;
  });
  return crossed;
}
