// Traceability against the metric, at any α and of any kind: all models, however many, as marks that
// tell what they are and open the model, to the pointer and to the keyboard alike.

import { ticks } from "./chart.js";
import { html, svg } from "./elements.js";
import { PAPER_WIDTH, Pen } from "./pen.js";
import { labels, layout } from "./scatter_layout.js";
import { number, significant } from "./words.js";

/** Pixels from a mark at which the pointer is taken to mean it. */
const NEAR = 14;
const LONGEST_NAME = 26;
const FADED = 0.12;

/** The chart in `frame`; `open(model)` is called for a mark that is pressed. */
export class Scatter {
  constructor(frame, open) {
    this.frame = frame;
    this.open = open;
    const hidden = { "aria-hidden": "true", class: "chart" };
    this.under = svg("svg", hidden);
    this.canvas = html("canvas", { "aria-hidden": "true" });
    this.over = svg("svg", hidden);
    this.told = html("p", { class: "told", "aria-hidden": "true", hidden: true });
    this.stepper = html("div", {
      ...{ class: "stepper", tabindex: "0", role: "slider", "aria-valuemin": 1 },
      "aria-label": "Models from low to high traceability; Enter opens one",
      onkeydown: (event) => this.#step(event),
      onfocus: () => this.#point(this.stepper.matches(":focus-visible") ? this.#start() : null),
      onblur: () => this.#point(null),
      onpointermove: (event) => this.#point(this.#nearest(event)),
      onpointerleave: () => this.#point(null),
      onclick: (event) => this.#press(this.#nearest(event)),
    });
    this.printed = html("div", { class: "on-paper" });
    const layers = [this.under, this.canvas, this.over, this.stepper, this.told];
    frame.replaceChildren(html("div", { class: "layers" }, layers), this.printed);
    new ResizeObserver(() => this.given && this.draw()).observe(frame);
    matchMedia("(prefers-color-scheme: dark)").addEventListener(
      "change",
      () => this.given && this.draw(),
    );
    addEventListener("beforeprint", () => {
      if (!this.given) return;
      this.drawn = this.#laidOut(PAPER_WIDTH);
      this.printed.replaceChildren(this.whole(this.printed));
    });
    addEventListener("afterprint", () => {
      this.printed.replaceChildren();
      if (this.given) this.draw();
    });
  }

  /** `chosen` models are drawn; the others are faded. */
  show(data, view, order, chosen) {
    this.given = { data, view, order };
    this.chosen = chosen;
    this.draw();
  }

