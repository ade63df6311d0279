// One model in depth, or two side by side: what differs, how they moved, where, and when.

import { legend, lineChart } from "./chart.js";
import { settingOf } from "./columns.js";
import { thinCurve } from "./data.js";
import { html, save } from "./elements.js";
import { chartButtons } from "./exporting.js";
import { layersOf, phaseMarks } from "./layers.js";
import { verdictOn } from "./pairs.js";
import { partsOf } from "./parts.js";
import { capitalised, number, percent, plain, readable, significant, span } from "./words.js";

/** The panel's content for a model, beside the baseline if there is one. */
export function modelPanel(data, view, order, model) {
  const { models, details, metric } = data;
  const base = view.baseline ? models.model_id.indexOf(view.baseline) : -1;
  const both = base >= 0 && base !== model ? [model, base] : [model];
  const found = both.map((each) => details[models.model_id[each]]);
  return [
    both.length > 1 ? html("p", { class: "lede apart" }, verdictOn(data, view, order, both)) : null,
    facts(data, view, order, both),
    ...(found[0] ? curvesOf(data, both, found, metric) : rateOf(data, both)),
    ...(found[0] ? layersOf(found[0], both.length > 1 ? models.name[model] : "") : []),
    ...(found[0] ? partsOf(found[0].parts) : []),
    ...(found[0] ? [movers(found[0])] : []),
    ...(found[0]?.configuration ? [again(models.model_id[model], found[0].configuration)] : []),
  ].filter(Boolean);
}

/** The panel's content for a model that is not ranked, from its curves and layers alone. */
export function depthPanel(found, name, metric) {
  return [
    ...curvesOf({ models: { name: [name] } }, [0], [found], metric),
    ...layersOf(found, ""),
    ...partsOf(found.parts),
    movers(found),
  ];
}

function facts({ models, metric }, view, order, both) {
  const reported = (values) => (model) => (view.asReported ? values[model] : null);
  const allowed = (model) => (order.low ? span(order.low[model], order.high[model]) : "–");
  const lines = [
    ["Rank", (model) => plain(order.ranks[model])],
    ["Ranks the data allow", allowed],
    ["P(first)", (model) => percent(reported(models.p_first)(model))],
    ["Traceability", (model) => number(order.scores[model])],
    [
      view.reading === "article" ? "Change rate" : "Stability",
      (model) => number(order.first[model]),
    ],
    ["Explainability", (model) => number(order.second[model])],
    [`Validation ${metric.label}`, (model) => number(models.metric[model])],
    [`Best ${metric.label}`, (model) => number(models.metric_best[model])],
    [`Test ${metric.label}`, (model) => number(models.metric_test[model])],
    ["Mean change rate", (model) => significant(models.change_rate[model])],
    ["Trainings", (model) => plain(models.replicates[model])],
    ["Architecture", (model) => models.architecture[model]],
    ["Initialisation", (model) => models.init[model]],
    ...[...new Set(both.flatMap((model) => Object.keys(models.settings[model])))].map((name) => [
      capitalised(readable(name)),
      (model) => plain(settingOf(models, model, name)),
    ]),
    ["Id", (model) => models.model_id[model]],
  ];
  if (both.length === 1) {
    const half = Math.ceil(lines.length / 2);
    return html(
      "div",
      { class: "pair" },
      factTable(lines.slice(0, half), both),
      factTable(lines.slice(half), both),
    );
  }
  // Of two models, what is the same says nothing.
  const differing = lines.filter(([, value]) => value(both[0]) !== value(both[1]));
  const heads = both.map((model) => html("th", { scope: "col" }, models.name[model]));
  const head = html("thead", {}, html("tr", {}, html("td"), heads));
  return factTable(
    differing,
    both,
    html("caption", {}, "What differs between the two models"),
    head,
  );
}

function factTable(lines, both, ...head) {
  const rows = lines.map(([name, value]) =>
    html(
      "tr",
      {},
      html("th", { scope: "row" }, name),
      both.map((model) => html("td", {}, value(model))),
    ),
  );
  return html("table", { class: "plain facts" }, head, html("tbody", {}, rows));
}

function curvesOf({ models }, both, found, metric) {
  const there = both
    .map((model, index) => [model, found[index], "AB"[index]])
    .filter(([, each]) => each);
  const marks = there.length === 1 ? phaseMarks(there[0][1]) : [];
  const chart = (name, label, log = false) => {
    const lines = there.map(([model, each, key]) => ({
      name: models.name[model],
      key,
      xs: each[name].steps,
      ys: each[name].mean,
      low: each[name].low,
      high: each[name].high,
    }));
    const drawing = lineChart({
      title: label,
      x: { label: "step" },
      y: { label, log },
      lines,
      marks,
    });
    return drawing && html("figure", {}, drawing, chartButtons(name.replace("_", "-"), drawing));
  };
  return [
    there.length > 1
      ? legend(there.map(([model, , key]) => ({ key, name: models.name[model] })))
      : null,
    html(
      "div",
      { class: "pair" },
      chart("train_loss", "Training loss"),
      chart("metric", `Validation ${metric.label}`),
      chart("change_rate", "Change rate", true),
      chart("explainability", "Explainability"),
    ),
    html(
      "p",
      { class: "quiet" },
      "Line: mean over the seeds. Band: from the lowest to the highest seed. Dashed: where a phase of the first seed's training begins.",
    ),
  ].filter(Boolean);
}

/** What the page holds of the models that it has no details of. */
function rateOf({ models, curves }, both) {
  const lines = both.map((model, index) => {
    const { steps, mean } = thinCurve(curves, model);
    return { name: models.name[model], key: "AB"[index], xs: steps, ys: mean };
  });
  const y = { label: "Change rate", log: true };
  const drawing = lineChart({ title: y.label, x: { label: "step" }, y, lines });
  return [
    both.length > 1 ? legend(lines) : null,
    drawing && html("figure", {}, drawing, chartButtons("change-rate", drawing)),
    html(
      "p",
      { class: "quiet" },
      "Mean over the seeds. The other curves and the layers are in the page for the leading models alone; the traces in the run directory hold them for all.",
    ),
  ].filter(Boolean);
}

function movers(found) {
  const list = (title, hint, entries, shown) =>
    html(
      "div",
      {},
      html("h3", {}, title),
      html("p", { class: "quiet" }, hint),
      html(
        "table",
        { class: "plain" },
        html(
          "tbody",
          {},
          entries.map(([name, value]) =>
            html(
              "tr",
              {},
              html("th", { scope: "row" }, name),
              html("td", { class: "figure" }, shown(value)),
            ),
          ),
        ),
      ),
    );
  return html(
    "div",
    { class: "pair" },
    list(
      "What moved most",
      "Length of the path over the mean size, of the first seed.",
      found.movers,
      significant,
    ),
    list(
      "What mattered most",
      "Share of the importance, of the first seed.",
      found.important,
      percent,
    ),
  );
}

function again(id, configuration) {
  const file = `${id}.yaml`;
  return html(
    "div",
    {},
    html("h3", {}, "Train it again"),
    html(
      "p",
      {},
      html(
        "button",
        { type: "button", onclick: () => save(file, configuration, "application/yaml") },
        `Save ${file}`,
      ),
      " and type:",
    ),
    html("pre", { class: "command" }, html("code", {}, `tracerank run ${file}`)),
    html("details", {}, html("summary", {}, "Its configuration"), html("pre", {}, configuration)),
  );
}
