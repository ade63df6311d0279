// The page's modules that need no page, run by Node: `node --test tests/page/`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { compare } from "../../sweeps/report/page/columns.js";
import { thinCurve } from "../../sweeps/report/page/data.js";
import { csv, json, markdown } from "../../sweeps/report/page/exporting.js";
import { matcher } from "../../sweeps/report/page/find.js";
import { conditionsOf, axisOf, withConditions } from "../../sweeps/report/page/parallel.js";
import { crossing, leaders, paretoFront, rankSteps, ranked, scoresAt } from "../../sweeps/report/page/ranking.js";
import { domain, labels, layout, stretched } from "../../sweeps/report/page/scatter_layout.js";
import { logTicks, ticks } from "../../sweeps/report/page/chart.js";
import { View } from "../../sweeps/report/page/view.js";

const column = (id, values, more = {}) => ({ id, title: id, value: (row) => values[row], ...more });

test("models are ranked by score, then the metric, then the id; those without a score aren't", () => {
  const scores = scoresAt([0.2, 0.4, 0.4, NaN, 0.4], [0.8, 0.6, 0.6, 1, 0.6], 0.5);
  assert.deepEqual(ranked(scores, [1, 2, 3, 9, 2], ["e", "d", "c", "b", "a"]), [2, 4, 1, 0]);
});

test("an order that begins from another one is the same", () => {
  const random = (seed) => () => ((seed = (seed * 16807) % 2147483647) / 2147483647);
  const next = random(7);
  const [first, second] = [0, 1].map(() => Array.from({ length: 500 }, () => Math.round(next() * 50) / 50));
  const ids = first.map((_, index) => `m${index}`);
  const good = first.map(() => Math.round(next() * 5));
  let before = null;
  for (let alpha = 0; alpha <= 1; alpha += 0.05) {
    const scores = scoresAt(first, second, alpha);
    const fresh = ranked(scores, good, ids);
    before = ranked(scores, good, ids, before);
    assert.deepEqual(before, fresh);
  }
});

test("ranks at any α agree with the steps and the spans", () => {
  const first = [0.9, 0.5, 0.1, 0.6, 0.6];
  const second = [0.1, 0.5, 0.9, 0.4, 0.4];
  assert.equal(crossing(first, second, 0, 2), 0.5);
  const spans = leaders(first, second);
  assert.equal(spans[0].from, 0);
  assert.equal(spans.at(-1).to, 1);
  for (let alpha = 0.013; alpha < 1; alpha += 0.037) {
    const scores = [...scoresAt(first, second, alpha)];
    scores.forEach((score, model) => {
      const rank = 1 + scores.filter((other) => other > score + 1e-12).length;
      const found = rankSteps(first, second, model).find(([from, to]) => from <= alpha && alpha <= to);
      assert.equal(found[2], rank, `model ${model} at ${alpha}`);
    });
    const span = spans.find(({ from, to }) => from <= alpha && alpha <= to);
    assert.ok(scores[span.models[0]] >= Math.max(...scores) - 1e-12);
  }
});

test("the Pareto front is that of comparing all pairs", () => {
  let seed = 3;
  const next = () => Math.round(((seed = (seed * 16807) % 2147483647) / 2147483647) * 9);
  const objectives = [0, 1, 2].map(() => Array.from({ length: 120 }, next));
  const beats = (a, b) =>
    objectives.every((o) => o[a] >= o[b]) && objectives.some((o) => o[a] > o[b]);
  const all = [...objectives[0].keys()];
  const expected = all.filter((model) => !all.some((other) => beats(other, model)));
  assert.deepEqual(paretoFront(objectives).sort((a, b) => a - b), expected);
});

test("models are found by words and by conditions", () => {
  const columns = [
    column("rank", [1, 2, 3]),
    column("init", ["default", "orthogonal", "normal_002"]),
    column("setting:depth", [2, 3, null]),
    column("setting:Größe b", [1.5, "groß", true]),
  ];
  const texts = ["mlp default", "mlp orthogonal", "cnn normal_002"];
  const found = (query) => [0, 1, 2].filter(matcher(query, columns, (row) => texts[row]));
  assert.deepEqual(found(""), [0, 1, 2]);
  assert.deepEqual(found("MLP"), [0, 1]);
  assert.deepEqual(found("rank<=2 depth>=3"), [1]);
  assert.deepEqual(found("depth!=2"), [1]);
  assert.deepEqual(found("init=orthogonal|normal_002"), [1, 2]);
  assert.deepEqual(found("init!=orthogonal|normal_002"), [0]);
  assert.deepEqual(found("nothing=like"), []);
  assert.deepEqual(found("größe_b=1.5|groß"), [0, 1]);
  assert.deepEqual(found("setting:Größe_b=yes"), [2]);
  assert.deepEqual(found("größe_b>1"), [0, 1, 2]);
});

