// Where everything stands in the chart of traceability against the metric, as
// sweeps.report.scatter has it, at any α and of any kind.

import { components } from "./data.js";
import { scoresAt } from "./ranking.js";

const WIDE = { height: 460, left: 58, right: 24, top: 30, bottom: 46 };
const NARROW = { height: 380, left: 50, right: 12, top: 30, bottom: 46 };
/** How far, in spans of the ranked models, excluded ones and lines may stretch an axis. */
const REACH = 0.6;
const PAD = 0.06;
/** Marks that a letter is kept clear of, at most. */
const MOST_AVOIDED = 300;

/** The range of `values` with a margin; it is never empty. */
export function domain(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  if (high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) {
    const half = Math.max(Math.abs(low), 1e-3) * 0.1;
    return [low - half, high + half];
  }
  return [low - PAD * (high - low), high + PAD * (high - low)];
}

/** The range of `ranked`, and of what lies not too far `aside`. */
export function stretched(ranked, aside) {
  const [low, high] = domain(ranked);
  const reach = REACH * (high - low);
  const near = aside.filter((value) => low - reach <= value && value <= high + reach);
  return domain([...ranked, ...near]);
}

/** `value` to a place between `start` and `end`; beyond the range, the nearer end. */
function scale([low, high], start, end) {
  return (value) =>
    start + ((Math.min(Math.max(value, low), high) - low) / (high - low)) * (end - start);
}

function beyond(value, [low, high]) {
  return (value > high) - (value < low);
}

/** The box, scales and lines of the chart, and its `marks`, the best rank last: {model or excluded,
 * score, metric, x, y}, of leaders also `key` and `whiskers`, of what lies further out `out`. */
export function layout(data, view, order, width) {
  const { models, metric, scatter } = data;
  const box = { width, ...(width > 600 ? WIDE : NARROW) };
  const marks = [];
  for (let place = order.order.length - 1; place >= 0; place--) {
    const model = order.order[place];
    if (models.metric[model] === null) continue;
    const key = models.key[model];
    const mark = { model, score: order.scores[model], metric: models.metric[model], key };
    if (key) mark.whiskers = whiskersOf(scatter.seeds[models.model_id[model]], view);
    marks.push(mark);
  }
  const { excluded } = scatter;
  const [first, second] = components(excluded, view);
  const hollow = [...scoresAt(first, second, view.alpha)]
    .map((score, index) => ({ excluded: index, score, metric: excluded.metric[index] }))
    .filter(({ score }) => Number.isFinite(score));
  const extents = (name) => [
    ...marks.map((mark) => mark[name]),
    ...marks.flatMap((mark) => mark.whiskers?.[name] ?? []),
  ];
  const lines = [
    ["learning floor", metric.floor],
    ["baseline", metric.baseline],
  ].filter(([, value]) => value !== null);
  const across = stretched(
    extents("score"),
    hollow.map(({ score }) => score),
  );
  const up = stretched(extents("metric"), [
    ...lines.map(([, value]) => value),
    ...hollow.map((mark) => mark.metric),
  ]);
  const ends = [box.height - box.bottom, box.top];
  if (metric.direction === "minimize") ends.reverse();
  const x = scale(across, box.left, width - box.right);
  const y = scale(up, ...ends);
  for (const mark of [...marks, ...hollow])
    Object.assign(mark, { x: x(mark.score), y: y(mark.metric) });
  for (const mark of hollow) {
    const [right, more] = [beyond(mark.score, across), beyond(mark.metric, up)];
    if (right || more) mark.out = more ? [0, ends[0] > ends[1] ? -more : more] : [right, 0];
  }
  return {
    ...{ box, x, y, across, up, marks, hollow },
    lines: lines.map(([name, value]) => ({ name, value, out: beyond(value, up) !== 0 })),
  };
}

/** The ends of a model's scores and metrics over its seeds. */
function whiskersOf(seeds, view) {
  if (!seeds) return null;
  const scores = [...scoresAt(...components(seeds, view), view.alpha)];
  const ends = (values) => [Math.min(...values), Math.max(...values)];
  return {
    score: scores.length && scores.every(Number.isFinite) ? ends(scores) : [],
    metric: seeds.metric.length ? ends(seeds.metric) : [],
  };
}

/** Where the labels of `leaders` stand, {left, top, width} each: where they cover least of each
 * other, then of the marks, then nearest. `widthOf(mark)` is how wide one is. */
export function labels(leaders, { box, x, y, marks }, widthOf) {
  const step = Math.ceil(marks.length / MOST_AVOIDED) || 1;
  const avoided = marks.filter((_, index) => index % step === 0).map((mark) => [mark.x, mark.y]);
  for (const { x: atX, y: atY, whiskers } of leaders) {
    avoided.push([atX, atY]);
    for (let share = 0; share <= 1; share += 0.125) {
      const between = ([low, high]) => low + share * (high - low);
      if (whiskers?.score.length) avoided.push([x(between(whiskers.score)), atY]);
      if (whiskers?.metric.length) avoided.push([atX, y(between(whiskers.metric))]);
    }
  }
  const taken = [];
  return leaders.map((mark) => {
    const width = widthOf(mark);
    const costs = spotsAround(mark, width).map((spot) => {
      return { spot, cost: costOf(spot, width, mark, { taken, avoided, box }) };
    });
    const { spot } = costs.reduce((best, each) => (each.cost < best.cost ? each : best));
    taken.push({ ...spot, width });
    return taken.at(-1);
  });
}

function spotsAround({ x, y }, width) {
  return [14, 30, 50, 76, 104, 134].flatMap((reach) =>
    [reach, -reach - width, -width / 2, 4, -width - 4].flatMap((dx) =>
      [0, -reach, reach]
        .filter((dy) => Math.abs(dx) >= 12 + width || dx >= 12 || dy)
        .map((dy) => ({ left: x + dx, top: y + dy - 10 })),
    ),
  );
}

function costOf({ left, top }, width, mark, { taken, avoided, box }) {
  const outside =
    left < box.left || left + width > box.width || top < 4 || top + 20 > box.height - box.bottom;
  const overlaps = taken.filter(
    (other) =>
      left < other.left + other.width &&
      other.left < left + width &&
      top < other.top + 20 &&
      other.top < top + 20,
  ).length;
  const covered = avoided.filter(
    ([x, y]) => left - 4 < x && x < left + width + 4 && top - 4 < y && y < top + 24,
  ).length;
  const distance = Math.abs(left + width / 2 - mark.x) / width + Math.abs(top + 10 - mark.y) / 20;
  return 100 * outside + 50 * overlaps + Math.min(covered, 30) + distance / 1000;
}
