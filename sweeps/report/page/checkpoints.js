// Brings the page of a series of saved checkpoints to life: its curves, its maps of layers, and
// buttons that save them. Without it, the page still has every figure in its tables.

import { lineChart } from "./chart.js";
import { unpacked } from "./data.js";
import { html } from "./elements.js";
import { chartButtons } from "./exporting.js";
import { layerMap } from "./layers.js";
import { withButtons } from "./static_tables.js";

function curve({ title, file, log, xs, ys, told }, x) {
  const lines = [{ key: "A", xs, ys, told }];
  const drawing = lineChart({ title, x, y: { label: title, log }, lines });
  return drawing && html("figure", {}, drawing, chartButtons(file, drawing));
}

function map({ title, file, log, rows, columns, places, values, axis }) {
  const place = (column) => places[column];
  return layerMap({ title, file, log, rows, columns, axis, values, place });
}

function fill(id, drawings) {
  document.getElementById(id)?.replaceChildren(...drawings.filter(Boolean));
}

async function start() {
  const data = await unpacked(document.getElementById("data").textContent);
  document.documentElement.classList.add("scripted");
  const curves = data.curves.map((each) => curve(each, data.x));
  fill("curves", curves);
  fill("maps", data.maps.map(map));
  for (const frame of document.querySelectorAll("main .scroll")) withButtons(frame);
  window.page = { data };
}

if (typeof document !== "undefined") start();
