// The parts of one model and their blocks: a head that is new is told apart from what it stands on.

import { html } from "./elements.js";
import { below, tableButtons } from "./exporting.js";
import { readTable } from "./static_tables.js";
import { number, percent, plain, significant } from "./words.js";

const FIGURES = [
  ["parameters", "Trained parameters", plain],
  ["share", "Share of movement", percent],
  ["change_rate", "Change rate", significant],
  ["stability", "Stability", number],
  ["explainability", "Explainability", number],
];

/** What the panel shows of a model's parts; nothing for a model without any. */
export function partsOf(rows) {
  if (!rows?.length) return [];
  const heads = FIGURES.map(([, title]) => html("th", { scope: "col", class: "figure" }, title));
  const table = html(
    "table",
    {},
    html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "Part"), heads)),
    html("tbody", {}, rows.map(line)),
  );
  return [
    html("h3", {}, "Part by part"),
    html(
      "p",
      { class: "quiet" },
      "Of the first seed, over the whole training. A part's share is that of the squared steps of all parameters. A head that is new usually changes more, for its size, than a backbone from a checkpoint.",
    ),
    html("div", { class: "scroll", role: "region", "aria-label": "Parts", tabindex: "0" }, table),
    below(tableButtons("parts", () => readTable(table))),
  ];
}

function line(row) {
  const cells = FIGURES.map(([name, , shown]) =>
    row[name] === null
      ? html("td", { class: "figure missing" }, "–")
      : html("td", { class: "figure" }, html("data", { value: row[name] }, shown(row[name]))),
  );
  const part = html(
    "th",
    { scope: "row", class: row.depth ? "inner" : "" },
    row.name || "(itself)",
  );
  return html("tr", {}, part, cells);
}
