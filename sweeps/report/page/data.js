// What the page was given: gzip'd JSON in base64, with the models as columns.

/** The object behind `text`. */
export async function unpacked(text) {
  const stream = new Blob([bytesOf(text.trim())])
    .stream()
    .pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  return bytes;
}

const LEVELS = 254;

/** The change rate over the steps of a model, of those that the page holds of all of them: {steps,
 * mean}, null where there is no rate. `curves` is as sweeps.report.thin_curves packs it. */
export function thinCurve(curves, model) {
  if (!curves.starts) {
    curves.bytes = bytesOf(curves.levels);
    curves.starts = [0];
    for (const axis of curves.axis) {
      curves.starts.push(curves.starts.at(-1) + curves.axes[axis].length);
    }
  }
  const [low, high] = [curves.low[model], curves.high[model]];
  const levels = curves.bytes.subarray(curves.starts[model], curves.starts[model + 1]);
  const rate = (level) => (level ? low * (high / low) ** ((level - 1) / LEVELS) : null);
  return { steps: curves.axes[curves.axis[model]], mean: Array.from(levels, rate) };
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
