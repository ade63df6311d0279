// Brings the page to life: the ranking at any α and of any kind, models in depth, side by side.
// Without it, the page still says what was reported.

import { drawAlpha } from "./alpha_chart.js";
import { compare, rankingColumns, SHOWN } from "./columns.js";
import { controls, kindsOf } from "./controls.js";
import { components, goodness, unpacked } from "./data.js";
import { showDialog } from "./dialog.js";
import { html } from "./elements.js";
import { below, chartButtons, fileName, tableButtons } from "./exporting.js";
import { matcher } from "./find.js";
import { Live } from "./live.js";
import { depthPanel, modelPanel } from "./model_panel.js";
import { Parallel } from "./parallel.js";
import { paretoFront, ranked, scoresAt } from "./ranking.js";
import { DecisionForm, Review } from "./review.js";
import { Scatter } from "./scatter_chart.js";
import { withButtons } from "./static_tables.js";
import { Table } from "./table.js";
import { View } from "./view.js";
import { count } from "./words.js";

const SETTLED = 120;
/** Milliseconds without a change after which the slow drawings follow, of sweeps with more than
 * `QUICK` models. */
const QUICK = 400;
const ORDERING = ["alpha", "reading", "stability", "explainability", "change_rate"];
const MOST_SETTINGS = 6;
/** Settings that get an axis: those that most models have. */
const FIGURES = ["traceability", "stability", "explainability", "metric"];

/** The models in order, under a view: what every part of the page draws. `before` is the order
 * under another view, of which what α doesn't change is kept. */
export function ordered(data, view, before = null) {
  const { models, metric } = data;
  const kinds = ORDERING.slice(1)
    .map((name) => view[name])
    .join();
  const same = before?.kinds === kinds;
  const [first, second] = same ? [before.first, before.second] : components(models, view);
  const good = before?.good ?? goodness(models, metric);
  const scores = scoresAt(first, second, view.alpha);
  const order = ranked(scores, good, models.model_id, same ? before.order : null);
  const ranks = Array(scores.length).fill(null);
  for (let place = 0; place < order.length; place++) ranks[order[place]] = place + 1;
  const front = same ? before.front : new Set(paretoFront([first, second, good]));
  return { kinds, first, second, good, scores, order, ranks, front, ...intervalsAt(data, view) };
}

/** The ranks that the data allow: as reported, or of a hundredth of α and the kinds reported. */
function intervalsAt({ models, intervals }, view) {
  if (view.asReported) return { low: models.rank_low, high: models.rank_high };
  const index = Math.round(view.alpha * 100);
  const onGrid = view.kindsAsReported && Math.abs(view.alpha * 100 - index) < 1e-9;
  return (onGrid && intervals[index]) || { low: null, high: null };
}

class Page {
  constructor(data, review) {
    this.review = review;
    this.view = new View({ ...data.view, columns: SHOWN });
    this.#take(data);
    this.#readAddress();
    addEventListener("hashchange", () => this.#readAddress());
    this.#build();
    this.view.whenChanged((_, changed) => this.#soon(changed));
    this.draw();
  }

  #take(data) {
    this.data = data;
    this.kinds = kindsOf(data.models);
    const { name, settings, model_id } = data.models;
    this.all = [...model_id.keys()];
    this.texts = this.all.map((m) =>
      `${name[m]} ${JSON.stringify(settings[m])} ${model_id[m]}`.toLowerCase(),
    );
    this.order = ordered(data, this.view);
  }

  /** Go on with other data, under the same view: models have come in. */
  renew(data) {
    this.view.takeDefaults(data.view);
    this.#take(data);
    this.chartsMoved = true;
    this.draw();
    // A setting that no model had before has no box among the columns.
    if (this.#columnIds() !== this.columnsBuilt) location.reload();
  }

  get valid() {
    return {
      ...this.kinds,
      reading: ["calibrated", "article"],
      baseline: this.data.models.model_id,
    };
  }

  #readAddress() {
    if (location.hash.includes("=")) {
      const ids = this.#columns().map(({ id }) => id);
      this.view.readFragment(location.hash, { ...this.valid, sort: ids, column: ids });
    } else if (location.hash) {
      // A place in the page, which the browser has gone to: the view stays in the address.
      this.#writeAddress(true);
    }
  }

  #columns() {
    return rankingColumns(this.data, this.view, this.order, (model) => this.open(model));
  }

