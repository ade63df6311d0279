// The tables that the page is written with, or that are small enough to be written whole, read as
// columns and rows, so that each can be saved as the ranking can.

import { below, fileName, tableButtons } from "./exporting.js";
import { asWord } from "./find.js";

/** What stands in a cell, without what is folded away or drawn. */
function wordsOf(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (node.nodeType !== Node.ELEMENT_NODE || node.matches("svg, details")) return "";
  const words = [...node.childNodes].map(wordsOf).join("");
  // What the style sets below its line is another word.
  return node.matches("small, strong, span") ? ` ${words} ` : words;
}

function text(cell) {
  return wordsOf(cell)
    .replaceAll("\u00ad", "")
    .replaceAll(/\s+/g, " ")
    .replaceAll(" ,", ",")
    .trim();
}

/** The columns of `table`, as the ranking's are, and its rows: lists of cells.
 *
 * A figure's whole value stands in its `<data>`; a cell with several names each by `data-field`. */
export function readTable(table) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).map((row) => [...row.cells]);
  const columns = [...table.tHead.rows[table.tHead.rows.length - 1].cells].map((head, index) => {
    const title = text(head);
    const id = head.dataset.field ?? asWord(title);
    const figures = (cells) => [...cells[index].querySelectorAll("data")];
    const fields = new Set(rows.flatMap(figures).map((figure) => figure.dataset.field));
    fields.delete(undefined);
    const value = (cells) => {
      const [figure] = figures(cells);
      if (figure) return Number(figure.value);
      return cells[index].querySelector(".missing") ? null : text(cells[index]);
    };
    const fieldOf = (name) => (cells) => {
      const found = figures(cells).find((figure) => figure.dataset.field === name);
      return found ? Number(found.value) : null;
    };
    return {
      ...{ id, title, value, figure: head.classList.contains("figure") },
      words: (cells) => text(cells[index]),
      fields: fields.size
        ? [...fields].map((name) => [`${id} ${name}`, fieldOf(name)])
        : [[id, value]],
    };
  });
  return { columns, rows };
}

/** Sets buttons below the table in `frame`, if it has heads to name its columns. */
export function withButtons(frame) {
  const table = frame.querySelector("table");
  if (!table?.tHead) return;
  const name = fileName(frame.getAttribute("aria-label"));
  const buttons = tableButtons(name, () => readTable(table));
  frame.after(below(buttons));
}
