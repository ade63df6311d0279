// Rank against α, with the exact crossings: who leads where, and what else is near the top.

import { legend, lineChart } from "./chart.js";
import { html } from "./elements.js";
import { chartButtons } from "./exporting.js";
import { leaders, rankSteps } from "./ranking.js";
import { withButtons } from "./static_tables.js";
import { number } from "./words.js";

const DRAWN = 8;
const DEEPEST = 20;

/** Draws into `frame` the models that are first now, and those that lead somewhere. */
export function drawAlpha(frame, data, view, order, open) {
  const { models } = data;
  const { first, second } = order;
  const spans = leaders(first, second);
  const width = new Map();
  for (const span of spans) {
    for (const model of span.models)
      width.set(model, (width.get(model) ?? 0) + span.to - span.from);
  }
  const leading = [...width.keys()].sort((a, b) => width.get(b) - width.get(a)).slice(0, DRAWN - 3);
  const drawn = [...new Set([...leading, ...order.order])].slice(0, DRAWN);
  const deepest = Math.min(DEEPEST, order.order.length);
  const lines = drawn.map((model) => {
    const steps = rankSteps(first, second, model);
    const shown = (rank) => (rank > deepest ? null : rank);
    return {
      name: models.name[model],
      // The letter of the other charts; without one, a line is grey.
      key: models.key[model],
      xs: steps.flatMap((step) => step.slice(0, 2)),
      ys: steps.flatMap(([, , rank]) => [shown(rank), shown(rank)]),
    };
  });
  const chart = lineChart({
    title: "Rank against α",
    x: { label: "α: 0 is explainability alone, 1 stability alone", domain: [0, 1] },
    y: { label: "Rank", domain: [1, deepest], reversed: true, ticks: rankTicks(deepest) },
    lines,
    marks: [{ x: view.alpha, name: `α = ${number(view.alpha, 2)}` }],
    width: 1120,
    height: 380,
  });
  const row = (span) => {
    const press = (model) =>
      html(
        "button",
        { type: "button", class: "open", onclick: () => open(model) },
        models.name[model],
      );
    return html(
      "tr",
      {},
      ...[span.from, span.to].map((value) =>
        html("td", { class: "figure" }, html("data", { value }, number(value, 4))),
      ),
      html(
        "td",
        {},
        span.models.slice(0, 5).flatMap((model, index) => [index ? ", " : null, press(model)]),
        span.models.length > 5 ? ` and ${span.models.length - 5} more` : null,
      ),
    );
  };
  const heads = ["α from", "to", "First"].map((text, index) =>
    html("th", { scope: "col", class: index < 2 && "figure" }, text),
  );
  const table = html(
    "div",
    { class: "scroll fitted", tabindex: "0", role: "region", "aria-label": "Leaders by α" },
    html("table", {}, html("thead", {}, html("tr", {}, heads)), html("tbody", {}, spans.map(row))),
  );
  frame.replaceChildren(
    ...(chart
      ? [html("figure", {}, chart, chartButtons("rank-against-alpha", chart)), legend(lines)]
      : []),
    table,
  );
  withButtons(table);
}

function rankTicks(deepest) {
  const step = deepest <= 10 ? 1 : 2;
  return [...Array(deepest).keys()]
    .map((index) => index + 1)
    .filter((rank) => rank === 1 || rank % step === 0);
}
