// What all pages share: elements, questions to the server, short notes.

/** An element: h("p", {class: "soft", onclick: f}, "text", child). */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

export class Refused extends Error {}

/** Ask the server: a GET, or a POST where there is a body. Throws Refused with the server's line. */
export async function ask(path, body, signal) {
  const options = body === undefined ? { signal } : {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal,
  };
  return read(await reached(path, options));
}

/** What the server sends that is no JSON, as an ArrayBuffer. Throws Refused as `ask` does. */
export async function bytes(path, body, signal) {
  const answer = await reached(path, body === undefined ? { signal } : { method: "POST", body: JSON.stringify(body), signal });
  if (!answer.ok) await read(answer);
  return answer.arrayBuffer();
}

/** Have the browser save what the server sends under a name. Throws Refused as `ask` does. */
export async function save(path, name, body) {
  const link = h("a", { href: URL.createObjectURL(new Blob([await bytes(path, body)])), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Upload a file; gives {id, name, width, height}. */
export async function upload(file) {
  const name = encodeURIComponent(file.name || "pasted.png");
  return read(await reached(`/api/upload?name=${name}`, { method: "POST", body: file }));
}

async function reached(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("covis does not answer: is it still running in the terminal?");
  }
}

async function read(answer) {
  const text = await answer.text();
  let said = null;
  try { said = JSON.parse(text); } catch { /* a plain line */ }
  if (!answer.ok) throw new Refused(said?.error || text.trim() || `covis failed (${answer.status}).`);
  return said;
}

/** Bring what was asked for into view, where it begins near the window's bottom or below it. */
export function bring(element) {
  const { top } = element.getBoundingClientRect();
  if (top > 0.6 * window.innerHeight) element.scrollIntoView({ block: "start" });
}

export const pictureUrl = (id, size) => `/pictures/${id}?size=${size}`;

/** A note at the bottom, for some seconds. */
export function note(text) {
  const made = h("div", {}, text);
  document.getElementById("notes").append(made);
  setTimeout(() => made.remove(), 4000);
}

export const failure = (text) => h("div", { class: "error", role: "alert" }, text);

export function counted(count, word, words) {
  return `${count.toLocaleString("en")} ${count === 1 ? word : words || word + "s"}`;
}

/** A dialog with a title and a button to close it; Escape does so, too. */
export function dialog(title, content, narrow = false) {
  const close = h("button", { class: "quiet", onclick: () => made.close() }, "Close");
  const made = h("dialog", { class: narrow ? "narrow" : "", "aria-label": title },
    h("div", { class: "row" }, h("h1", { class: "grow" }, title), close), content);
  made.addEventListener("close", () => made.remove());
  made.addEventListener("click", (event) => { if (event.target === made) made.close(); });
  document.body.append(made);
  made.showModal();
  return made;
}

/** Say at a place why the server refused; what was left is no matter, any other error is thrown. */
export function tell(error, place) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Refused)) throw error;
  place.append(failure(error.message));
}

/** A labelled choice. words: what is shown in place of a value. */
export function select(label, name, values, chosen, title, words = {}) {
  return h("label", { title }, label, h("select", { name },
    values.map((each) => h("option", { value: each, selected: each === chosen }, words[each] || each))));
}

export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    note("Copied.");
  } catch {
    dialog("Copy this path", h("p", {}, h("code", {}, text)), true);
  }
}
