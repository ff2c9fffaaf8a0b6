// Search: a picture, or a box on it, in a store; and the store's care.
import { ask, bring, copied, counted, dialog, failure, h, pictureUrl, Refused, select, tell } from "./dom.js";
import { show } from "./jobs.js";
import { verdict } from "./match.js";
import { pair } from "./pair.js";
import { Slot } from "./pictures.js";

const SETTLED = 100; // Milliseconds without a change after which a box is made ready.
const HINT = "Draw a box on the picture to look for that part only.";
const TOO_SMALL = "That box is less than a fiftieth of the picture wide or high, too small to look for: draw a larger one.";
const kept = { picture: null, store: null, region: null };

export async function page(place, job, signal) {
  const result = h("section", { "aria-label": "Hits" });
  const care = h("section", {});
  const go = h("button", { class: "main", disabled: true, onclick: () => start() }, "Search");
  const whole = h("button", { class: "small", hidden: true, onclick: () => slot.clearRegion() }, "Search with all of it");
  const slot = new Slot("The picture to look for", (picture) => { kept.picture = picture; kept.region = null; ready(); }, { drawable: true });
  slot.drawn = (region, small = false) => { kept.region = region; hint.textContent = small ? TOO_SMALL : HINT; ready(SETTLED); };
  const hint = h("p", { class: "soft small", role: "status" }, HINT);
  const ready = (settled = 0) => {
    go.disabled = !kept.picture || !stores.length;
    whole.hidden = !kept.region;
    hint.hidden = !kept.picture;
    clearTimeout(soon);
    if (!go.disabled) soon = setTimeout(prepare, settled);
  };
  let soon, running = null;
  let stores = [], sources = [], budgets = [], efforts = {}, every = "", local = false;
  place.append(h("h1", {}, "Search your photos"),
    h("p", { class: "soft" }, "The photos in a store that show what a picture shows, and why."));
  try {
    ({ sources, budgets, efforts, every, local } = await ask("/api/sources", undefined, signal));
  } catch (error) { return told(error); }
  stores = sources.filter((source) => source.kind === "store");
  if (!stores.length) {
    place.append(h("p", { class: "empty" }, "No store was given. Start covis with one, or with a folder of photos to make one of: covis web ~/photos"));
    return;
  }
  const several = stores.filter((s) => s.made).length > 1;
  const known = (several && kept.store === every) || stores.some((s) => s.id === kept.store);
  kept.store = known ? kept.store : stores[0].id;
  const store = h("label", {}, "Store", h("select", { name: "store", onchange: (event) => { kept.store = event.target.value; tend(); ready(); } },
    stores.map((s) => h("option", { value: s.id, selected: s.id === kept.store }, s.name)),
    several ? h("option", { value: every, selected: kept.store === every }, "all of them") : null));
  const controls = h("form", { class: "controls", onsubmit: (event) => event.preventDefault() }, store,
    select("Effort", "effort", Object.keys(efforts), "fast", "auto looks at the photos of hits that stay unsure once more, which takes seconds; thorough also with the best models that were imported"),
    select("Time", "budget", budgets, efforts.fast, "How long the answer may take; with no limit all candidates are checked", { none: "no limit" }),
    select("Turn", "rotate", ["none", "auto"], "none", "auto also looks for the picture on its side and upside down"),
    h("label", {}, "Hits", h("input", { type: "number", name: "hits", min: "1", max: "60", value: "12" })), go, whole);
  controls.elements.effort.addEventListener("change", (event) => { controls.elements.budget.value = efforts[event.target.value]; });
  place.append(h("div", { class: "slots one" }, slot.element), hint, controls, result, care);
  slot.set(kept.picture, true);
  if (kept.region) slot.showRegion(kept.region);
  ready();
  tend();
  if (job) await follow(job);

  function told(error) { tell(error, result.isConnected ? result : place); }

  /** Have the server read the picture already; if it cannot, the search says why. */
  async function prepare() {
    try {
      const region = kept.region && await pixels(kept.region);
      await ask("/api/search/ready", { store: kept.store, image: kept.picture.id, region }, signal);
    } catch (error) {
      if (error.name !== "AbortError" && !(error instanceof Refused)) throw error;
    }
  }

  async function start() {
    const wanted = Object.fromEntries(new FormData(controls));
    clearTimeout(soon);
    try {
      const region = kept.region && await pixels(kept.region);
      if (running) ask(`/api/jobs/${running}/cancel`, {}).catch(() => {}); // Nobody looks at it any more.
      const { job: started } = await ask("/api/search", { ...wanted, store: kept.store, image: kept.picture.id, region });
      history.replaceState(null, "", `#/search/${started}`);
      result.dataset.asked = "true";
      await follow(started);
    } catch (error) { told(error); }
  }

  /** A box in parts of the sides -> in full-size pixels. */
  async function pixels([x, y, width, height]) {
    const size = await ask(`/api/size?image=${kept.picture.id}`);
    return [x * size.width, y * size.height, width * size.width, height * size.height];
  }

  async function follow(name) {
    const list = h("div", {});
    const head = h("div", {});
    const draw = (answer, live) => {
      list.replaceChildren(hits(answer, live, name));
      if (result.dataset.asked) bring(result);
      delete result.dataset.asked;
      if (kept.picture?.id !== answer.query.id) {
        kept.picture = { id: answer.query.id, name: answer.query.name };
        slot.set(kept.picture, true);
        const r = answer.query.region, q = answer.query;
        kept.region = r && [r[0] / q.width, r[1] / q.height, r[2] / q.width, r[3] / q.height];
        if (kept.region) slot.showRegion(kept.region);
        ready();
      }
    };
    result.replaceChildren(head, list);
    running = name;
    await show(name, head, { partly: (answer) => draw(answer, true), shown: (answer) => draw(answer, false) }, signal);
    if (running === name) running = null;
  }

  function hits(answer, live, name) {
    if (!answer.images) return h("p", { class: "empty" }, `${answer.uri} ${answer.several ? "hold" : "holds"} no pictures. Add a folder below.`);
    const words = live ? "By likeness so far; being checked ..." :
      answer.certain ? counted(answer.certain, "photo shows", "photos show") + " the same." :
        answer.perhaps ? `Nothing in ${answer.uri} is sure to show the same; perhaps the first:` : `Nothing in ${answer.uri} is sure to show the same.`;
    const more = !live && answer.unchecked ? " For the others there was no time: choose more." : "";
    return h("div", {}, h("h2", {}, words), h("p", { class: "soft small" }, answer.text, more),
      h("div", { class: "hits", "data-live": String(live) }, answer.hits.map((hit, n) => card(hit, n, live ? null : name, answer.several))));
  }

  function card(hit, n, name, several) {
    const label = hit.checked ? hit.verdict || "no verdict" : "not checked";
    const about = [`similarity ${hit.similarity.toFixed(3)}`];
    if (hit.checked) about.push(`${counted(hit.inliers, "inlier")} of ${hit.matches.toLocaleString("en")}`);
    const again = () => { kept.picture = { id: hit.image, name: hit.path.split("/").pop() }; kept.region = null; slot.set(kept.picture, true); ready(); scrollTo(0, 0); start(); };
    return h("article", { class: hit.verdict === "same" ? "card sure" : "card", "data-verdict": label },
      frame(hit, name && hit.checked && hit.image ? () => why(name, n, hit) : null),
      h("div", { class: "body" }, h("div", { class: "row" }, h("b", {}, `${n + 1}.`), h("span", { class: `badge ${label.replace(" ", "-")}` }, label)),
        h("span", { class: "small" }, [...about, ...hit.words].join(", ")), h("span", { class: "path" }, hit.path),
        several && hit.store ? h("span", { class: "small" }, "in ", h("b", { "data-store": hit.store.id }, hit.store.name)) : null,
        h("div", { class: "row" },
          name && hit.checked && hit.image ? h("button", { class: "small", onclick: () => why(name, n, hit) }, "Lines") : null,
          hit.image ? h("button", { class: "small", onclick: again }, "Search with this") : null,
          h("button", { class: "small", onclick: () => copied(hit.path) }, "Copy path"),
          local && hit.image ? h("button", { class: "small", onclick: () => folder(hit) }, "Open folder") : null,
          name && hit.image && hit.store ? removal(hit) : null)));
  }

  async function folder(hit) {
    try { await ask("/api/folder", { image: hit.image }); } catch (error) { told(error); }
  }

  /** The first click asks, the second one forgets; the file stays. */
  function removal(hit) {
    const made = h("span", { class: "row" });
    const button = (words, onclick) => h("button", { class: "small", onclick }, words);
    const rest = () => made.replaceChildren(button("Remove ...", sure));
    const sure = () => made.replaceChildren(h("span", { class: "small" }, "Forget it in the store? The file stays."),
      button("Forget it", () => forgotten({ image: hit.image }, made, hit.store.id)), button("No", rest));
    rest();
    return made;
  }

  async function forgotten(what, place, store = kept.store) {
    const bar = h("div", {});
    place.replaceChildren(bar);
    try {
      const { job: started } = await ask(`/api/stores/${store}/remove`, what);
      await show(started, bar, { shown: (answer) => { place.replaceChildren(h("span", { class: "small", "data-removed": "true" }, answer.text)); } }, signal);
      if (place.closest("article")) tend();
    } catch (error) { tell(error, place); }
  }

  async function why(name, n, hit) {
    const body = h("div", {}, h("p", { class: "soft" }, "Reading ..."));
    dialog(hit.path.split("/").pop(), body);
    try {
      const answer = await ask(`/api/search/${name}/${n}`);
      body.replaceChildren(verdict(answer), pair(answer));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      body.replaceChildren(failure(error.message));
    }
  }

  /** The store: what it holds; folders to add; whether it is whole. */
  async function tend() {
    if (kept.store === every) {
      care.replaceChildren(h("p", { class: "soft small" }, "To add photos to a store or look after it, choose it alone."));
      return;
    }
    const body = h("div", {});
    const folders = sources.filter((source) => source.kind === "folder");
    const work = h("div", {});
    const open = care.querySelector("details")?.open;
    care.replaceChildren(h("details", { open }, h("summary", {}, "The store: add photos, look after it"), body, work));
    let held;
    try {
      held = await ask(`/api/stores/${kept.store}`, undefined, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      body.replaceChildren(failure(error.message));
      return;
    }
    const empty = !held.made || !held.images;
    if (empty) care.querySelector("details").open = true;
    body.append(h("p", {}, !held.made ? `${held.uri} is not made yet: add a folder to make it.` :
      `${held.uri} holds ${counted(held.images, "picture")} in ${counted(held.files, "file")}, ${(held.stored / 1e6).toFixed(1)} MB; model ${held.model}.`));
    if (held.failures) body.append(h("details", {}, h("summary", {}, `${counted(held.failures, "file")} failed`), lines(held.failed)));
    const add = (folder) => async () => {
      try {
        const { job: started } = await ask(`/api/stores/${kept.store}/add`, { folder });
        const failed = h("div", {}), bar = h("div", {});
        work.replaceChildren(bar, failed);
        const list = (answer) => { if (answer.failures) failed.replaceChildren(h("p", {}, `${counted(answer.failures, "file")} failed:`), lines(answer.failed)); };
        await show(started, bar, { partly: list, again: add(folder), pauses: true, shown: async (answer) => {
          list(answer);
          await tend();
          care.querySelector("details > div:last-child").append(h("p", { "data-added": "true" }, answer.text), failed);
        } }, signal);
      } catch (error) { if (!(error instanceof Refused)) throw error; work.replaceChildren(failure(error.message)); }
    };
    const check = async () => {
      try {
        const { job: started } = await ask(`/api/stores/${kept.store}/verify`, {});
        await show(started, work, { shown: (answer) => work.replaceChildren(h("p", {}, answer.text),
          ...Object.entries(answer.lists).filter(([, some]) => some.length).flatMap(([what, some]) => [h("b", {}, what), lines(some)])) }, signal);
      } catch (error) { work.replaceChildren(); tell(error, work); }
    };
    body.append(h("div", { class: "row" },
      folders.map((folder) => h("button", { class: empty ? "main" : "", onclick: add(folder.id) }, `Add the photos in ${folder.name}`)),
      held.made ? h("button", { onclick: check }, "Verify") : null,
      held.made ? h("button", { title: "Forget files that are no longer there", onclick: () => forgotten({ missing: true }, work) }, "Forget missing files") : null));
    if (!folders.length) body.append(h("p", { class: "soft small" }, "To add photos here, start covis with their folder as well: covis web STORE FOLDER"));
  }
}

const lines = (some) => h("ul", { class: "plain" }, some.map((line) => h("li", {}, line)));

/** A picture with an outline, in full-size pixels. */
function frame(hit, opens) {
  const made = h(opens ? "button" : "div", { class: "frame", onclick: opens, title: opens ? "Show the lines" : null });
  if (!hit.image) { made.append(h("span", { class: "soft small" }, hit.words.join(", "))); return made; }
  made.append(h("img", { src: pictureUrl(hit.image, 320), alt: hit.path.split("/").pop(), loading: "lazy" }));
  const outline = hit.outline || (hit.region && corners(hit.region));
  if (outline) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${hit.width} ${hit.height}`);
    const polygon = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    polygon.setAttribute("points", outline.map((point) => point.join(",")).join(" "));
    svg.append(polygon);
    made.append(svg);
  }
  return made;
}

const corners = ([x, y, w, t]) => [[x, y], [x + w, y], [x + w, y + t], [x, y + t]];
