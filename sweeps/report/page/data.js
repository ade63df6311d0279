// What the page was given: gzip'd JSON in base64, with the models as columns.

/** The object behind `text`. */
export async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** The columns that α and 1 − α weigh, by the reading and the kinds chosen: NaN where missing. */
export function components(models, view) {
  const names =
    view.reading === "article"
      ? [`change_rate.${view.change_rate}`, "article_explainability"]
      : [`stability.${view.stability}`, `explainability.${view.explainability}`];
  return names.map((name) => (models.values[name] ?? []).map((value) => value ?? NaN));
}

/** The metric of every model, such that higher is better. */
export function goodness(models, metric) {
  const sign = metric.direction === "minimize" ? -1 : 1;
  return models.metric.map((value) => (value === null ? -Infinity : sign * value));
}