  #columnIds() {
    return this.#columns()
      .map(({ id }) => id)
      .join();
  }

  #build() {
    this.columnsBuilt = this.#columnIds();
    const shown = () => ({ columns: this.shownColumns, rows: this.rows });
    const built = controls(this.view, {
      kinds: this.kinds,
      columns: this.#columns(),
      exports: tableButtons("ranking", shown),
    });
    this.noted = built.noted;
    document.getElementById("controls").replaceChildren(built.element);
    this.table = new Table(document.getElementById("table"), {
      caption: "Ranked models; press a head to sort, a model to see it in depth",
      rowClass: (model) => (this.order.low?.[model] === 1 ? "first" : ""),
      whenSorted: (id) =>
        this.view.change({ sort: id, descending: this.view.sort === id && !this.view.descending }),
    });
    const parallel = document.getElementById("parallel");
    this.parallel = parallel && new Parallel(parallel, this.view);
    const scatter = document.getElementById("scatter");
    this.scatter = scatter && new Scatter(scatter, (model) => this.open(model));
    parallel?.after(below(chartButtons("settings", () => this.parallel.whole())));
    scatter?.after(below(chartButtons("traceability-and-metric", () => this.scatter.whole())));
    addSaving(document.querySelector("main"));
    this.openUnranked(document.querySelector("main"));
  }

  /** Makes the names of models that are not ranked, in `part`, buttons by which they are opened:
   * those of which there is something to show. */
  async openUnranked(part) {
    await this.data.read;
    for (const name of within(part, "[data-unranked]")) {
      const { unranked: id, name: title } = name.dataset;
      if (!this.review && !this.data.details[id]) continue;
      const reason = name.closest("tr").cells[1].textContent;
      const open = () => this.#openUnranked(id, title, reason);
      const press = { type: "button", class: "open", onclick: open };
      name.replaceChildren(html("button", press, name.textContent));
    }
  }

  #openUnranked(id, name, reason) {
    const { details, metric } = this.data;
    const show = () => {
      const depth = details[id] ? depthPanel(details[id], name, metric) : [];
      return showDialog(name, [], [html("p", {}, `Not ranked: ${reason}.`), ...depth]);
    };
    const isShown = show();
    if (!details[id]) this.#fetch([id], () => isShown() && show());
  }

  /** Draws at the next frame, however many changes there were. */
  #soon(changed) {
    this.changed = new Set([...(this.changed ?? []), ...changed]);
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const what = this.changed;
      this.changed = null;
      this.draw(what);
    });
  }

  draw(changed = null) {
    const moved = !changed || ORDERING.some((name) => changed.has(name));
    if (moved) this.order = ordered(this.data, this.view, this.order);
    const columns = this.#columns();
    const { sort, descending, baseline } = this.view;
    const shown = new Set([...this.view.columns, sort]);
    this.shownColumns = columns.filter(({ id }) => shown.has(id));
    this.rows = this.#rows(columns);
    const pinned = baseline ? [this.data.models.model_id.indexOf(baseline)] : [];
    this.table.show({
      columns: this.shownColumns,
      rows: this.rows,
      pinned,
      sorted: { id: sort, descending },
      isStale: ({ turned }) => turned || !changed || [...changed].some((name) => name !== "alpha"),
    });
    this.noted.textContent = this.#note();
    clearTimeout(this.settling);
    this.chartsMoved ||= moved;
    this.addressChanged ||= changed;
    if (this.all.length <= QUICK) this.#settle(columns);
    else this.settling = setTimeout(() => this.#settle(columns), SETTLED);
  }

  #settle(columns) {
    this.#writeAddress(this.addressChanged);
    this.addressChanged = null;
    this.#drawCharts(columns);
  }

  #drawCharts(columns) {
    const frame = document.getElementById("alpha-chart");
    if (this.chartsMoved && frame) {
      drawAlpha(frame, this.data, this.view, this.order, (model) => this.open(model));
    }
    this.chartsMoved = false;
    const found = new Set(this.rows);
    this.scatter?.show(this.data, this.view, this.order, found);
    if (!this.parallel) return;
    const named = (names) => names.map((name) => columns.find(({ id }) => id === name));
    const having = (column) =>
      this.all.reduce((sum, model) => sum + (column.value(model) !== null), 0);
    const settings = columns
      .filter(({ id }) => id.startsWith("setting:"))
      .sort((a, b) => having(b) - having(a))
      .slice(0, MOST_SETTINGS);
    const last = Math.max(1, this.all.length - 1);
    const share = (model) => 1 - ((this.order.ranks[model] ?? this.all.length) - 1) / last;
    this.parallel.show(
      [...named(["architecture", "init"]), ...settings, ...named(FIGURES)],
      this.all,
      found,
      share,
    );
  }

  #rows(columns) {
    const { sort, descending, find } = this.view;
    const { order, ranks } = this.order;
    const every =
      order.length < this.all.length
        ? [...order, ...this.all.filter((model) => ranks[model] === null)]
        : order;
    const rows = find.trim()
      ? every.filter(matcher(find, columns, (model) => this.texts[model]))
      : [...every];
    const column = columns.find(({ id }) => id === sort);
    if (!column || (sort === "rank" && !descending)) return rows;
    const values = new Map(rows.map((model) => [model, column.value(model)]));
    return rows.sort(
      (a, b) => compare(values.get(a), values.get(b), descending) || ranks[a] - ranks[b],
    );
  }

  #note() {
    const { view } = this;
    const all = this.all.length.toLocaleString("en");
    const among = this.rows.length < this.all.length ? ` of ${all}` : "";
    const lacking = this.all.length - this.order.order.length;
    const parts = [`${count(this.rows.length, "model")}${among}.`];
    if (lacking) parts.push(`${count(lacking, "model")} can't be scored by these kinds.`);
    if (!view.asReported) {
      const alone = this.order.low ? "P(first) holds" : "rank intervals and P(first) hold";
      parts.push(`This is another order than the reported one, for which alone ${alone}.`);
      if (view.kindsAsReported) {
        parts.push(`For this α: tracerank report RUN_DIR --alpha ${view.alpha}`);
      } else if (view.reading === "calibrated") {
        const kinds = `stability: ${view.stability}, explainability: ${view.explainability}`;
        parts.push(`For these kinds: "ranking: {${kinds}}" in a configuration.`);
      }
    }
    return parts.join(" ");
  }

  #writeAddress(changed) {
    if (!changed) return;
    const fragment = this.view.toFragment();
    if (fragment) history.replaceState(null, "", `#${fragment}`);
    else if (location.hash.includes("=")) history.replaceState(null, "", location.pathname);
  }

  async open(model) {
    await this.data.read;
    const { models, details } = this.data;
    const id = models.model_id[model];
    const isBase = this.view.baseline === id;
    const actions = [
      {
        text: isBase ? "No longer compare with this one" : "Compare the others with this one",
        act: () => this.view.change({ baseline: isBase ? "" : id }),
      },
    ];
    if (this.decision) {
      actions.push({ text: "Decide for this one", act: () => this.decision.choose(id) });
    }
    const show = () =>
      showDialog(models.name[model], actions, modelPanel(this.data, this.view, this.order, model));
    const isShown = show();
    const lacking = [id, this.view.baseline].filter((each) => each && !details[each]);
    if (this.review && lacking.length) this.#fetch(lacking, () => isShown() && show());
  }

  async #fetch(ids, then) {
    try {
      for (const id of ids) this.data.details[id] = await this.review.details(id);
    } catch {
      // The panel says that the curves aren't there.
      return;
    }
    then();
  }
}

