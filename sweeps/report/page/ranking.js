// The order of the models at any α, as sweeps.ranking has it: the same sums in the same order of
// operations, so that no place differs. And where lines cross, as trace_core.alpha has it.

/** α · first + (1 − α) · second of every model; NaN where a model lacks a component. */
export function scoresAt(first, second, alpha) {
  const other = 1 - alpha;
  const scores = new Float64Array(first.length);
  for (let model = 0; model < scores.length; model++) {
    scores[model] = alpha * first[model] + other * second[model];
  }
  return scores;
}

/** Positions of the models, best first: by score, then the better metric, then the id. Models
 * without a score are left out. `before` is an order under a near α of the same kinds: there sorting
 * takes fewer comparisons, as most pairs stand right already. */
export function ranked(scores, goodness, ids, before = null) {
  const order = before
    ? [...before]
    : [...scores.keys()].filter((model) => Number.isFinite(scores[model]));
  return order.sort(
    (a, b) => scores[b] - scores[a] || goodness[b] - goodness[a] || (ids[a] < ids[b] ? -1 : 1),
  );
}

/** Where in (0, 1) the lines of two models cross, or null: the first line's lead at α = 0 and
 * what it gains up to α = 1 have opposite signs. */
export function crossing(first, second, a, b) {
  const above = second[a] - second[b];
  const gain = first[a] - first[b];
  return above * gain < 0 ? above / (above - gain) : null;
}

/** One model's rank against α: [from, to, rank] over [0, 1] without gaps. O(M log M). */
export function rankSteps(first, second, model) {
  let rank = 1;
  const changes = [];
  for (let other = 0; other < first.length; other++) {
    if (other === model || !Number.isFinite(first[other] + second[other])) continue;
    const above = second[other] - second[model];
    const gain = first[other] - first[model];
    const ahead = above > 0 || (above === 0 && gain > 0);
    if (ahead) rank += 1;
    const at = crossing(first, second, other, model);
    if (at !== null) changes.push([at, ahead ? -1 : 1]);
  }
  changes.sort((x, y) => x[0] - y[0]);
  const steps = [];
  let start = 0;
  for (let index = 0; index < changes.length; ) {
    const at = changes[index][0];
    let change = 0;
    for (; index < changes.length && changes[index][0] === at; index++) change += changes[index][1];
    if (change) {
      steps.push([start, at, rank]);
      start = at;
      rank += change;
    }
  }
  steps.push([start, 1, rank]);
  return steps;
}

/** The stretches of α in which each leading model is first: {from, to, models}, ascending. */
export function leaders(first, second) {
  const models = [...first.keys()].filter((m) => Number.isFinite(first[m] + second[m]));
  if (!models.length) return [];
  let leader = models.reduce((best, m) =>
    second[m] > second[best] || (second[m] === second[best] && first[m] > first[best]) ? m : best,
  );
  const spans = [];
  let start = 0;
  for (;;) {
    let stop = 1;
    let successor = null;
    for (const m of models) {
      // Only a steeper line overtakes.
      if (first[m] - second[m] <= first[leader] - second[leader]) continue;
      const found = crossing(first, second, leader, m);
      // Where three lines all but meet, rounding may put a crossing before the last one.
      const at = found === null ? null : Math.max(found, start);
      const steeper = () => first[m] - second[m] > first[successor] - second[successor];
      if (at !== null && (at < stop || (at === stop && successor !== null && steeper()))) {
        stop = at;
        successor = m;
      }
    }
    const alike = (m) => first[m] === first[leader] && second[m] === second[leader];
    if (stop > start) spans.push({ from: start, to: stop, models: models.filter(alike) });
    if (successor === null) return spans;
    leader = successor;
    start = stop;
  }
}

/** Positions that no other model equals everywhere and beats somewhere. O(M · front). */
export function paretoFront(objectives) {
  const count = objectives[0].length;
  const order = [...Array(count).keys()].filter((m) =>
    objectives.every((o) => Number.isFinite(o[m])),
  );
  order.sort((a, b) => {
    const differing = objectives.find((o) => o[a] !== o[b]);
    return differing ? differing[b] - differing[a] : 0;
  });
  const front = [];
  for (const model of order) {
    const beaten = front.some(
      (other) =>
        objectives.every((o) => o[other] >= o[model]) &&
        objectives.some((o) => o[other] > o[model]),
    );
    if (!beaten) front.push(model);
  }
  return front;
}
