// Line charts, and maps of cells, as SVG; each describes itself to those who don't see it.

import { html, svg } from "./elements.js";
import { significant } from "./words.js";

const WIDTH = 560;
const HEIGHT = 250;
const LEFT = 58;
const RIGHT = 12;
const TOP = 26;
const BOTTOM = 40;

/** Round numbers between `low` and `high`, about `wanted` of them. */
export function ticks(low, high, wanted = 5) {
  if (!(high > low)) return [low];
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((each) => each * power >= raw) * power;
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high * (1 + 1e-12); index++) {
    found.push(Number((index * step).toPrecision(12)));
  }
  return found;
}

/** Powers of ten, with 2 and 5 between them where there are few. */
export function logTicks(low, high) {
  const found = [];
  const few = Math.log10(high / low) < 2;
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const times of few ? [1, 2, 5] : [1]) {
      const value = Number((times * 10 ** power).toPrecision(3));
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}

/** The fewest significant figures, from 3 on, by which no two of `values` read alike. */
function telling(values) {
  const differ = (digits) => new Set(values.map((each) => significant(each, digits))).size;
  return [3, 4, 5, 6, 7].find((digits) => differ(digits) === values.length) ?? 8;
}

function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || !Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}

/** A chart of `lines`: {name, key, xs, ys, low, high} over an axis that they share; where a line has
 * `told`, each of its points is a dot that says so under the pointer.
 *
 * `y.log` and `y.reversed` as they say; `x.names` are [place, text] in place of numbers along the
 * axis; `marks` are {x, name}, drawn across. Null without a point. */
export function lineChart({ title, x, y, lines, marks = [], width = WIDTH, height = HEIGHT }) {
  const positive = (value) => (y.log && !(value > 0) ? null : value);
  const all = lines.flatMap((line) => [...line.ys, ...(line.low ?? []), ...(line.high ?? [])]);
  const range = y.domain ?? extent(all.map(positive));
  const span = x.domain ?? extent(lines.flatMap((line) => line.xs));
  if (!range || !span) return null;
  if (range[0] === range[1]) {
    const room = Math.abs(range[0]) * 0.1 || 1;
    range[0] -= y.log ? range[0] / 2 : room;
    range[1] += room;
  }
  const place = (value) => (y.log ? Math.log(value) : value);
  const inner = height - TOP - BOTTOM;
  const px = (value) =>
    LEFT + ((value - span[0]) / (span[1] - span[0] || 1)) * (width - LEFT - RIGHT);
  const share = (value) => (place(value) - place(range[0])) / (place(range[1]) - place(range[0]));
  const py = (value) => TOP + (y.reversed ? share(value) : 1 - share(value)) * inner;
  const yTicks = y.ticks ?? (y.log ? logTicks(range[0], range[1]) : ticks(range[0], range[1]));
  const digits = telling(yTicks);
  const parts = [
    ...yTicks.flatMap((tick) => [
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: py(tick), y2: py(tick) }),
      svg(
        "text",
        { x: LEFT - 7, y: py(tick) + 4, "text-anchor": "end" },
        significant(tick, digits),
      ),
    ]),
    ...(x.names ?? ticks(span[0], span[1]).map((tick) => [tick, significant(tick, 6)])).map(
      ([tick, name]) =>
        svg("text", { x: px(tick), y: height - BOTTOM + 17, "text-anchor": "middle" }, name),
    ),
    svg("line", {
      class: "axis",
      x1: LEFT,
      x2: width - RIGHT,
      y1: height - BOTTOM,
      y2: height - BOTTOM,
    }),
    svg("text", { x: (LEFT + width - RIGHT) / 2, y: height - 6, "text-anchor": "middle" }, x.label),
    svg("text", { class: "title", x: 4, y: 15 }, y.label ?? title),
  ];
  for (const mark of marks) {
    parts.push(
      svg("line", { class: "floor", x1: px(mark.x), x2: px(mark.x), y1: TOP, y2: height - BOTTOM }),
    );
    if (mark.name) {
      parts.push(svg("text", { class: "note", x: px(mark.x) + 4, y: TOP + 10 }, mark.name));
    }
  }
  for (const line of lines) parts.push(...drawn(line, px, py, positive));
  const names = lines.map((line) => line.name).filter(Boolean);
  const seen = `From ${significant(range[0])} to ${significant(range[1])}.`;
  const desc = [names.length ? `Lines: ${names.join(", ")}.` : "", seen].join(" ");
  const box = { class: "chart live-chart", viewBox: `0 0 ${width} ${height}`, role: "img" };
  return svg("svg", box, svg("title", {}, title), svg("desc", {}, desc), parts);
}

