// Whether the data tell two models apart: the simultaneous differences that the rank intervals
// count, as sweeps.ranking.rank_intervals makes them.

import { number } from "./words.js";

/** How the models are compared under a view, {method, distinguishable}, or null: known for the
 * reported kinds, at the reported α and at every hundredth. */
export function comparisonAt({ pairs, omnibus }, view) {
  if (view.asReported) return omnibus;
  const index = Math.round(view.alpha * 100);
  const isOnGrid = view.kindsAsReported && Math.abs(view.alpha * 100 - index) < 1e-9;
  if (!isOnGrid || !pairs) return null;
  return { method: pairs.methods[index], distinguishable: pairs.distinguishable[index] };
}

/** How far from zero the difference of two models' scores has to be for the data to tell them apart,
 * all pairs at once at 95%. */
export function leastDifference(pairs, method, alpha, [a, b]) {
  const { sizes } = pairs;
  const variance = ([first, both, second]) =>
    alpha * alpha * first + 2 * alpha * (1 - alpha) * both + (1 - alpha) * (1 - alpha) * second;
  if (method === "tukey") {
    let squares = 0;
    let freedom = 0;
    for (let model = 0; model < sizes.length; model++) {
      squares += variance(pairs.spreads[model]) * (sizes[model] - 1);
      freedom += sizes[model] - 1;
    }
    return pairs.critical * Math.sqrt((squares / freedom / 2) * (1 / sizes[a] + 1 / sizes[b]));
  }
  const parts = [a, b].map((model) => Math.max(0, variance(pairs.spreads[model])) / sizes[model]);
  const error = parts[0] + parts[1];
  if (error === 0) return 0;
  const spread = parts[0] ** 2 / (sizes[a] - 1) + parts[1] ** 2 / (sizes[b] - 1);
  return criticalOf(pairs.critical_by_freedom, error ** 2 / spread) * Math.sqrt(error / 2);
}

function criticalOf(logarithms, freedom) {
  const last = logarithms.length - 1;
  const place = Math.min(1, 1 / freedom) * last;
  const below = Math.min(Math.floor(place), last - 1);
  const share = place - below;
  return Math.exp(logarithms[below] * (1 - share) + logarithms[below + 1] * share);
}

/** In a sentence, whether the first of two models is really more traceable than the second. */
export function verdictOn(data, view, order, [a, b]) {
  const difference = order.scores[a] - order.scores[b];
  if (!Number.isFinite(difference)) return "Of these kinds, one of the two has no score.";
  const size = `${number(Math.abs(difference))} ${difference < 0 ? "lower" : "higher"}`;
  const more = `This model scores ${size} than the other`;
  const less = more.replace("This", "this");
  const comparison = comparisonAt(data, view);
  if (!comparison) {
    return `${more}. Whether that is more than chance, the page knows for the reported kinds at every hundredth of α, of at most 300 models.`;
  }
  if (comparison.method === "none") {
    return `${more}. With fewer than two trainings of some model, nothing says how much of that is chance.`;
  }
  if (!comparison.distinguishable) {
    return `The data don't tell the two apart: ${less}, but no difference is found among all the models at this α.`;
  }
  // Critical values for Games and Howell's are there if a hundredth of α needs them.
  const isEnough = comparison.method === "tukey" || data.pairs?.critical_by_freedom.length;
  if (!data.pairs || !isEnough) return overlapping(order, [a, b], more, less);
  const least = leastDifference(data.pairs, comparison.method, view.alpha, [a, b]);
  const ends = [difference - least, difference + least].map((end) => number(end));
  const range = `the 95% interval of the difference, all pairs compared at once, is ${ends[0]} to ${ends[1]}`;
  return Math.abs(difference) > least
    ? `The data tell the two apart: ${less}; ${range}.`
    : `The data don't tell the two apart: ${less}, but ${range}, and includes 0.`;
}

/** From the rank intervals alone. Those that don't overlap belong to models that differ: one that is
 * worse than the first and better than the second stands between. Of others they don't tell. */
function overlapping({ low, high }, [a, b], more, less) {
  const apart = low && (high[a] < low[b] || high[b] < low[a]);
  return apart
    ? `The data tell the two apart: ${less}, and their rank intervals don't overlap.`
    : `${more}. Their rank intervals overlap, which alone doesn't say whether the two differ.`;
}
