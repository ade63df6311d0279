// Parallel coordinates: a line for every model across its settings and figures. A stretch of an
// axis is chosen by dragging along it, or by the arrow keys, which writes the condition into the
// field "Find": the table follows.

import { logTicks, ticks } from "./chart.js";
import { html, svg } from "./elements.js";
import { asWord } from "./find.js";
import { PAPER_WIDTH, Pen } from "./pen.js";
import { plain, significant } from "./words.js";

const HEIGHT = 340;
const TOP = 46;
const BOTTOM = 22;
const SIDE = 64;
const NEAR = 26;
const LETTER_WIDTH = 6.5;
const NEAR_END = 0.02;
/** How far an arrow key moves the end of a stretch, in places. */
const KEY_STEP = 0.05;

/** What a column's values are spread over: `place(value)` from 0 (bottom) to 1, or null. */
export function axisOf(column, models) {
  const values = models.map((model) => column.value(model));
  const known = values.filter(
    (value) => value !== null && value !== undefined && !Number.isNaN(value),
  );
  if (new Set(known).size < 2) return null;
  if (known.every((value) => typeof value === "number")) {
    const low = known.reduce((a, b) => Math.min(a, b));
    const high = known.reduce((a, b) => Math.max(a, b));
    const log = low > 0 && high / low > 30;
    const scaled = (value) => (log ? Math.log(value) : value);
    const width = scaled(high) - scaled(low);
    return {
      ...{ column, low, high, log },
      labels: (log ? logTicks(low, high) : ticks(low, high, 4)).map((value) => [
        value,
        significant(value),
      ]),
      place: (value) =>
        typeof value === "number" && !Number.isNaN(value)
          ? (scaled(value) - scaled(low)) / width
          : null,
      value: (place) => (log ? Math.exp(scaled(low) + place * width) : low + place * width),
    };
  }
  const names = [...new Set(known.map(plain))].sort();
  const last = Math.max(1, names.length - 1);
  return {
    ...{ column, names },
    labels: names.map((name) => [name, name]),
    place: (value) =>
      value === null || value === undefined ? null : names.indexOf(plain(value)) / last,
  };
}

/** The words of a query without those about a column, and with `conditions` in their place. */
export function withConditions(query, id, conditions) {
  const about = (word) => /^(<=|>=|!=|<|>|=)/.test(word.slice(asWord(id).length));
  const other = (word) => word && !(asWord(word).startsWith(asWord(id)) && about(word));
  return [...query.split(/\s+/).filter(other), ...conditions].join(" ");
}

/** The conditions that choose a stretch of an axis, from `low` to `high` in places. What lies within
 * is chosen: bounds are rounded outwards, and those at an end are the end itself. */
export function conditionsOf(axis, low, high) {
  const id = asWord(axis.column.id);
  if (axis.names) {
    const chosen = axis.names.filter((name) => axis.place(name) >= low && axis.place(name) <= high);
    return chosen.length ? [`${id}=${chosen.map(asWord).join("|")}`] : [];
  }
  const told = (place, round) => {
    const value = axis.value(place);
    const size = axis.log ? Math.abs(value) : axis.high - axis.low;
    const step = 10 ** (Math.floor(Math.log10(size)) - 2);
    return Number((round(value / step) * step).toPrecision(12));
  };
  const from = low < NEAR_END ? axis.low : told(low, Math.floor);
  const to = high > 1 - NEAR_END ? axis.high : told(high, Math.ceil);
  return [`${id}>=${from}`, `${id}<=${to}`];
}

