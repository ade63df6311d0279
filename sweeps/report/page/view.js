// What the reader has chosen, kept in the address behind "#", so that a view can be sent on.

const TEXTS = ["reading", "stability", "change_rate", "explainability", "find", "sort", "baseline"];

function same(a, b) {
  return Array.isArray(a)
    ? a.length === b.length && a.every((each, at) => each === b[at])
    : a === b;
}

/** The kinds that each reading uses. */
const USED = { calibrated: ["stability", "explainability"], article: ["change_rate"] };

/** A view of the page's data, with those who want to know of its changes. */
export class View {
  constructor(defaults) {
    const opened = { find: "", sort: "rank", descending: false, baseline: "", columns: [] };
    this.defaults = { ...opened, ...defaults };
    this.listeners = [];
    Object.assign(this, this.defaults);
  }

  /** Opens with other values from now on, those that were not changed among them. */
  takeDefaults(values) {
    for (const [name, value] of Object.entries(values)) {
      if (this[name] === this.defaults[name]) this[name] = value;
    }
    this.defaults = { ...this.defaults, ...values };
  }

  /** Calls `listener(view, changed)` after each change. */
  whenChanged(listener) {
    this.listeners.push(listener);
  }

  change(values) {
    const changed = Object.keys(values).filter((name) => !same(this[name], values[name]));
    if (!changed.length) return;
    Object.assign(this, values);
    for (const listener of this.listeners) listener(this, changed);
  }

  /** Whether the order is the one that was reported. */
  get asReported() {
    return this.alpha === this.defaults.alpha && this.kindsAsReported;
  }

  /** Whether it is the reported reading, of the reported kinds as far as it uses them. */
  get kindsAsReported() {
    return ["reading", ...USED[this.reading]].every((name) => this[name] === this.defaults[name]);
  }

  /** What is chosen, for behind the "#": only what differs from how the page opens. */
  toFragment() {
    const found = new URLSearchParams();
    for (const name of ["alpha", "descending", ...TEXTS]) {
      if (this[name] !== this.defaults[name]) found.set(name, this[name]);
    }
    if (!same(this.columns, this.defaults.columns)) {
      for (const id of this.columns) found.append("column", id);
    }
    return found.toString();
  }

  /** Takes over a fragment's choices; what isn't there, or isn't valid, is as the page opens. */
  readFragment(fragment, valid) {
    const given = new URLSearchParams(fragment.replace(/^#/, ""));
    const alpha = given.get("alpha")?.trim() ? Number(given.get("alpha")) : NaN;
    const values = { ...this.defaults };
    if (alpha >= 0 && alpha <= 1) values.alpha = alpha;
    if (given.has("descending")) values.descending = given.get("descending") === "true";
    for (const name of TEXTS) {
      const value = given.get(name);
      if (value !== null && (valid[name]?.includes(value) ?? name === "find")) values[name] = value;
    }
    const columns = given.getAll("column").filter((id) => valid.column?.includes(id));
    if (columns.length) values.columns = columns;
    this.change(values);
  }
}
