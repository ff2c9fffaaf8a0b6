// Which page is shown, dark or light, and help.
import { ask, dialog, h } from "./dom.js";
import { page as dense } from "./dense.js";
import { forget } from "./pictures.js";
import { page as duplicates } from "./duplicates.js";
import { page as map } from "./map.js";
import { page as match } from "./match.js";
import { page as search } from "./search.js";

const pages = { match, search, duplicates, map, dense };
let leave = new AbortController();

async function open() {
  const [, name, job] = location.hash.split("/");
  leave.abort();
  const now = leave = new AbortController();
  const chosen = pages[name] ? name : await preferred();
  if (now.signal.aborted) return;
  forget();
  document.querySelectorAll("dialog").forEach((each) => each.close());
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = document.getElementById("page");
  place.replaceChildren();
  document.title = `covis: ${chosen}`;
  await pages[chosen](place, job, now.signal);
  place.dataset.ready = chosen;
}

/** Which page is opened first: where a map was named first that of maps. */
async function preferred() {
  const { sources } = await ask("/api/sources").catch(() => ({ sources: [] }));
  return sources[0]?.kind === "map" ? "map" : "match";
}

function dress(theme) {
  document.documentElement.dataset.theme = theme;
}

const system = matchMedia("(prefers-color-scheme: dark)");
dress(localStorage.getItem("theme") || (system.matches ? "dark" : "light"));
system.addEventListener("change", () => { if (!localStorage.getItem("theme")) dress(system.matches ? "dark" : "light"); });
document.getElementById("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", theme);
  dress(theme);
});

const HELP = [
  ["Match", "Drop, paste or choose two pictures. The lines join what both show; hover a point to see its partner. Wheel, pinch or + and - zoom, dragging or arrows move, 0 shows all."],
  ["Search", "Give a picture, and draw a box on it for the part that counts: with the mouse, or with Enter and arrows. Photos that are sure to show the same come first; click one for the lines. With the effort auto, photos that stay unsure are looked at once more."],
  ["Duplicates", "Groups of copies, the best one first. Choose some; save them as a list, or move them to a folder. A move can be undone."],
  ["Map", "The points and cameras of a map that covis map made. Drag to turn, click a camera for its photo and what it shares with others; arrows turn, with Shift they move, + and - zoom, n and p change the photo. Drop another photo to see where it was taken."],
  ["Dense", "Click a place in one picture to see what is most like it in another. Or draw a mask on a frame, and have it carried through the frames after it."],
  ["Long work", "It goes on when the page is loaded again; Stop ends it."],
];
document.getElementById("help").addEventListener("click", () => dialog("Help", h("div", {},
  HELP.map(([title, text]) => [h("h2", {}, title), h("p", {}, text)]),
  h("p", {}, h("kbd", {}, "1"), " ", h("kbd", {}, "2"), " ", h("kbd", {}, "3"), " ", h("kbd", {}, "4"), " ", h("kbd", {}, "5"), " change the page, ", h("kbd", {}, "?"), " opens this, ", h("kbd", {}, "Esc"), " closes it."),
  h("p", { class: "soft small" }, "Everything runs on this computer; nothing is loaded from elsewhere.")), true));

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  const name = Object.keys(pages)[Number(event.key) - 1];
  if (name) location.hash = `#/${name}`;
  else if (event.key === "?") document.getElementById("help").click();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();  // The address says which page is shown.
  document.getElementById("page").focus();
});
addEventListener("hashchange", open);
open();