  #laidOut(width) {
    const { data, view, order } = this.given;
    return layout(data, view, order, width);
  }

  draw() {
    const width = this.frame.clientWidth || 900;
    this.drawn = this.#laidOut(width);
    const { height } = this.drawn.box;
    for (const layer of [this.under, this.over]) {
      layer.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
    this.under.replaceChildren(...this.#axes());
    this.over.replaceChildren(...this.#leaders());
    const ratio = devicePixelRatio || 1;
    Object.assign(this.canvas, { width: width * ratio, height: height * ratio });
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.#points(context, this.frame);
    const shown = [...this.drawn.marks, ...this.drawn.hollow].filter((mark) =>
      this.#isChosen(mark),
    );
    this.steps = shown.sort((a, b) => a.score - b.score);
    this.stepper.setAttribute("aria-valuemax", Math.max(1, this.steps.length));
    this.#point(document.activeElement === this.stepper ? this.#again() : null);
  }

  /** All of it as one SVG, in the colours of `styled`. */
  whole(styled = this.frame) {
    const { width, height } = this.drawn.box;
    const pen = new Pen();
    this.#points(pen, styled);
    const title = `Traceability against validation ${this.given.data.metric.label}`;
    return svg(
      "svg",
      { class: "chart live-chart", viewBox: `0 0 ${width} ${height}`, role: "img" },
      svg("title", {}, title),
      svg(
        "desc",
        {},
        `${this.drawn.marks.length} ranked models, ${this.drawn.hollow.length} hollow`,
      ),
      ...[this.#axes(), pen.parts, this.#leaders()],
    );
  }

  #isChosen({ model }) {
    return model === undefined || this.chosen.has(model);
  }

  #axes() {
    const { box, x, y, across, up, lines } = this.drawn;
    const { metric } = this.given.data;
    const right = box.width - box.right;
    const bottom = box.height - box.bottom;
    const better = metric.direction === "minimize" ? "lower" : "higher";
    const told = ({ name, value, out }) => `${name} ${number(value)}${out ? " ↓" : ""}`;
    const [inside, outside] = [false, true].map((out) => lines.filter((line) => line.out === out));
    // What lies below the axis is told beside the line above it, where two notes have no room.
    const notes = inside.map((line) => [y(line.value) - 6, [line]]);
    if (notes.length) notes[0][1].push(...outside);
    else if (outside.length) notes.push([bottom - 8, outside]);
    const end = { "text-anchor": "end", x: right - 4 };
    return [
      ...ticks(...up, 8).flatMap((tick) => [
        svg("line", { class: "grid", x1: box.left, x2: right, y1: y(tick), y2: y(tick) }),
        svg("text", { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, significant(tick)),
      ]),
      ...ticks(...across, box.width > 600 ? 7 : 4).flatMap((tick) => [
        svg("line", { class: "tickmark", x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 5 }),
        svg("text", { x: x(tick), y: bottom + 19, "text-anchor": "middle" }, significant(tick, 6)),
      ]),
      svg("line", { class: "axis", x1: box.left, x2: right, y1: bottom, y2: bottom }),
      svg(
        "text",
        { class: "title", x: (box.left + right) / 2, y: box.height - 6, "text-anchor": "middle" },
        `traceability at α = ${significant(this.given.view.alpha, 6)} →`,
      ),
      svg(
        "text",
        { class: "title", x: 4, y: 14 },
        `${metric.label} on validation data, ${better} is better ↑`,
      ),
      ...inside.map(({ value }) =>
        svg("line", { class: "floor", x1: box.left, x2: right, y1: y(value), y2: y(value) }),
      ),
      ...notes.map(([at, every]) =>
        svg("text", { class: "note", ...end, y: at }, every.map(told).join(", ")),
      ),
    ];
  }

  /** The marks but those with letters, on a canvas or a pen; `styled` has the colours. */
  #points(context, styled) {
    const style = getComputedStyle(styled);
    const colour = (name) => style.getPropertyValue(name).trim();
    const { marks, hollow } = this.drawn;
    const size = marks.length <= 60 ? 5.5 : marks.length <= 300 ? 4 : 3;
    const isFiltered = this.chosen.size < this.given.order.order.length;
    context.strokeStyle = colour("--mark");
    context.lineWidth = 1.4;
    context.globalAlpha = isFiltered ? FADED : 0.6;
    for (const mark of hollow) {
      context.beginPath();
      if (mark.out) arrow(context, mark);
      else context.arc(mark.x, mark.y, 4.5, 0, 2 * Math.PI);
      context.stroke();
    }
    context.fillStyle = colour("--mark");
    context.strokeStyle = colour("--ground");
    context.lineWidth = 1;
    const plain = marks.filter((mark) => !mark.key || !this.#isChosen(mark));
    const faded = plain.filter((mark) => !this.#isChosen(mark));
    for (const mark of [...faded, ...plain.filter((mark) => this.#isChosen(mark))]) {
      context.globalAlpha = this.#isChosen(mark) ? 0.75 : FADED;
      context.beginPath();
      if (this.given.order.front.has(mark.model)) diamond(context, mark, size * 1.35);
      else context.arc(mark.x, mark.y, size, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
  }

  /** Marks, ranges and letters of the models that have one in all charts. */
  #leaders() {
    const { models } = this.given.data;
    const { box, x, y, marks } = this.drawn;
    const leaders = marks.filter((mark) => mark.key && this.#isChosen(mark)).reverse();
    const named = box.width > 600;
    const name = ({ model }) => {
      const { architecture, init } = models;
      const text = `${architecture[model]} · ${init[model]}`;
      return text.length > LONGEST_NAME ? `${text.slice(0, LONGEST_NAME - 1)}…` : text;
    };
    const widthOf = (mark) => 20 + (named ? name(mark).length * 7.5 + 6 : 0);
    const places = labels(leaders, this.drawn, widthOf);
    const drawn = leaders.map((mark, index) => {
      const { left, top, width } = places[index];
      const centre = top + 10;
      const key = `key-${mark.key}`;
      const near = Math.min(Math.max(mark.x, left + 10), left + width);
      const line = { x1: mark.x, y1: mark.y, x2: near, y2: centre, class: "leader-line" };
      return [
        whiskers(mark, x, y),
        this.given.order.front.has(mark.model)
          ? svg("path", { class: `mark pareto ${key}`, d: diamondPath(mark, 7.4) })
          : svg("circle", { class: `mark ${key}`, cx: mark.x, cy: mark.y, r: 5.5 }),
        svg("line", line),
        svg(
          "g",
          { class: `badge ${key}` },
          svg("circle", { class: "disc", cx: left + 10, cy: centre, r: 8.5 }),
          svg(
            "text",
            { class: "letter", x: left + 10, y: centre + 3.9, "text-anchor": "middle" },
            mark.key,
          ),
        ),
        named ? svg("text", { class: "name", x: left + 23, y: centre + 4.2 }, name(mark)) : null,
      ];
    });
    return drawn.reverse().flat().filter(Boolean);
  }

  #nearest(event) {
    const corner = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - corner.left, event.clientY - corner.top];
    let found = null;
    let least = NEAR ** 2;
    // What is drawn on top is meant where marks lie on each other.
    for (const mark of [...this.drawn.hollow, ...this.drawn.marks]) {
      const distance = (mark.x - x) ** 2 + (mark.y - y) ** 2;
      if (distance <= least && this.#isChosen(mark)) [found, least] = [mark, distance];
    }
    return found;
  }

  #start() {
    return this.#again() ?? this.steps.at(-1) ?? null;
  }

  /** The mark that was last told of, where it is now. */
  #again() {
    const { model, excluded } = this.last ?? {};
    return this.steps.find((mark) => mark.model === model && mark.excluded === excluded) ?? null;
  }

  #step(event) {
    const { length } = this.steps;
    if (!length) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#press(this.pointed);
      return;
    }
    const moved = {
      ...{ ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 },
      ...{ PageUp: 10, PageDown: -10, Home: -length, End: length },
    }[event.key];
    if (!moved) return;
    event.preventDefault();
    const from = this.pointed ? this.steps.indexOf(this.pointed) : length;
    this.#point(this.steps[Math.max(0, Math.min(length - 1, from + moved))]);
  }

  #press(mark) {
    if (mark?.model !== undefined) this.open(mark.model);
  }

  /** Tells of a mark, and rings it; of none, nothing. */
  #point(mark) {
    if (mark === this.pointed && mark) return;
    this.pointed = mark;
    this.over.querySelector(".ring")?.remove();
    this.told.hidden = !mark;
    this.stepper.classList.toggle("pressable", mark?.model !== undefined);
    if (!mark) {
      if (!this.stepper.hasAttribute("aria-valuetext")) this.#say(1, "none yet");
      return;
    }
    this.last = mark;
    this.over.append(svg("circle", { class: "ring", cx: mark.x, cy: mark.y, r: 10 }));
    this.told.textContent = this.#text(mark);
    const { width, height } = this.drawn.box;
    const [right, down] = [mark.x > width / 2, mark.y > height / 2];
    Object.assign(this.told.style, {
      left: right ? "auto" : `${mark.x + 14}px`,
      right: right ? `${width - mark.x + 14}px` : "auto",
      top: down ? "auto" : `${mark.y + 12}px`,
      bottom: down ? `${height - mark.y + 12}px` : "auto",
    });
    this.#say(this.steps.indexOf(mark) + 1, this.told.textContent);
  }

  #say(value, text) {
    this.stepper.setAttribute("aria-valuenow", value);
    this.stepper.setAttribute("aria-valuetext", text);
  }

  #text(mark) {
    const { models, metric, scatter } = this.given.data;
    const figures = `traceability ${number(mark.score)}, ${metric.label} ${number(mark.metric)}`;
    if (mark.model === undefined) {
      const { name, reason } = scatter.excluded;
      return `${name[mark.excluded]}: ${figures}; excluded, ${reason[mark.excluded]}`;
    }
    const rank = `rank ${this.given.order.ranks[mark.model]}`;
    return `${models.name[mark.model]}: ${rank}; ${figures}`;
  }
}