export class Parallel {
  constructor(frame, view) {
    this.view = view;
    this.canvas = html("canvas", {
      ...{ class: "parallel", tabindex: "0", role: "slider", "aria-valuemin": 1 },
      onkeydown: (event) => this.#press(event),
      onfocus: () => this.draw(),
      onblur: () => this.draw(),
    });
    this.printed = html("div", { class: "on-paper" });
    frame.replaceChildren(this.canvas, this.printed);
    /** By an axis' column: the stretch that the keys have chosen, [low, high]. */
    this.stretches = new Map();
    this.at = 0;
    addEventListener("beforeprint", () => {
      if (!this.axes?.length) return;
      this.width = PAPER_WIDTH;
      this.printed.replaceChildren(this.whole(this.printed));
    });
    addEventListener("afterprint", () => {
      this.printed.replaceChildren();
      this.draw();
    });
    this.canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    this.canvas.addEventListener("pointermove", (event) => this.#follow(event));
    this.canvas.addEventListener("pointerup", () => this.#end());
    new ResizeObserver(() => this.axes && this.draw()).observe(frame);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** `chosen` of `models` are drawn strongly; `share(model)` from 0 to 1 is how strongly. */
  show(columns, models, chosen, share) {
    this.models = models;
    this.chosen = chosen;
    this.share = share;
    this.axes = columns.map((column) => axisOf(column, models)).filter(Boolean);
    this.canvas.setAttribute(
      "aria-label",
      `${models.length} models over ${this.axes.map(({ column }) => column.title).join(", ")}; left and right change the axis, up and down move the low end of what is chosen on it, with Shift the high end, Delete lets go`,
    );
    this.canvas.setAttribute("aria-valuemax", Math.max(1, this.axes.length));
    this.draw();
  }

  draw() {
    if (!this.axes?.length) return;
    const width = this.canvas.clientWidth || 900;
    const ratio = devicePixelRatio || 1;
    Object.assign(this.canvas, { width: width * ratio, height: HEIGHT * ratio });
    this.width = width;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.#drawOn(context, this.canvas);
    this.at = Math.min(this.at, this.axes.length - 1);
    this.canvas.setAttribute("aria-valuenow", this.at + 1);
    this.canvas.setAttribute("aria-valuetext", this.#told());
  }

  /** All of it as one SVG, in the colours of `styled`. */
  whole(styled = this.canvas) {
    const pen = new Pen();
    this.#drawOn(pen, styled);
    const box = { class: "chart live-chart", viewBox: `0 0 ${this.width} ${HEIGHT}`, role: "img" };
    const title = svg("title", {}, "Models over their settings and figures");
    return svg("svg", box, title, pen.parts);
  }

  #told() {
    const { column } = this.axes[this.at];
    const conditions = this.#conditions(column);
    const which = conditions.length ? conditions.join(" ") : "all of it";
    return `${column.title}: ${which}; ${this.chosen.size} models chosen`;
  }

  /** What "Find" says of a column. */
  #conditions(column) {
    const others = withConditions(this.view.find, column.id, []).split(" ");
    return this.view.find.split(/\s+/).filter((word) => word && !others.includes(word));
  }

  /** Draws on a canvas' context, or a pen. */
  #drawOn(context, styled) {
    const style = getComputedStyle(styled);
    const colour = (name) => style.getPropertyValue(name).trim();
    const others = this.models.filter((model) => !this.chosen.has(model));
    context.lineWidth = 1;
    this.#lines(context, others, colour("--mark"), () => Math.min(0.25, 30 / others.length));
    const strong = Math.max(0.08, Math.min(0.9, 90 / this.chosen.size));
    const inOrder = [...this.chosen].sort((a, b) => this.share(a) - this.share(b));
    this.#lines(
      context,
      inOrder,
      colour("--accent"),
      (model) => strong * (0.3 + 0.7 * this.share(model)),
    );
    this.#frame(context, colour);
  }

