// What the reader turns: α, the kinds, what to find, which columns, what to compare with.

import { html } from "./elements.js";
import { readable } from "./words.js";

const ALWAYS = ["rank", "model"];

/** A labelled control. */
function field(label, control) {
  return html("label", { class: "field" }, html("span", {}, label), control);
}

function choice(name, view, options) {
  const select = html(
    "select",
    { onchange: () => view.change({ [name]: select.value }) },
    options.map((value) => html("option", { value }, readable(value))),
  );
  view.whenChanged(() => {
    select.value = view[name];
  });
  select.value = view[name];
  return select;
}

/** α as a slider, and as a number for an exact one. */
function alphaField(view) {
  const take = (text) => {
    const alpha = Number(text);
    if (text !== "" && alpha >= 0 && alpha <= 1) view.change({ alpha });
  };
  const bounds = { min: 0, max: 1, step: 0.01 };
  const slider = html("input", {
    type: "range",
    ...bounds,
    class: "alpha",
    "aria-label": "α, the weight of stability",
    oninput: () => take(slider.value),
  });
  const exact = html("input", {
    type: "number",
    ...bounds,
    step: "any",
    "aria-label": "α, exactly",
    onchange: () => take(exact.value),
  });
  const follow = () => {
    if (Number(slider.value) !== view.alpha) slider.value = view.alpha;
    if (Number(exact.value) !== view.alpha || exact.value === "") exact.value = view.alpha;
  };
  view.whenChanged(follow);
  follow();
  return html(
    "div",
    { class: "field wide" },
    html("span", {}, "α: explainability alone (0) … stability alone (1)"),
    html("div", { class: "alpha-row" }, slider, exact),
  );
}

/** The kinds that can be changed to, by what the data hold. */
export function kindsOf(models) {
  const of = (what) =>
    Object.keys(models.values)
      .filter(
        (name) =>
          name.startsWith(`${what}.`) && models.values[name].some((value) => value !== null),
      )
      .map((name) => name.slice(what.length + 1));
  return {
    stability: of("stability"),
    explainability: of("explainability"),
    change_rate: of("change_rate"),
  };
}

/** A box for every column but those that are always there. */
function columnBoxes(view, columns) {
  const boxes = columns
    .filter(({ id }) => !ALWAYS.includes(id))
    .map(({ id, title }) => {
      const choose = () => {
        const wanted = (each) => (each === id ? box.checked : view.columns.includes(each));
        view.change({ columns: columns.map((column) => column.id).filter(wanted) });
      };
      const box = html("input", { type: "checkbox", onchange: choose });
      const follow = () => {
        box.checked = view.columns.includes(id);
      };
      view.whenChanged(follow);
      follow();
      return html("label", { class: "check" }, box, title);
    });
  return html("div", { class: "checks" }, boxes);
}

/** What is chosen, in words: paper shows no controls. */
function chosenIn(view) {
  const kinds = {
    calibrated: ["stability", "explainability"],
    article: ["change_rate"],
  }[view.reading].map((name) => `${readable(name)} ${readable(view[name])}`);
  const found = view.find.trim() ? [`found by “${view.find.trim()}”`] : [];
  return `${[`α = ${view.alpha}`, `reading ${view.reading}`, ...kinds, ...found].join("; ")}.`;
}

/** The controls of the ranking, and of the columns. */
export function controls(view, { kinds, columns, exports }) {
  const find = html("input", {
    type: "search",
    placeholder: "words, or rank<=10, depth=2",
    oninput: () => view.change({ find: find.value }),
  });
  find.value = view.find;
  const stability = field("Stability", choice("stability", view, kinds.stability));
  const rate = field("Change rate", choice("change_rate", view, kinds.change_rate));
  const explainability = field(
    "Explainability",
    choice("explainability", view, kinds.explainability),
  );
  const follow = () => {
    stability.hidden = explainability.hidden = view.reading === "article";
    rate.hidden = view.reading !== "article";
    if (find.value !== view.find) find.value = view.find;
  };
  view.whenChanged(follow);
  follow();
  const reset = html(
    "button",
    { type: "button", onclick: () => view.change({ ...view.defaults, columns: view.columns }) },
    "As reported",
  );
  const printed = html("p", { class: "on-paper quiet" });
  const tell = () => {
    printed.textContent = chosenIn(view);
  };
  view.whenChanged(tell);
  tell();
  const noted = html("p", { class: "quiet view-note", role: "status" });
  return {
    element: html(
      "div",
      { class: "controls" },
      html(
        "div",
        { class: "fields" },
        alphaField(view),
        field("Reading", choice("reading", view, ["calibrated", "article"])),
        ...[stability, rate, explainability],
        field("Find", find),
        reset,
      ),
      html(
        "div",
        { class: "fields" },
        html(
          "details",
          { class: "columns" },
          html("summary", {}, "Columns"),
          columnBoxes(view, columns),
        ),
        exports,
      ),
      printed,
      noted,
    ),
    noted,
  };
}
