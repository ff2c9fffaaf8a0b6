// Work on the server: followed by its id, so that a page that was loaded again finds it.
import { ask, counted, failure, h, Refused } from "./dom.js";

/** Follow a job until it is over. `told` is called with each news. Gives the last one. */
export async function follow(job, told, signal) {
  let version = -1;
  for (;;) {
    const news = await ask(`/api/jobs/${encodeURIComponent(job)}?after=${version}`, undefined, signal);
    version = news.version;
    told?.(news);
    if (["done", "failed", "cancelled"].includes(news.state)) return news;
  }
}

/** Show a job's progress in `place`, with a button to stop it, and `shown` what it answers. */
export async function show(job, place, { shown, partly, again, pauses = false }, signal) {
  const bar = h("progress", {});
  const words = h("span", { class: "small soft" }, "Waiting ...");
  const stop = h("button", { class: "small", onclick: async () => {
    stop.disabled = true;
    try { await ask(`/api/jobs/${job}/cancel`, {}); } catch (error) { place.append(failure(error.message)); }
  } }, pauses ? "Pause" : "Stop");
  const line = h("div", { class: "progress" }, bar, words, stop);
  place.replaceChildren(line);
  try {
    const last = await follow(job, (news) => {
      const { stage, done, total, rate, left } = news.progress;
      if (total) { bar.max = total; bar.value = done; }
      words.textContent = !stage ? "Waiting ..." : !total ? `${stage} ...` :
        `${stage} ${Math.round(done)} of ${total}` + (rate ? `, ${rate.toFixed(1)} a second` : "") +
        (left ? `, ${duration(left)} left` : "");
      if (news.answer && news.state === "running") partly?.(news.answer);
    }, signal);
    line.remove();
    if (last.state === "done") shown(last.answer);
    else if (last.state === "failed") place.replaceChildren(failure(last.error));
    else {
      place.replaceChildren(h("p", { class: "soft" }, pauses ? "Paused. " : "Stopped. ",
        again ? h("button", { class: "small", onclick: again }, "Go on") : ""));
    }
    return last;
  } catch (error) {
    if (error.name === "AbortError") return null;
    if (!(error instanceof Refused)) throw error;
    place.replaceChildren(failure(error.message));
    return null;
  }
}

function duration(seconds) {
  return seconds < 90 ? counted(Math.ceil(seconds), "second") : counted(Math.ceil(seconds / 60), "minute");
}
