// Duplicates: groups side by side, why, and what to do with those that are not kept.
import { ask, copied, counted, failure, h, pictureUrl, Refused, save as saveFile, tell } from "./dom.js";
import { show } from "./jobs.js";

let store = null;

export async function page(place, job, signal) {
  const result = h("section", { "aria-label": "Groups" });
  place.append(h("h1", {}, "Find duplicates"),
    h("p", { class: "soft" }, "Copies in a store: smaller, cropped, turned, mirrored, written over. covis deletes nothing."));
  let stores;
  try {
    stores = (await ask("/api/sources", undefined, signal)).sources.filter((s) => s.kind === "store" && s.made);
  } catch (error) { return told(error); }
  if (!stores.length) {
    place.append(h("p", { class: "empty" }, "There is no store yet. Make one on the page Search, or start covis with one: covis web photos.covis"));
    return;
  }
  store = stores.some((s) => s.id === store) ? store : stores[0].id;
  const go = h("button", { class: "main", onclick: () => start() }, "Look for copies");
  place.append(h("div", { class: "controls" }, h("label", {}, "Store", h("select", { name: "store", onchange: (event) => { store = event.target.value; } },
    stores.map((s) => h("option", { value: s.id, selected: s.id === store }, s.name)))), go), result);
  if (job) await follow(job);

  function told(error) { tell(error, result.isConnected ? result : place); }

  async function start() {
    try {
      const { job: started } = await ask(`/api/stores/${store}/duplicates`, {});
      history.replaceState(null, "", `#/duplicates/${started}`);
      await follow(started);
    } catch (error) { told(error); }
  }

  async function follow(name) {
    go.disabled = true;
    await show(name, result, { shown: (answer) => result.replaceChildren(groups(name, answer)), again: start }, signal);
    go.disabled = false;
  }
}

function groups(job, answer) {
  const left = answer.left_out ? h("p", { class: "soft small" }, `${counted(answer.left_out, "file")} left out, gone or changed since added.`) : null;
  if (!answer.groups.length) return h("div", {}, h("p", { class: "empty" }, "No copies."), left);
  const chosen = new Set(), boxes = [];
  const copies = answer.groups.reduce((sum, group) => sum + group.length - 1, 0);
  const said = h("div", { role: "status" });
  const all = h("button", { onclick: () => { boxes.forEach(([box, , best]) => { box.checked = !best; }); count(); } }, "Choose all but the best");
  const none = h("button", { onclick: () => { boxes.forEach(([box]) => { box.checked = false; }); count(); } }, "Choose none");
  const list = h("button", { onclick: () => save() }, "Save a list");
  const move = h("button", { onclick: () => ask2() }, "Move");
  const undo = h("button", { hidden: true, onclick: () => back() }, "Undo the move");
  const sure = h("span", { class: "row", hidden: true });

  function count() {
    chosen.clear();
    for (const [box, copy, , card] of boxes) {
      card.classList.toggle("chosen", box.checked);
      if (box.checked) chosen.add(copy.image);
    }
    sure.hidden = true;
    move.textContent = `Move ${counted(chosen.size, "file")} ...`;
    move.disabled = list.disabled = !chosen.size;
  }

  const images = () => ({ images: [...chosen] });

  async function save() {
    try {
      await saveFile(`/api/duplicates/${job}/list`, "duplicates.txt", images());
    } catch (error) { tell(error); }
  }

  /** The first click asks, the second one moves. */
  function ask2() {
    sure.replaceChildren(h("span", {}, `Move ${counted(chosen.size, "file")} to ${answer.folder}?`),
      h("button", { class: "main", "data-sure": "true", onclick: () => moved() }, "Move them"),
      h("button", { onclick: () => { sure.hidden = true; } }, "No"));
    sure.hidden = false;
    sure.querySelector("button").focus();
  }

  async function moved() {
    try {
      const done = await ask(`/api/duplicates/${job}/move`, { ...images(), sure: true });
      said.replaceChildren(h("p", { "data-moved": String(done.moved) }, `${counted(done.moved, "file")} moved to ${done.folder}.`), done.failed.map(failure));
      away(done.away);
    } catch (error) { tell(error); }
  }

  /** Hide the copies that lie in the folder; they can be brought back. */
  function away(images) {
    const gone = new Set(images);
    for (const [box, copy, , card] of boxes) {
      card.hidden = gone.has(copy.image);
      box.disabled = !copy.image || card.hidden;
      if (card.hidden) box.checked = false;
    }
    undo.hidden = !gone.size;
    count();
  }

  async function back() {
    try {
      const done = await ask(`/api/duplicates/${job}/undo`, {});
      said.replaceChildren(h("p", { "data-back": String(done.back) }, `${counted(done.back, "file")} moved back.`), done.failed.map(failure));
      away(done.away);
    } catch (error) { tell(error); }
  }

  function tell(error) {
    if (!(error instanceof Refused)) throw error;
    said.replaceChildren(failure(error.message));
  }

  const shown = answer.groups.map((group, n) => h("section", { class: "group", "aria-label": `Group ${n + 1}` },
    h("h2", {}, `Group ${n + 1}: ${counted(group.length, "file")}`),
    h("div", { class: "hits" }, group.map((copy, m) => {
      const box = h("input", { type: "checkbox", disabled: !copy.image, onchange: () => count() });
      const card = h("article", { class: m ? "card" : "card best" },
        h("div", { class: "frame" }, copy.image ? h("img", { src: pictureUrl(copy.image, 320), alt: copy.path.split("/").pop(), loading: "lazy" }) : "gone"),
        h("div", { class: "body" }, h("div", { class: "row" }, m ? null : h("span", { class: "badge same" }, "best"),
          h("span", { class: "small" }, `${copy.width}×${copy.height}, ${bytes(copy.bytes)}`)),
          h("span", { class: "small" }, copy.why.join(", ")), h("span", { class: "path" }, copy.path),
          h("div", { class: "row" }, h("label", { class: "inline" }, box, "choose"),
            h("button", { class: "small", onclick: () => copied(copy.path) }, "Copy path"))));
      boxes.push([box, copy, m === 0, card]);
      return card;
    }))));
  away(answer.away || []);
  return h("div", {}, h("h2", {}, `${counted(answer.groups.length, "group")}; files that are copies of others: ${copies}.`), left,
    h("div", { class: "controls" }, all, none, list, move, undo, sure), said, shown);
}

const bytes = (count) => count < 1e6 ? `${Math.ceil(count / 1e3)} KB` : `${(count / 1e6).toFixed(1)} MB`;