  #lines(context, models, colour, opacity) {
    context.strokeStyle = colour;
    const xs = this.axes.map((_, index) => this.#x(index));
    for (const model of models) {
      context.globalAlpha = opacity(model);
      context.beginPath();
      let pen = false;
      this.axes.forEach((axis, index) => {
        const place = axis.place(axis.column.value(model));
        if (place === null) pen = false;
        else {
          const y = this.#y(place);
          if (pen) context.lineTo(xs[index], y);
          else context.moveTo(xs[index], y);
          pen = true;
        }
      });
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  #frame(context, colour) {
    context.font = "12px sans-serif";
    context.textAlign = "center";
    const room = (this.width - 2 * SIDE) / Math.max(1, this.axes.length - 1) / LETTER_WIDTH;
    const [most, mostOfTitle] = [1, 2].map((times) => Math.max(5, Math.floor(times * room)));
    const isFocused = document.activeElement === this.canvas;
    this.axes.forEach((axis, index) => {
      const x = this.#x(index);
      const isAt = isFocused && index === this.at && this.canvas.matches(":focus-visible");
      context.lineWidth = isAt ? 3 : 1;
      context.strokeStyle = colour(isAt ? "--accent" : "--strong-line");
      context.beginPath();
      context.moveTo(x, TOP);
      context.lineTo(x, HEIGHT - BOTTOM);
      context.stroke();
      context.fillStyle = colour("--ink");
      context.fillText(
        shortened(axis.column.title, Math.min(16, mostOfTitle)),
        x,
        index % 2 ? 12 : 28,
      );
      context.lineWidth = 3;
      context.strokeStyle = colour("--ground");
      context.fillStyle = colour("--soft");
      for (const [value, label] of axis.labels) {
        const y = this.#y(axis.place(value)) + 4;
        context.strokeText(shortened(label, Math.min(14, most)), x, y);
        context.fillText(shortened(label, Math.min(14, most)), x, y);
      }
      context.lineWidth = 1;
      if (this.brush?.index === index) {
        const [from, to] = [this.brush.from, this.brush.to].sort((a, b) => a - b);
        context.fillStyle = colour("--accent");
        context.globalAlpha = 0.25;
        context.fillRect(x - 8, this.#y(to), 16, this.#y(from) - this.#y(to));
        context.globalAlpha = 1;
      }
    });
  }

  #x(index) {
    return SIDE + (index / Math.max(1, this.axes.length - 1)) * (this.width - 2 * SIDE);
  }

  #y(place) {
    return HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM);
  }

  #press(event) {
    const { key, shiftKey } = event;
    const across = { ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0;
    const along = { ArrowDown: -1, ArrowUp: 1 }[key] ?? 0;
    const isLetGo = key === "Delete" || key === "Backspace";
    if (!this.axes?.length || !(across || along || isLetGo)) return;
    event.preventDefault();
    this.at = Math.max(0, Math.min(this.axes.length - 1, this.at + across));
    if (along || isLetGo) this.#move(this.axes[this.at], shiftKey ? 1 : 0, along * KEY_STEP);
    this.draw();
  }

  /** Moves an end of an axis' stretch by `step`; by none, lets go of it. */
  #move(axis, end, step) {
    const { id } = axis.column;
    if (!this.#conditions(axis.column).length) this.stretches.delete(id);
    const stretch = this.stretches.get(id) ?? [0, 1];
    const [low, high] = end ? [stretch[0], 1] : [0, stretch[1]];
    stretch[end] = Math.max(low, Math.min(high, Number((stretch[end] + step).toFixed(2))));
    if (step) this.stretches.set(id, stretch);
    else this.stretches.delete(id);
    const isAll = !step || (stretch[0] === 0 && stretch[1] === 1);
    const conditions = isAll ? [] : conditionsOf(axis, ...stretch);
    this.view.change({ find: withConditions(this.view.find, id, conditions) });
  }

  #placeOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const place = (HEIGHT - BOTTOM - (event.clientY - box.top)) / (HEIGHT - TOP - BOTTOM);
    return Math.max(0, Math.min(1, place));
  }

  #begin(event) {
    const x = event.clientX - this.canvas.getBoundingClientRect().left;
    const index = this.axes.findIndex((_, each) => Math.abs(this.#x(each) - x) < NEAR);
    if (index < 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    const place = this.#placeOf(event);
    this.brush = { index, from: place, to: place };
  }

  #follow(event) {
    if (!this.brush) return;
    this.brush.to = this.#placeOf(event);
    this.draw();
  }

  #end() {
    if (!this.brush) return;
    const { index, from, to } = this.brush;
    const axis = this.axes[index];
    this.brush = null;
    const [low, high] = [from, to].sort((a, b) => a - b);
    // A press without a drag lets go of the axis.
    const conditions = high - low > 0.02 ? conditionsOf(axis, low, high) : [];
    this.stretches.set(axis.column.id, [low, high]);
    this.view.change({ find: withConditions(this.view.find, axis.column.id, conditions) });
    this.draw();
  }
}

function shortened(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
