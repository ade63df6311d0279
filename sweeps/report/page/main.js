// Brings the page to life: the ranking at any α and of any kind, models in depth, side by side.
// Without it, the page still says what was reported.

import { drawAlpha } from "./alpha_chart.js";
import { compare, rankingColumns, SHOWN } from "./columns.js";
import { controls, kindsOf } from "./controls.js";
import { components, goodness, unpacked } from "./data.js";
import { html } from "./elements.js";
import { tableButtons } from "./exporting.js";
import { matcher } from "./find.js";
import { modelPanel } from "./model_panel.js";
import { Parallel } from "./parallel.js";
import { leaders, paretoFront, ranked, rankSteps, scoresAt } from "./ranking.js";
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
  constructor(data) {
    this.data = data;
    this.view = new View(data.view);
    this.kinds = kindsOf(data.models);
    this.chosen = new Set(SHOWN);
    this.dialog = document.getElementById("model");
    this.all = [...data.models.model_id.keys()];
    const { name, settings, model_id } = data.models;
    this.texts = this.all.map((m) =>
      `${name[m]} ${JSON.stringify(settings[m])} ${model_id[m]}`.toLowerCase(),
    );
    this.order = ordered(data, this.view);
    this.#readAddress();
    addEventListener("hashchange", () => this.#readAddress());
    this.#build();
    this.view.whenChanged((_, changed) => this.#soon(changed));
    this.draw();
  }

  /** What a console or a test may ask for. */
  get functions() {
    return { leaders, rankSteps };
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
      const sort = this.#columns().map(({ id }) => id);
      this.view.readFragment(location.hash, { ...this.valid, sort });
    } else if (location.hash) {
      // A place in the page, which the browser has gone to: the view stays in the address.
      this.#writeAddress(true);
    }
  }

  #columns() {
    return rankingColumns(this.data, this.view, this.order, (model) => this.open(model));
  }

  #build() {
    const shown = () => ({ columns: this.shownColumns, rows: this.rows });
    const built = controls(this.view, {
      kinds: this.kinds,
      columns: this.#columns().filter(({ id }) => id !== "rank" && id !== "model"),
      chosen: this.chosen,
      whenChosen: (id, wanted) => {
        if (wanted) this.chosen.add(id);
        else this.chosen.delete(id);
        this.draw();
      },
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
    this.dialog.addEventListener("close", () => this.opened?.focus());
    const frame = document.getElementById("parallel");
    this.parallel = frame && new Parallel(frame, this.view);
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
    this.shownColumns = columns.filter(({ id }) => this.chosen.has(id) || id === this.view.sort);
    this.rows = this.#rows(columns);
    const { sort, descending, baseline } = this.view;
    const pinned = baseline ? [this.data.models.model_id.indexOf(baseline)] : [];
    this.table.show({
      columns: this.shownColumns,
      rows: this.rows,
      pinned,
      sorted: { id: sort, descending },
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
      new Set(this.rows),
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
    const { models } = this.data;
    this.opened = document.activeElement;
    await this.data.read;
    const id = models.model_id[model];
    const isBase = this.view.baseline === id;
    const compareButton = html(
      "button",
      {
        type: "button",
        onclick: () => {
          this.view.change({ baseline: isBase ? "" : id });
          this.dialog.close();
        },
      },
      isBase ? "No longer compare with this one" : "Compare the others with this one",
    );
    const title = html("h2", { id: "model-title" }, models.name[model]);
    this.dialog.replaceChildren(
      html(
        "div",
        { class: "dialog-head" },
        title,
        html(
          "span",
          { class: "dialog-buttons" },
          compareButton,
          html("button", { type: "button", onclick: () => this.dialog.close() }, "Close"),
        ),
      ),
      ...modelPanel(this.data, this.view, this.order, model),
    );
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
  }
}

/** Fills in the models in depth, which stand behind this script: a reader needn't wait for them. */
async function inDepth(data) {
  if (document.readyState === "loading") {
    await new Promise((done) => document.addEventListener("DOMContentLoaded", done));
  }
  data.details = await unpacked(document.getElementById("details").textContent);
}

async function start() {
  const packed = document.getElementById("data");
  if (packed && document.getElementById("table")) {
    const data = await unpacked(packed.textContent);
    document.documentElement.classList.add("scripted");
    data.details = {};
    data.read = inDepth(data);
    window.page = new Page(data);
  }
}

if (typeof document !== "undefined") start();
