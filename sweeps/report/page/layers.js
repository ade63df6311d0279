// A model's layers over its training: for each quantity a map of them.

import { heatmap } from "./chart.js";
import { html } from "./elements.js";
import { chartButtons } from "./exporting.js";
import { significant } from "./words.js";

/** Where phases of the first seed's training begin, as marks of a chart. */
export function phaseMarks(found) {
  return (found.phases ?? []).map((phase) => ({
    x: phase.start,
    name: phase.schedule ? "schedule" : "",
  }));
}

/** The maps of a model's layers; `name` is the model's, where there are two. */
export function layersOf(found, name) {
  const { layers } = found;
  if (!layers.names.length) return [];
  const map = (kind, title, log) =>
    layerMap({
      ...{ title, log, file: `layers-${kind.replace("_", "-")}` },
      ...{ rows: layers.names, steps: layers.steps, values: layers[kind] },
      place: (column) => `step ${significant(layers.steps[column], 6)}`,
      marks: phaseMarks(found),
    });
  return [
    html("h3", {}, name ? `Layer by layer: ${name}` : "Layer by layer"),
    html(
      "p",
      { class: "quiet" },
      "Of the first seed. Stronger is more; the change rate is shaded by its logarithm. A line marks where a phase begins.",
    ),
    map("change_rate", "Change rate", true),
    map("explainability", "Explainability", false),
  ];
}

/** A map of `rows` by `steps` or `columns`, as `heatmap` takes them, shaded from the least to the
 * greatest of `values[row][column]`, by their logarithm where `log`; `place(column)` in words. */
export function layerMap({ title, file, rows, values, log, place, ...rest }) {
  const shade = shadesOf(values.flat(), log);
  const told = (row, column) =>
    `${rows[row]}, ${place(column)}: ${significant(values[row][column])}`;
  const cells = values.map((row) => row.map(shade));
  const drawing = heatmap({ title, rows, cells, told, ...rest });
  return html(
    "figure",
    {},
    html("div", { class: "map", tabindex: 0, role: "region", "aria-label": title }, drawing),
    chartButtons(file, drawing),
  );
}

function shadesOf(values, log) {
  const known = values
    .filter((value) => value !== null && (!log || value > 0))
    .map((value) => (log ? Math.log(value) : value));
  const low = known.reduce((a, b) => Math.min(a, b), Infinity);
  const high = known.reduce((a, b) => Math.max(a, b), -Infinity);
  return (value) => {
    if (value === null || (log && !(value > 0))) return null;
    return high > low ? ((log ? Math.log(value) : value) - low) / (high - low) : 0.5;
  };
}