test("a stretch of an axis becomes conditions, and takes the place of an earlier one", () => {
  const rates = axisOf(column("setting:learning_rate", [0.001, 0.01, 0.1]), [0, 1, 2]);
  assert.equal(rates.place(0.01), 0.5);
  const conditions = conditionsOf(rates, 0.25, 1);
  assert.deepEqual(conditions, ["setting:learning_rate>=0.00316", "setting:learning_rate<=0.1"]);
  const query = withConditions("mlp setting:learning_rate<=0.5 rank<9", "setting:learning_rate", conditions);
  assert.equal(query, "mlp rank<9 setting:learning_rate>=0.00316 setting:learning_rate<=0.1");
  const inits = axisOf(column("init", ["a b", "c", "d"]), [0, 1, 2]);
  assert.deepEqual(conditionsOf(inits, 0, 0.6), ["init=a_b|c"]);
  const near = [123456, 123460, 123471];
  const steps = axisOf(column("steps", near), [0, 1, 2]);
  assert.deepEqual(conditionsOf(steps, 0, 1), ["steps>=123456", "steps<=123471"]);
  const middle = conditionsOf(steps, 0.1, 0.5).join(" ");
  assert.deepEqual([0, 1, 2].filter(matcher(middle, [column("steps", near)], () => "")), [1]);
  assert.equal(axisOf(column("same", [1, 1, 1]), [0, 1, 2]), null);
});

test("values are compared as numbers, as texts, and missing ones come last", () => {
  assert.deepEqual([3, null, 1, NaN, 2].sort((a, b) => compare(a, b)).slice(0, 3), [1, 2, 3]);
  assert.deepEqual(["b", null, "a"].sort((a, b) => compare(a, b)), ["a", "b", null]);
  assert.deepEqual([1, null, 2].sort((a, b) => compare(a, b, true)), [2, 1, null]);
});

test("tables are written so that a spreadsheet and a page take them for text", () => {
  const words = (values) => ({ words: (row) => values[row] });
  const names = ["=1+1", 'say "x", y', "a|b", "-2+3"];
  const columns = [column("model", names, words(names)), column("score", [0.5, null, -2, 1], words(["0.5", "–", "−2", "1"]))];
  assert.equal(
    csv(columns, [0, 1, 2, 3]),
    `model,score\r\n'=1+1,0.5\r\n"say ""x"", y",\r\na|b,-2\r\n'-2+3,1\r\n`,
  );
  const range = column("interval", [], { fields: [["low", () => 1], ["high", () => 3]] });
  assert.equal(csv([range], [0]), "low,high\r\n1,3\r\n");
  assert.deepEqual(JSON.parse(json(columns, [0]))[0], { model: "=1+1", score: 0.5 });
  assert.ok(markdown(columns, [2]).endsWith("| a\\|b | −2 |\n"));
});

test("a thin curve is read back from its levels, on the axis of its model", () => {
  const curves = {
    axes: [[0, 10, 20], [5]],
    axis: [0, 1, 0],
    low: [0.001, 0.5, 0],
    high: [0.1, 0.5, 0],
    levels: Buffer.from([1, 0, 255, 1, 0, 0, 0]).toString("base64"),
  };
  const { steps, mean } = thinCurve(curves, 0);
  assert.deepEqual(steps, [0, 10, 20]);
  assert.deepEqual([mean[0], mean[1]], [0.001, null]);
  assert.ok(Math.abs(mean[2] - 0.1) < 1e-12);
  assert.deepEqual(thinCurve(curves, 1), { steps: [5], mean: [0.5] });
  assert.deepEqual(thinCurve(curves, 2).mean, [null, null, null]);
});

