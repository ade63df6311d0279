// The columns of the ranking: what each shows, sorts by, exports, and is called.

import { thinCurve } from "./data.js";
import { html, svg } from "./elements.js";
import {
  difference,
  MISSING,
  number,
  padded,
  percent,
  plain,
  readable,
  significant,
  span,
} from "./words.js";

/** Columns shown until the reader chooses. */
export const SHOWN = [
  ...["rank", "model", "interval", "traceability", "stability", "explainability"],
  ...["p_first", "metric", "metric_test", "replicates"],
];

function interval(low, high, rank, models) {
  const width = 84;
  const x = (place) => 4 + ((place - 1) / Math.max(1, models - 1)) * (width - 8);
  const box = {
    class: "interval",
    viewBox: `0 0 ${width} 12`,
    width,
    height: 12,
    "aria-hidden": "true",
  };
  return svg(
    "svg",
    box,
    svg("line", { class: "rail", x1: 4, x2: width - 4, y1: 6, y2: 6 }),
    svg("line", { class: "reach", x1: x(low), x2: x(high), y1: 6, y2: 6 }),
    svg("circle", { class: "at", cx: x(rank), cy: 6, r: 3.5 }),
  );
}

/** The columns for `data`; `order` is the current one: {scores, ranks, first, second, front}.
 *
 * Each column: `id`, `title`, `hint`, `value(model)` (what it sorts by, exports and compares),
 * `cell(model)`, and `turned` where its cells change with α alone. */
export function rankingColumns(data, view, order, open) {
  const { models, metric } = data;
  const base = view.baseline ? models.model_id.indexOf(view.baseline) : -1;
  const reported = view.asReported;

  function figures(id, title, hint, value, shown = number) {
    const cell = (model) => {
      const text = shown(value(model));
      if (base < 0 || model === base || value(model) === null || value(base) === null) return text;
      return html(
        "span",
        {},
        text,
        html("small", {}, difference(value(model) - value(base), shown)),
      );
    };
    return { id, title, hint, figure: true, value, cell, words: (model) => shown(value(model)) };
  }

  function stored(id, title, hint, shown) {
    return figures(id, title, hint, (model) => models[id][model], shown);
  }

  const direction = metric.direction === "minimize" ? "lower is better" : "higher is better";
  const first = view.reading === "article" ? "Change rate" : "Stability";
  const rank = {
    ...{ id: "rank", title: "Rank", hint: "By traceability at this α", figure: true, turned: true },
    value: (model) => order.ranks[model],
    words: (model) => plain(order.ranks[model]),
    cell: (model) =>
      html("strong", {}, order.ranks[model] === null ? MISSING : `${order.ranks[model]}`),
  };
  const told = (each) =>
    Object.entries(models.settings[each])
      .map(([name, value]) => `${readable(name)} ${plain(value)}`)
      .join(", ");
  const model = {
    ...{
      id: "model",
      title: "Model",
      hint: "Architecture, initialisation and what it doesn't share",
      heading: true,
    },
    value: (each) => models.name[each],
    words: (each) => [models.name[each], told(each)].filter(Boolean).join(", "),
    cell: (each) => {
      const name = [
        html("span", { class: "architecture" }, models.architecture[each]),
        ` ${models.init[each]}`,
        order.front.has(each) ? html("abbr", { title: "on the Pareto front" }, " ◆") : null,
      ];
      const press = { type: "button", class: "open", "data-id": models.model_id[each] };
      return html(
        "span",
        { class: "name-cell" },
        html("button", { ...press, onclick: () => open(each) }, name),
        html("small", { title: told(each) }, told(each)),
      );
    },
  };
  const range = {
    id: "interval",
    turned: true,
    title: "Interval",
    hint: "The ranks that the data allow, 95% together; for the reported kinds",
    value: (each) => order.low?.[each] ?? null,
    cell: (each) => {
      if (!order.low) return html("span", { class: "missing" }, MISSING);
      const [low, high] = [order.low[each], order.high[each]];
      const bar = interval(low, high, order.ranks[each], models.model_id.length);
      return html("span", { class: "range" }, bar, ` ${span(low, high)}`);
    },
    words: (each) => (order.low ? span(order.low[each], order.high[each]) : MISSING),
    fields: [
      ["rank_low", (each) => order.low?.[each] ?? null],
      ["rank_high", (each) => order.high?.[each] ?? null],
    ],
  };
  const chance = (each) => (reported ? models.p_first[each] : null);
  const columns = [
    ...[rank, model, range],
    {
      ...figures(
        "traceability",
        "Traceability",
        "α · stability + (1 − α) · explainability",
        (each) => order.scores[each],
      ),
      turned: true,
    },
    figures(
      "stability",
      first,
      `Kind: ${view.reading === "article" ? view.change_rate : view.stability}`,
      (each) => order.first[each],
      view.reading === "article" ? padded : number,
    ),
    figures(
      "explainability",
      "Explainability",
      `Kind: ${view.reading === "article" ? "1/N" : view.explainability}`,
      (each) => order.second[each],
      view.reading === "article" ? padded : number,
    ),
    {
      ...figures(
        "p_first",
        "P(first)",
        "Probability of being first, for the reported α and kinds",
        chance,
        percent,
      ),
      turned: true,
    },
    stored("share_first", "Share of α", "The part of all α at which it is first", percent),
    stored("metric", `Validation ${metric.label}`, `At the last evaluation; ${direction}`),
    stored("metric_best", "Best", `The best validation ${metric.label} of all evaluations`),
    stored("metric_test", "Test", `The ${metric.label} on data that chose nothing`),
    stored("change_rate", "Rate", "Mean change rate", padded),
    curveColumn(data.curves),
    stored(
      "article_score",
      "Article’s score",
      "As the article's code computes it, at α = 0.5",
      padded,
    ),
    stored("replicates", "Seeds", "Trainings", (value) => `${value}`),
    ...settingColumns(models),
    {
      ...{ id: "model_id", title: "Id", hint: "What the command line knows it by" },
      value: (each) => models.model_id[each],
      words: (each) => models.model_id[each],
      cell: (each) => html("code", {}, models.model_id[each]),
    },
  ];
  return columns;
}

