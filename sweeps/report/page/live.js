// A sweep that goes on: what is under way, renewed while one looks, and the rest of the page when
// there is a new ranking of what has ended.

import { lineChart } from "./chart.js";
import { showDialog } from "./dialog.js";
import { html } from "./elements.js";
import { depthPanel } from "./model_panel.js";
import { isAlike, renewPage } from "./renewal.js";
import { count, plain, readable } from "./words.js";

/** Milliseconds between two looks at a sweep that goes on, and at one that does not. */
const EVERY = 1500;
const RESTING = 10_000;

/** Follows a run: shows what is under way; when there is another ranking, puts the page made anew in
 * the place of this one and calls `whenRanked(document, elements)` with it and what was put; and
 * loads the page again when the sweep begins or ends. */
export class Live {
  constructor(review, whenRanked) {
    this.review = review;
    this.whenRanked = whenRanked;
    /** Whether the sweep goes on, once that is known. */
    this.started = new Promise((settle) => {
      this.settle = settle;
    });
    this.running = null;
    this.ranking = review.ranking;
    this.element = null;
    this.#look();
  }

  async #look() {
    try {
      const found = document.hidden ? null : await this.review.live();
      if (found) await this.#show(found);
      this.lost?.remove();
      this.lost = null;
    } catch (error) {
      // What was answered was not all shown: it is asked for again.
      this.review.tag = null;
      this.lost ??= html("p", { class: "bad", role: "status" });
      this.lost.textContent = `Not up to date: ${error.message}`;
      document.querySelector("main").prepend(this.lost);
    }
    setTimeout(() => this.#look(), this.running && !this.lost ? EVERY : RESTING);
  }

  async #show(found) {
    if (this.running !== null && this.running !== found.running) {
      location.reload();
      return;
    }
    this.running = found.running;
    this.settle(found.running);
    if (!found.running) return;
    if (!this.element) {
      this.element = new UnderWay(this.review, found.metric);
      document.querySelector("main").prepend(this.element.section);
    }
    this.element.show(found);
    if (found.ranking !== null && found.ranking !== this.ranking) await this.#renew(found.ranking);
  }

  async #renew(ranking) {
    const answer = await fetch(location.pathname);
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!isAlike(page)) {
      location.reload();
      return;
    }
    await this.whenRanked(page, renewPage(page));
    this.ranking = ranking;
  }
}

/** The section that tells of the trainings under way. */
class UnderWay {
  constructor(review, metric) {
    this.review = review;
    this.metric = metric.replaceAll("_", " ");
    this.trainings = new Map();
    this.bar = html("progress", { "aria-label": "Trials ended" });
    this.counts = html("span", { role: "status" });
    this.trouble = html("p", { class: "bad", hidden: true });
    this.list = html("div", { class: "trainings" });
    this.section = html(
      "section",
      { "aria-labelledby": "under-way", class: "under-way review-only" },
      html("h2", { id: "under-way" }, "This sweep goes on"),
      html("p", { class: "progress" }, this.bar, this.counts),
      html(
        "p",
        { class: "quiet" },
        "All below is of the models that have ended so far, and is renewed as more do; intervals at other values of α, and which setting matters, come with the report at the end.",
      ),
      this.trouble,
      this.list,
    );
  }

  show({ trials, counts, under_way: trainings, trouble }) {
    const done = counts.complete + counts.pruned + counts.failed;
    const parts = [`${done} of ${count(trials, "trial")} ended`];
    for (const state of ["running", "pruned", "failed"]) {
      if (counts[state]) parts.push(`${counts[state]} ${state}`);
    }
    this.bar.max = trials;
    this.bar.value = done;
    this.counts.textContent = `${parts.join(", ")}.`;
    this.trouble.hidden = !trouble;
    this.trouble.textContent = trouble && `The ranking so far can't be made: ${trouble}`;
    const keys = trainings.map((each) => `${each.trial} ${each.seeds}`);
    for (const [key, { article }] of this.trainings) {
      if (keys.includes(key)) continue;
      article.remove();
      this.trainings.delete(key);
    }
    trainings.forEach((each, index) => {
      if (!this.trainings.has(keys[index])) {
        const training = new Training(this.review, this.metric, each);
        this.trainings.set(keys[index], training);
        this.list.append(training.article);
      }
      this.trainings.get(keys[index]).show(each);
    });
  }
}

/** One training under way, or the replicates of a model as one. */
class Training {
  constructor(review, metric, { trial, architecture, init, settings, model_id, total_steps }) {
    this.metric = metric;
    this.id = model_id;
    this.bar = html("progress", { max: total_steps, "aria-label": `Steps of trial ${trial}` });
    this.step = html("span");
    this.curves = html("div", { class: "curves" });
    const name = `${architecture} · ${init}`;
    this.button = html(
      "button",
      { type: "button", hidden: true, onclick: () => openTraining(review, model_id, name, metric) },
      "See it in depth",
    );
    const words = Object.entries(settings).map(
      ([key, value]) => `${readable(key)} ${plain(value)}`,
    );
    this.article = html(
      "article",
      {},
      html("h3", {}, `Trial ${trial}: ${name}`),
      html("p", { class: "quiet" }, words.join(", ")),
      html("p", { class: "progress" }, this.bar, this.step),
      this.curves,
      this.button,
    );
  }

  show({ step, total_steps, seeds, train_loss, metric, change_rate }) {
    this.bar.value = step;
    this.step.textContent = `step ${step} of ${total_steps}, ${count(seeds.length, "seed")}`;
    const drawings = [
      curve("Training loss", train_loss, total_steps),
      curve(`Validation ${this.metric}`, metric, total_steps),
      curve("Change rate", change_rate, total_steps, true),
    ];
    this.curves.replaceChildren(...drawings.filter(Boolean));
    this.button.hidden = !change_rate || !this.id;
  }
}

function curve(title, found, steps, log = false) {
  if (!(found?.steps.length > 1)) return null;
  const { steps: xs, mean: ys, low, high } = found;
  return lineChart({
    title,
    x: { label: "step", domain: [0, steps] },
    y: { label: title, log },
    lines: [{ name: title, key: "A", xs, ys, low, high }],
    width: 420,
    height: 190,
  });
}

/** Shows a model that is still trained as those that are ranked can be shown. */
async function openTraining(review, id, name, metric) {
  let content;
  try {
    content = depthPanel(await review.details(id), name, { label: metric });
  } catch (error) {
    content = [html("p", { class: "bad" }, error.message)];
  }
  showDialog(name, [], content);
}
