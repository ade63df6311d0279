// What is shown, as a file: a table as CSV, JSON or Markdown, a chart as SVG or PNG.

import { html, save } from "./elements.js";

const QUOTED = /[",\n\r]/;

/** [name, value(row)] of all that the columns hold. */
function fieldsOf(columns) {
  return columns.flatMap((column) => column.fields ?? [[column.id, column.value]]);
}

/** Comma-separated, with a head; a text that a spreadsheet would take for a formula is led by an
 * apostrophe. */
export function csv(columns, rows) {
  const field = (value) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "";
    const isFormula = typeof value !== "number" && /^[=+\-@\t\r]/.test(`${value}`);
    const text = isFormula ? `'${value}` : `${value}`;
    return QUOTED.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const fields = fieldsOf(columns);
  const lines = [fields.map(([name]) => field(name))];
  for (const row of rows) lines.push(fields.map(([, value]) => field(value(row))));
  return lines.map((line) => `${line.join(",")}\r\n`).join("");
}

/** A list of objects. */
export function json(columns, rows) {
  const fields = fieldsOf(columns);
  const object = (row) => Object.fromEntries(fields.map(([name, value]) => [name, value(row)]));
  return `${JSON.stringify(rows.map(object), null, 1)}\n`;
}

/** A table for a pull request. */
export function markdown(columns, rows) {
  const escaped = (text) => text.replaceAll(/[\\|`*_<>[\]]/g, "\\$&").replaceAll(/\s+/g, " ");
  const line = (cells) => `| ${cells.join(" | ")} |\n`;
  const head = line(columns.map((column) => escaped(column.title)));
  const rule = line(columns.map((column) => (column.figure ? "--:" : "---")));
  const body = rows.map((row) => line(columns.map((column) => escaped(column.words(row)))));
  return head + rule + body.join("");
}

/** What a thing is called as a file's name. */
export function fileName(text) {
  return text.toLowerCase().replaceAll(/[^\p{L}\p{N}]+/gu, "-");
}

/** `buttons` on a line of their own. */
export function below(buttons) {
  return html("p", { class: "below" }, buttons);
}

/** Buttons that save a table; `shown()` gives its columns and rows. */
export function tableButtons(name, shown) {
  const ways = [
    ["CSV", csv, "text/csv", "csv"],
    ["JSON", json, "application/json", "json"],
    ["Markdown", markdown, "text/markdown", "md"],
  ];
  const button = ([title, write, type, ending]) =>
    html(
      "button",
      {
        type: "button",
        onclick: () => {
          const { columns, rows } = shown();
          save(`${name}.${ending}`, write(columns, rows), `${type};charset=utf-8`);
        },
      },
      title,
    );
  return html("span", { class: "exports" }, "Save as ", ways.map(button));
}

/** An SVG as a file of its own: what the page's style says of it is written into it. */
export function standalone(chart) {
  // Only what is in the page has a style.
  const isApart = !chart.isConnected;
  if (isApart) document.body.append(chart);
  const text = withStyle(chart);
  if (isApart) chart.remove();
  return text;
}

function withStyle(chart) {
  const copy = chart.cloneNode(true);
  const names = [
    "fill",
    "fill-opacity",
    "stroke",
    "stroke-width",
    "stroke-opacity",
    "stroke-dasharray",
    "font-size",
    "font-weight",
    "text-anchor",
    "paint-order",
    "stroke-linecap",
    "stroke-linejoin",
  ];
  const originals = [chart, ...chart.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, index) => {
    const style = getComputedStyle(originals[index]);
    for (const name of names) element.setAttribute(name, style.getPropertyValue(name));
    element.removeAttribute("class");
  });
  const box = chart.viewBox.baseVal;
  copy.setAttribute("width", box.width);
  copy.setAttribute("height", box.height);
  copy.setAttribute("font-family", "sans-serif");
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  ground.setAttribute("width", "100%");
  ground.setAttribute("height", "100%");
  ground.setAttribute("fill", getComputedStyle(document.body).backgroundColor);
  copy.prepend(ground);
  return new XMLSerializer().serializeToString(copy);
}

async function saveImage(name, chart) {
  const image = new Image();
  const url = URL.createObjectURL(new Blob([standalone(chart)], { type: "image/svg+xml" }));
  image.src = url;
  await image.decode();
  const box = chart.viewBox.baseVal;
  const canvas = html("canvas", { width: 2 * box.width, height: 2 * box.height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(url);
  canvas.toBlob((blob) => save(`${name}.png`, blob, "image/png"));
}

/** Buttons that save a chart: an SVG, or a function that makes one. */
export function chartButtons(name, chart) {
  const made = () => (typeof chart === "function" ? chart() : chart);
  return html(
    "span",
    { class: "exports" },
    "Save as ",
    html(
      "button",
      { type: "button", onclick: () => save(`${name}.svg`, standalone(made()), "image/svg+xml") },
      "SVG",
    ),
    html("button", { type: "button", onclick: () => saveImage(name, made()) }, "PNG"),
  );
}
