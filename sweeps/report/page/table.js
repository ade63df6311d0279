// A table of any length: only the rows in sight are elements, and the first ones for a printer.

import { html } from "./elements.js";

const BEYOND = 4;
const PRINTED = 300;
/** Columns that an upright sheet of paper has room for. */
const MOST_UPRIGHT = 13;

/** Shows `rows` (anything) under `columns`: {id, title, hint, figure, heading, cell(row)}.
 *
 * `pinned` rows stay under the head. `sorted` is {id, descending}; `whenSorted(id)` hears of a
 * press on a head. */
export class Table {
  constructor(frame, { caption, rowClass = () => "", whenSorted }) {
    this.frame = frame;
    this.rowClass = rowClass;
    this.whenSorted = whenSorted;
    this.head = html("thead");
    this.body = html("tbody");
    this.caption = html("caption", {}, caption);
    this.table = html("table", { class: "ranking live" }, this.caption, this.head, this.body);
    this.drawn = new Map();
    this.rowHeight = 48;
    this.height = 700;
    frame.replaceChildren(this.table);
    // Both are kept, as to ask for them while the rows change would lay out the page once more.
    this.top = 0;
    frame.addEventListener(
      "scroll",
      () => {
        this.top = frame.scrollTop;
        this.#soon();
      },
      { passive: true },
    );
    new ResizeObserver(() => {
      this.height = frame.clientHeight || 700;
      this.measured = false;
      this.#soon();
    }).observe(frame);
    addEventListener("beforeprint", () => this.#print(true));
    addEventListener("afterprint", () => this.#print(false));
  }

  /** `isStale(column)` says whether a row that was shown before may look otherwise there. */
  show({ columns, rows, pinned = [], sorted, isStale = () => true }) {
    this.columns = columns;
    this.isStale = isStale;
    this.rows = rows;
    this.pinned = pinned;
    this.sorted = sorted;
    const head = JSON.stringify([columns.map(({ id, title, hint }) => [id, title, hint]), sorted]);
    if (head !== this.headed) {
      this.headed = head;
      this.measured = false;
      this.table.classList.toggle("broad", columns.length > MOST_UPRIGHT);
      // Rows of other columns are of no use.
      this.drawn.clear();
      this.#drawHead();
    }
    this.range = null;
    this.#draw();
  }

  #soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#draw();
    });
  }

  #print(whole) {
    if (!this.rows) return;
    this.#drawHead(whole);
    this.range = null;
    this.#draw(whole);
  }

  #drawHead(isPlain = false) {
    const { sorted } = this;
    const focused = this.head.contains(document.activeElement) && document.activeElement.dataset.id;
    const heads = this.columns.map((column) => {
      const order =
        column.id === sorted.id ? (sorted.descending ? "descending" : "ascending") : null;
      const press = { type: "button", title: column.hint, "data-id": column.id };
      const button = html(
        "button",
        { ...press, onclick: () => this.whenSorted(column.id) },
        column.title,
      );
      return html(
        "th",
        { scope: "col", class: column.figure && "figure", "aria-sort": order },
        // On the sheets that follow the first one, a head's buttons would be blank.
        isPlain ? column.title : button,
      );
    });
    this.head.replaceChildren(html("tr", {}, heads));
    if (focused) this.head.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  }

  #draw(whole = false) {
    if (!this.rows) return;
    const { length } = this.rows;
    const { height, top } = this;
    let from = Math.max(0, Math.floor(top / this.rowHeight) - BEYOND);
    let to = Math.min(length, from + Math.ceil(height / this.rowHeight) + 2 * BEYOND);
    from = Math.max(0, Math.min(from, to - Math.ceil(height / this.rowHeight)));
    if (whole) [from, to] = [0, Math.min(length, PRINTED)];
    const range = `${from} ${to}`;
    if (range === this.range) return;
    this.range = range;
    const focused = this.body.contains(document.activeElement) && document.activeElement.dataset.id;
    const before = this.drawn;
    this.drawn = new Map();
    const pinned = this.pinned.map((row) => this.#row(row, null, before, "pinned"));
    const shown = this.rows.slice(from, to);
    const rows = shown.map((row, index) => this.#row(row, from + index + 1, before));
    const rest = whole ? this.#rest(length - to) : this.#space(length - to, "below", before);
    arrange(this.body, [...pinned, ...this.#space(from, "above", before), ...rows, ...rest]);
    this.table.setAttribute("aria-rowcount", length + 1);
    if (focused) {
      // Without scrolling to it: the reader may be scrolling away from it.
      const again = this.body.querySelector(`[data-id="${CSS.escape(focused)}"]`);
      again?.focus({ preventScroll: true });
    }
    this.isStale = () => false;
    if (!this.measured && !whole && rows.length) this.#measure(rows);
  }

  /** Takes the rows' height, which is the style's, from those that are drawn. */
  #measure(rows) {
    this.measured = true;
    const top = rows[0].getBoundingClientRect().top;
    const drawn = (rows.at(-1).getBoundingClientRect().bottom - top) / rows.length;
    if (drawn && Math.abs(drawn - this.rowHeight) > 0.5) {
      this.rowHeight = drawn;
      this.range = null;
      this.#draw();
    }
  }

  /** The element of a row, the one that was drawn `before` where there is one: then only what has
   * changed is laid out anew, which takes longer than all else. */
  #row(row, index, before, kind = "") {
    const cellOf = (column) => {
      const tag = column.heading ? "th" : "td";
      const attributes = { scope: column.heading && "row", class: column.figure && "figure" };
      return html(tag, attributes, column.cell(row));
    };
    const key = `${kind} ${row}`;
    const element = before.get(key) ?? html("tr", {}, this.columns.map(cellOf));
    if (before.has(key)) {
      this.columns.forEach((column, place) => {
        if (this.isStale(column)) renew(element.cells[place], cellOf(column));
      });
    }
    adopt(element, "class", `${kind} ${this.rowClass(row)}`.trim() || null);
    adopt(element, "aria-rowindex", index === null ? null : `${index + 1}`);
    this.drawn.set(key, element);
    return element;
  }

  #rest(rows) {
    if (rows <= 0) return [];
    const told = `And ${rows.toLocaleString("en")} more: ranking.csv has all of them.`;
    return [html("tr", {}, html("td", { colspan: this.columns.length }, told))];
  }

  #space(rows, key, before) {
    if (rows <= 0) return [];
    const cell = () => html("td", { colspan: this.columns.length, class: "space" });
    const element = before.get(key) ?? html("tr", { "aria-hidden": "true" }, cell());
    element.cells[0].style.height = `${rows * this.rowHeight}px`;
    this.drawn.set(key, element);
    return [element];
  }
}

/** Makes `wanted` the children of `parent`, in this order; those that stand right aren't touched. */
function arrange(parent, wanted) {
  const kept = new Set(wanted);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const element of wanted) {
    // One that stands before it comes later: it alone is moved, and not all behind it.
    if (next && element === next.nextElementSibling) next.remove();
    else if (element !== next) parent.insertBefore(element, next);
    next = element.nextElementSibling;
  }
}

/** Makes the cell `old` look like `fresh`. */
function renew(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const [was, is] = [old, fresh].map(({ childNodes }) => childNodes.length === 1 && childNodes[0]);
  if (was?.nodeType === Node.TEXT_NODE && is?.nodeType === Node.TEXT_NODE) was.data = is.data;
  else old.replaceChildren(...fresh.childNodes);
}

function adopt(element, name, value) {
  if (element.getAttribute(name) === value) return;
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}