function drawn(line, px, py, positive) {
  const points = (ys) =>
    line.xs.map((value, index) => {
      const found = positive(ys[index] ?? null);
      return found === null || !Number.isFinite(found) ? null : [px(value), py(found)];
    });
  const key = line.key ? ` key-${line.key}` : "";
  const parts = [];
  if (line.low && line.high) {
    const [low, high] = [points(line.low), points(line.high)];
    const both = high.map((point, index) => (point && low[index] ? [point, low[index]] : null));
    const there = both.filter(Boolean);
    const outline = [...there.map((pair) => pair[0]), ...there.map((pair) => pair[1]).reverse()];
    if (there.length > 1) {
      parts.push(svg("path", { class: `band${key}`, d: `M${outline.map(text).join("L")}Z` }));
    }
  }
  const runs = [[]];
  for (const point of points(line.ys)) {
    if (point) runs.at(-1).push(point);
    else if (runs.at(-1).length) runs.push([]);
  }
  const path = runs.filter((run) => run.length).map((run) => `M${run.map(text).join("L")}`);
  const drawing = svg("path", { class: `curve${key}`, d: path.join("") });
  if (line.name) drawing.append(svg("title", {}, line.name));
  const places = points(line.ys);
  const dots = (line.told ?? []).map((told, index) => {
    const point = places[index];
    const place = point && { cx: point[0].toFixed(1), cy: point[1].toFixed(1), r: 3.5 };
    return point && svg("circle", { class: `mark${key}`, ...place }, svg("title", {}, told));
  });
  return [...parts, drawing, ...dots];
}

function text(point) {
  return `${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
}

/** A map of `rows` (names) by steps: `cells[row][column]` from 0 to 1 or null, stronger is more.
 * With `columns` (names), which `axis` says what they are, those are written in place of steps.
 *
 * `told(row, column)` is what a cell says under the pointer; `marks` are {x, name} in steps. */
export function heatmap({ title, rows, steps, columns, axis, cells, told, marks = [] }) {
  const rowHeight = Math.max(14, Math.min(22, 260 / rows.length));
  const left = 150;
  const width = 2 * WIDTH;
  const height = TOP + rowHeight * rows.length + BOTTOM;
  const count = (columns ?? steps).length;
  const cell = (width - left - RIGHT) / count;
  const parts = [svg("text", { class: "title", x: 4, y: 15 }, title)];
  rows.forEach((name, row) => {
    const y = TOP + row * rowHeight;
    const shown = name.length > 22 ? `…${name.slice(-21)}` : name;
    const at = { x: left - 7, y: y + rowHeight / 2 + 4, "text-anchor": "end" };
    parts.push(svg("text", at, shown, svg("title", {}, name)));
    cells[row].forEach((value, column) => {
      if (value === null) return;
      const place = { x: left + column * cell, y, width: cell + 0.3, height: rowHeight - 1 };
      const shade = { class: "shade", "fill-opacity": (0.06 + 0.94 * value).toFixed(3) };
      parts.push(svg("rect", { ...place, ...shade }, svg("title", {}, told(row, column))));
    });
  });
  const base = TOP + rowHeight * rows.length;
  const px = (step) =>
    left + ((step - steps[0]) / (steps.at(-1) - steps[0] || 1)) * (cell * (count - 1)) + cell / 2;
  const named = columns
    ? thinned(columns).map((column) => [left + (column + 0.5) * cell, columns[column]])
    : ticks(steps[0], steps.at(-1), 6).map((tick) => [px(tick), significant(tick, 6)]);
  for (const [x, name] of named) {
    parts.push(svg("text", { x, y: base + 16, "text-anchor": "middle" }, name));
  }
  for (const mark of marks) {
    parts.push(
      svg("line", { class: "phase", x1: px(mark.x), x2: px(mark.x), y1: TOP - 4, y2: base + 2 }),
    );
    if (mark.name)
      parts.push(svg("text", { class: "note", x: px(mark.x) + 4, y: TOP - 6 }, mark.name));
  }
  parts.push(
    svg("text", { x: (left + width) / 2, y: base + 33, "text-anchor": "middle" }, axis ?? "step"),
  );
  const box = { class: "chart live-chart", viewBox: `0 0 ${width} ${height}`, role: "img" };
  const desc = `${rows.length} layers over ${count} ${columns ? "columns" : "spans of steps"}.`;
  return svg("svg", box, svg("title", {}, title), svg("desc", {}, desc), parts);
}

/** The positions of at most eight of `names`, evenly apart. */
function thinned(names) {
  const apart = Math.ceil(names.length / 8);
  return [...names.keys()].filter((index) => index % apart === 0);
}

/** A list of names with their colours. */
export function legend(entries) {
  const item = (entry) =>
    html(
      "li",
      {},
      svg(
        "svg",
        {
          class: "swatch",
          viewBox: "0 0 12 12",
          width: 12,
          height: 12,
          "aria-hidden": "true",
        },
        svg("rect", {
          class: entry.key ? `mark key-${entry.key}` : "mark",
          width: 12,
          height: 12,
          rx: 2,
        }),
      ),
      html("span", {}, entry.name),
    );
  return html("ul", { class: "legend" }, entries.map(item));
}