const SPARK = { width: 96, height: 26, room: 3 };

/** The change rate over the steps, as a line on a logarithmic axis of its own. */
function curveColumn(curves) {
  const known = (model) => thinCurve(curves, model).mean.filter((rate) => rate !== null);
  const ends = (model) => [known(model)[0] ?? null, known(model).at(-1) ?? null];
  const words = (model) =>
    ends(model)
      .map((rate) => significant(rate))
      .join(" → ");
  return {
    ...{ id: "curve", title: "Change rate over steps" },
    hint: "Mean over the seeds, each on a logarithmic axis of its own; sorted by the last rate over the first",
    value: (model) => {
      const [first, last] = ends(model);
      return first === null ? null : last / first;
    },
    words,
    fields: [
      ["change_rate_first", (model) => ends(model)[0]],
      ["change_rate_last", (model) => ends(model)[1]],
    ],
    cell: (model) => {
      const { width, height, room } = SPARK;
      const { steps, mean } = thinCurve(curves, model);
      const [low, high] = [curves.low[model], curves.high[model]].map(Math.log);
      const x = (step) =>
        room + ((step - steps[0]) / (steps.at(-1) - steps[0] || 1)) * (width - 2 * room);
      const y = (rate) =>
        height - room - ((Math.log(rate) - low) / (high - low || 1)) * (height - 2 * room);
      let line = "";
      mean.forEach((rate, place) => {
        if (rate === null) return;
        const pen = line && mean[place - 1] !== null ? "L" : "M";
        line += `${pen}${x(steps[place]).toFixed(1)} ${y(rate).toFixed(1)}`;
      });
      if (!line) return html("span", { class: "missing" }, MISSING);
      const told = `Change rate from ${words(model).replace(" → ", " to ")}, at most ${significant(curves.high[model])}`;
      const box = { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height };
      return svg("svg", { ...box, role: "img", "aria-label": told }, svg("path", { d: line }));
    },
  };
}

/** A column for every setting in which the models differ. */
function settingColumns(models) {
  // The same at every drawing, and of ten thousand models not at once.
  models.settingNames ??= [...new Set(models.settings.flatMap((each) => Object.keys(each)))];
  const names = models.settingNames;
  const column = (id, title, value) => ({
    ...{ id, title, hint: `Setting ${title}`, value, figure: false },
    cell: (model) => plain(value(model)),
    words: (model) => plain(value(model)),
  });
  return [
    column("architecture", "Architecture", (model) => models.architecture[model]),
    column("init", "Init", (model) => models.init[model]),
    ...names.map((name) =>
      column(`setting:${name}`, readable(name), (model) => settingOf(models, model, name)),
    ),
  ];
}

/** A model's setting, or null; its name may be one that every object has. */
export function settingOf(models, model, name) {
  const settings = models.settings[model];
  return Object.hasOwn(settings, name) ? settings[name] : null;
}

/** Compares two values of a column, numbers as such and all else as texts. What is missing comes
 * last in either direction. */
export function compare(a, b, descending = false) {
  const absent = (value) => value === null || value === undefined || Number.isNaN(value);
  if (absent(a) || absent(b)) return absent(a) - absent(b);
  const sign = descending ? -1 : 1;
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * `${a}`.localeCompare(`${b}`, "en");
}