function whiskers({ key, x: atX, y: atY, whiskers: ends }, x, y) {
  if (!ends) return null;
  const [across, along] = [ends.score.map(x), ends.metric.map(y)];
  return svg(
    "g",
    { class: `whiskers key-${key}` },
    across.length ? svg("line", { x1: across[0], x2: across[1], y1: atY, y2: atY }) : null,
    along.length ? svg("line", { x1: atX, x2: atX, y1: along[0], y2: along[1] }) : null,
  );
}

function corners({ x, y }, size) {
  return [
    ...[
      [x, y - size],
      [x + size, y],
    ],
    ...[
      [x, y + size],
      [x - size, y],
    ],
  ];
}

function diamond(context, mark, size) {
  polygon(context, corners(mark, size));
}

function diamondPath(mark, size) {
  return `M${corners(mark, size)
    .map((corner) => corner.join(" "))
    .join("L")}Z`;
}

/** A triangle with its tip towards where the value lies. */
function arrow(context, { x, y, out: [dx, dy] }) {
  const tip = [x + 5 * dx, y + 5 * dy];
  const back = [x - 4 * dx, y - 4 * dy];
  polygon(context, [
    tip,
    [back[0] - 5 * dy, back[1] - 5 * dx],
    [back[0] + 5 * dy, back[1] + 5 * dx],
  ]);
}

function polygon(context, points) {
  context.moveTo(...points[0]);
  for (const point of points.slice(1)) context.lineTo(...point);
  context.closePath();
}