test("ticks are round, and lie within", () => {
  assert.deepEqual(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(logTicks(0.001, 0.3), [0.001, 0.01, 0.1]);
  assert.deepEqual(ticks(2, 2), [2]);
});

test("the scatter's axes take in what lies near, and models beyond them point outwards", () => {
  assert.deepEqual(stretched([1, 2], [2.5, 30, -4]).map((end) => Number(end.toFixed(3))), [0.91, 2.59]);
  assert.deepEqual(domain([]), [0, 1]);
  const [low, high] = domain([3, 3, NaN]);
  assert.ok(low < 3 && 3 < high);
  const values = { "stability.s": [0.9, 0.5, 0.1], "explainability.e": [0.5, 0.5, 0.5] };
  const models = { model_id: ["a", "b", "c"], metric: [0.9, 0.8, null], key: ["A", null, null], values };
  const excluded = { metric: [0.85, -9], values: { "stability.s": [0.6, 99], "explainability.e": [0.5, 0.5] } };
  const trainings = { "stability.s": [0.8, 1], "explainability.e": [0.5, 0.5] };
  const seeds = { a: { metric: [0.88, 0.92], values: trainings } };
  const metric = { direction: "maximize", floor: 0.82, baseline: 0.1 };
  const view = { alpha: 0.5, reading: "calibrated", stability: "s", explainability: "e" };
  const order = { order: [0, 1, 2], scores: [0.7, 0.5, 0.3] };
  const found = layout({ models, metric, scatter: { excluded, seeds } }, view, order, 1000);
  assert.deepEqual(found.marks.map(({ model }) => model), [1, 0]);
  assert.deepEqual(found.marks[1].whiskers.score.map((end) => Number(end.toFixed(3))), [0.65, 0.75]);
  assert.deepEqual(found.marks[1].whiskers.metric, [0.88, 0.92]);
  assert.ok(found.marks[1].x > found.marks[0].x && found.marks[1].y < found.marks[0].y);
  assert.deepEqual(found.hollow.map(({ out }) => out), [undefined, [0, 1]]);
  assert.deepEqual(found.lines.map(({ name, out }) => [name, out]), [["learning floor", false], ["baseline", true]]);
  const low2 = layout({ models, metric: { ...metric, direction: "minimize" }, scatter: { excluded, seeds } }, view, order, 400);
  assert.ok(low2.marks[1].y > low2.marks[0].y);
  assert.deepEqual(low2.hollow[1].out, [0, -1]);
});

test("labels stand within the chart and don't cover each other", () => {
  const box = { width: 1000, height: 460, left: 58, right: 24, top: 30, bottom: 46 };
  const leaders = [0, 1, 2, 3, 4].map((at) => ({ x: 900 + 9 * at, y: 60 + 12 * at }));
  const chart = { box, x: (value) => value, y: (value) => value, marks: leaders };
  const places = labels(leaders, chart, () => 180);
  places.forEach((one, at) => {
    assert.ok(one.left >= box.left && one.left + 180 <= box.width && one.top >= 4);
    for (const other of places.slice(at + 1)) {
      assert.ok(Math.abs(one.left - other.left) >= 180 || Math.abs(one.top - other.top) >= 20);
    }
  });
});

test("a view is kept in the address, and what isn't valid there is passed over", () => {
  const defaults = { alpha: 0.5, reading: "calibrated", stability: "steadiness", explainability: "gini", change_rate: "tensor_l1" };
  const view = new View(defaults);
  assert.ok(view.asReported);
  view.change({ alpha: 0.25, stability: "directness", find: "mlp & cnn" });
  assert.ok(!view.asReported);
  const other = new View(defaults);
  other.readFragment(`#${view.toFragment()}`, { stability: ["directness"] });
  assert.deepEqual([other.alpha, other.stability, other.find], [0.25, "directness", "mlp & cnn"]);
  const third = new View(defaults);
  third.readFragment("#alpha=2&stability=evil&sort=nowhere&baseline=x", { stability: ["directness"], sort: ["rank"], baseline: [] });
  assert.ok(third.asReported);
  assert.equal(third.sort, "rank");
});

test("the columns are in the address once they are others", () => {
  const view = new View({ columns: ["rank", "model"] });
  assert.equal(view.toFragment(), "");
  view.change({ columns: ["rank", "setting:a, b&c"] });
  const other = new View({ columns: ["rank", "model"] });
  other.readFragment(view.toFragment(), { column: ["rank", "setting:a, b&c"] });
  assert.deepEqual(other.columns, view.columns);
  other.readFragment("#column=nothing", { column: ["rank"] });
  assert.deepEqual(other.columns, ["rank", "model"]);
});
