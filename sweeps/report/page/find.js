// Finding models by words, and by conditions on any column: `mlp learning_rate<0.1 rank<=10`.

import { plain } from "./words.js";

const CONDITION = /^([^<>=!]+)(<=|>=|!=|<|>|=)(.+)$/;
const HOLDS = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
};

/** A name or a value as one word of a query. */
export function asWord(text) {
  return `${text}`.toLowerCase().replaceAll(/\s+/g, "_");
}

/** A test of a model's position. Every word must be met: a condition on a column, which is named
 * by its id or by a setting's name; or a part of the model's name, settings or id. */
export function matcher(query, columns, text) {
  const words = query.trim().split(/\s+/).filter(Boolean);
  const tests = words.map((word) => {
    const [, name, sign, wanted] = word.match(CONDITION) ?? [];
    const named = ({ id }) =>
      name && [id, id.replace(/^setting:/, "")].map(asWord).includes(asWord(name));
    const column = columns.find(named);
    if (!column) {
      const part = word.toLowerCase();
      return (model) => text(model).includes(part);
    }
    return (model) => {
      const value = column.value(model);
      if (value === null || value === undefined) return false;
      if (sign !== "=" && sign !== "!=") {
        const isNumber = typeof value === "number";
        return HOLDS[sign](
          isNumber ? value : asWord(value),
          isNumber ? Number(wanted) : asWord(wanted),
        );
      }
      // `init=orthogonal|default` is met by either, `!=` by neither.
      const forms = [asWord(plain(value)), asWord(value)];
      const met = wanted
        .split("|")
        .some((each) => forms.includes(asWord(each)) || value === Number(each));
      return met === (sign === "=");
    };
  });
  return (model) => tests.every((test) => test(model));
}
