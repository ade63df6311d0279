// A sweep that goes on: what is under way, renewed while one looks, and the page's other sections
// when there is a new ranking of what has ended.

import { lineChart } from "./chart.js";
import { showDialog } from "./dialog.js";
import { html } from "./elements.js";
import { depthPanel } from "./model_panel.js";
import { count, significant } from "./words.js";

const EVERY = 1500;
/** Milliseconds between two looks at a sweep that goes on, and at one that does not. */
const RESTING = 10_000;
/** Sections that the page's scripts draw from its data, and are not replaced. */
const KEPT = ["ranking", "settings", "quality", "alpha", "decision"];

/** Follows a run: shows what is under way; when there is another ranking, calls `whenRanked(document,
 * sections)` with the page anew and those of its sections that were put into this one; and loads the page again when the sweep begins or ends. */
export class Live {
  constructor(review, whenRanked) {
    this.review = review;
    this.whenRanked = whenRanked;
    this.started = new Promise((settle) => {
      this.settle = settle;
    });
    this.running = null;
    this.ranking = undefined;
    this.element = html("section", {
      "aria-labelledby": "under-way",
      class: "under-way review-only",
    });
    this.trainings = html("div", { class: "trainings" });
    this.element.append(this.trainings);
    this.articles = new Map();
    this.#look();
  }

  async #look() {
    let wait = this.running ? EVERY : RESTING;
    try {
      const found = document.hidden ? null : await this.review.live();
      if (found) await this.#show(found);
      if (found?.running) wait = EVERY;
      if (this.lost) this.lost.remove();
      this.lost = null;
    } catch (error) {
      wait = RESTING;
      this.lost ??= html("p", { class: "bad", role: "status" });
      this.lost.textContent = `Not up to date: ${error.message}`;
      document.querySelector("main").prepend(this.lost);
    }
    setTimeout(() => this.#look(), wait);
  }

  async #show(found) {
    if (this.running !== null && this.running !== found.running) {
      location.reload();
      return;
    }
    this.running = found.running;
    this.settle(found.running);
    if (!found.running) return;
    if (!this.element.isConnected) document.querySelector("main").prepend(this.element);
    for (const old of [...this.element.children]) if (old !== this.trainings) old.remove();
    this.trainings.before(...progress(found));
    this.#showTrainings(found);
    if (this.ranking !== found.ranking) {
      const first = this.ranking === undefined;
      this.ranking = found.ranking;
      // What the page was opened with is as new, or newer.
      if (!first && found.ranking !== null) await this.#renew();
    }
  }

  #showTrainings({ under_way: trainings, metric }) {
    const before = this.articles;
    this.articles = new Map();
    for (const each of trainings) {
      const key = `${each.trial} ${each.model_id}`;
      this.articles.set(key, renewed(before.get(key), training(each, metric, this.review)));
    }
    const articles = [...this.articles.values()];
    const { children } = this.trainings;
    if (
      articles.length === children.length &&
      articles.every((each, place) => each === children[place])
    ) {
      return;
    }
    const focused = document.activeElement;
    this.trainings.replaceChildren(...articles);
    if (this.trainings.contains(focused)) focused.focus({ preventScroll: true });
  }

  async #renew() {
    const answer = await fetch(location.pathname);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (Boolean(page.getElementById("table")) !== Boolean(document.getElementById("table"))) {
      location.reload();
      return;
    }
    this.whenRanked(page, replaceSections(page));
  }
}

/** Puts the sections of `page` in the place of this page's, and returns them. */
function replaceSections(page) {
  const put = [];
  const nameOf = (section) => section.getAttribute("aria-labelledby");
  const own = new Map();
  for (const section of document.querySelectorAll("main > section:not(.review-only)")) {
    own.set(nameOf(section), section);
  }
  let last = null;
  for (const section of [...page.querySelectorAll("main > section")]) {
    const name = nameOf(section);
    const old = own.get(name);
    own.delete(name);
    if (old && KEPT.includes(name)) {
      last = old;
      continue;
    }
    const fresh = document.importNode(section, true);
    if (old) old.replaceWith(fresh);
    else if (last) last.after(fresh);
    last = fresh;
    put.push(fresh);
  }
  for (const gone of own.values()) gone.remove();
  return put;
}

/** `old` with what `fresh` holds but for its button, which stays in its place: it may be what is
 * focused, or what a dialog goes back to. `fresh` where either has none. */
function renewed(old, fresh) {
  const [kept, other] = [old, fresh].map((each) => each?.querySelector(":scope > button"));
  if (!kept || !other) return fresh;
  for (const child of [...old.children]) if (child !== kept) child.remove();
  other.remove();
  kept.before(...fresh.children);
  return old;
}

function progress({ trials, counts, trouble }) {
  const done = counts.complete + counts.pruned + counts.failed;
  const parts = [`${done} of ${count(trials, "trial")} ended`];
  for (const state of ["running", "pruned", "failed"]) {
    if (counts[state]) parts.push(`${counts[state]} ${state}`);
  }
  return [
    html("h2", { id: "under-way" }, "This sweep goes on"),
    html(
      "p",
      { class: "progress" },
      html("progress", { max: trials, value: done, "aria-label": "Trials ended" }),
      html("span", { role: "status" }, `${parts.join(", ")}.`),
    ),
    html(
      "p",
      { class: "quiet" },
      "All below is of the models that have ended so far, and is renewed as more do; intervals at other values of α, and which setting matters, come with the report at the end.",
    ),
    trouble ? html("p", { class: "bad" }, trouble) : null,
  ].filter(Boolean);
}

function training(each, metric, review) {
  const name = `${each.architecture} · ${each.init}`;
  const settings = Object.entries(each.settings)
    .map(
      ([key, value]) =>
        `${key.split(".").at(-1).replaceAll("_", " ")} ${typeof value === "number" ? significant(value) : value}`,
    )
    .join(", ");
  const chart = (title, curve, log) =>
    curve?.steps.length > 1
      ? lineChart({
          title,
          x: { label: "step", domain: [0, each.total_steps] },
          y: { label: title, log },
          lines: [
            {
              name: title,
              key: "A",
              xs: curve.steps,
              ys: curve.mean,
              low: curve.low,
              high: curve.high,
            },
          ],
          width: 420,
          height: 190,
        })
      : null;
  return html(
    "article",
    {},
    html("h3", {}, `Trial ${each.trial}: ${name}`),
    html("p", { class: "quiet" }, settings),
    html(
      "p",
      { class: "progress" },
      html("progress", {
        max: each.total_steps,
        value: each.step,
        "aria-label": `Steps of trial ${each.trial}`,
      }),
      html(
        "span",
        {},
        `step ${each.step} of ${each.total_steps}, ${count(each.seeds.length, "seed")}`,
      ),
    ),
    html(
      "div",
      { class: "curves" },
      ...[
        chart("Training loss", each.train_loss),
        chart(`Validation ${metric.replaceAll("_", " ")}`, each.metric),
        chart("Change rate", each.change_rate, true),
      ].filter(Boolean),
    ),
    each.change_rate
      ? html(
          "button",
          { type: "button", onclick: () => openTraining(review, each.model_id, name, metric) },
          "See it in depth",
        )
      : null,
  );
}

/** Shows a model that is still trained as those that are ranked can be shown. */
async function openTraining(review, id, name, metric) {
  let content;
  try {
    content = depthPanel(await review.details(id), name, { label: metric.replaceAll("_", " ") });
  } catch (error) {
    content = [html("p", { class: "bad" }, error.message)];
  }
  showDialog(name, [], content);
}