/** Buttons by which what is written in the page can be saved. */
function addSaving(part) {
  for (const chart of within(part, "#timelines svg")) {
    const name = fileName(chart.querySelector("title").textContent);
    chart.after(below(chartButtons(name, chart)));
  }
  for (const frame of within(part, ".scroll:not(#table)")) withButtons(frame);
}

/** The elements in `part`, and itself, that a selector is of. */
function within(part, selector) {
  return [...(part.matches(selector) ? [part] : []), ...part.querySelectorAll(selector)];
}

/** The data of a page, or null where no model is ranked. The models in depth, which stand behind
 * the script so that a reader needn't wait for them, come later: `read` says when. */
async function dataOf(page) {
  const packed = page.getElementById("data");
  if (!packed || !page.getElementById("table")) return null;
  const data = { ...(await unpacked(packed.textContent)), details: {} };
  data.read = inDepth(data, page);
  return data;
}

async function inDepth(data, page) {
  if (page.readyState === "loading") {
    await new Promise((done) => page.addEventListener("DOMContentLoaded", done));
  }
  Object.assign(data.details, await unpacked(page.getElementById("details").textContent));
}

async function start() {
  const review = Review.ofPage();
  const data = await dataOf(document);
  if (data) {
    document.documentElement.classList.add("scripted");
    window.page = new Page(data, review);
  }
  if (review) follow(review, window.page);
}

/** What the review server adds: a decision, or what is under way. */
async function follow(review, page) {
  const live = new Live(review, async (fresh, elements) => {
    if (!page) return;
    page.renew(await dataOf(fresh));
    for (const element of elements) {
      addSaving(element);
      page.openUnranked(element);
    }
  });
  if (!page || (await live.started)) return;
  page.decision = new DecisionForm(review, page.data);
  document.querySelector("main > section[aria-labelledby=ranking]").after(page.decision.element);
}

if (typeof document !== "undefined") start();
