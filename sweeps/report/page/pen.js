// A drawing context that writes SVG: what a canvas shows can be saved, and printed, as lines.

import { svg } from "./elements.js";

/** How wide what is drawn for paper is: there, text is read at about the size it is written in. */
export const PAPER_WIDTH = 720;

function short(value) {
  return Number(value.toFixed(2));
}

/** As much of CanvasRenderingContext2D as the page's drawings use; `parts` are SVG elements. */
export class Pen {
  constructor() {
    this.parts = [];
    this.globalAlpha = 1;
    this.lineWidth = 1;
    this.font = "12px sans-serif";
    this.textAlign = "start";
  }

  beginPath() {
    this.steps = [];
  }

  moveTo(x, y) {
    this.steps.push(`M${short(x)} ${short(y)}`);
  }

  lineTo(x, y) {
    this.steps.push(`L${short(x)} ${short(y)}`);
  }

  closePath() {
    this.steps.push("Z");
  }

  /** A whole circle, whatever the angles are. */
  arc(x, y, radius) {
    const [left, r] = [short(x - radius), short(radius)];
    const half = `a${r} ${r} 0 1 0 `;
    this.steps.push(`M${left} ${short(y)}${half}${2 * r} 0${half}${-2 * r} 0Z`);
  }

  fill() {
    this.#add("path", { d: this.steps.join(""), ...this.#filled() });
  }

  stroke() {
    this.#add("path", { d: this.steps.join(""), ...this.#stroked() });
  }

  fillRect(x, y, width, height) {
    this.#add("rect", { x: short(x), y: short(y), width, height, ...this.#filled() });
  }

  fillText(text, x, y) {
    this.#add("text", { x: short(x), y: short(y), ...this.#written(), ...this.#filled() }, text);
  }

  strokeText(text, x, y) {
    this.#add("text", { x: short(x), y: short(y), ...this.#written(), ...this.#stroked() }, text);
  }

  #add(tag, attributes, ...children) {
    this.parts.push(svg(tag, attributes, ...children));
  }

  #filled() {
    return { fill: this.fillStyle, "fill-opacity": this.globalAlpha };
  }

  #stroked() {
    return {
      ...{ fill: "none", stroke: this.strokeStyle },
      ...{ "stroke-opacity": this.globalAlpha, "stroke-width": this.lineWidth },
    };
  }

  #written() {
    return {
      "font-size": this.font.split(" ")[0],
      "text-anchor": { center: "middle", right: "end" }[this.textAlign] ?? "start",
    };
  }
}
