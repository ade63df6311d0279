// Finding models by words, and by conditions on any column: `mlp learning_rate<0.1 rank<=10`.

const CONDITION = /^([\w.:]+)(<=|>=|!=|<|>|=)(.+)$/;
const HOLDS = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};

/** A test of a model's position. Every word must be met: a condition on a column, which is named
 * by its id or by a setting's last name; or a part of the model's name, settings or id. */
export function matcher(query, columns, text) {
  const words = query.trim().split(/\s+/).filter(Boolean);
  const tests = words.map((word) => {
    const [, name, sign, wanted] = word.match(CONDITION) ?? [];
    const column = columns.find(({ id }) => id === name || id.split(/[:.]/).at(-1) === name);
    if (!column) {
      const part = word.toLowerCase();
      return (model) => text(model).includes(part);
    }
    return (model) => {
      const value = column.value(model);
      if (value === null || value === undefined) return false;
      // `init=orthogonal|default` is met by either, `!=` by neither.
      const held =
        typeof value === "number" ? value : `${value}`.toLowerCase().replaceAll(/\s/g, "_");
      const wants = wanted
        .toLowerCase()
        .split("|")
        .map((each) => (typeof value === "number" ? Number(each) : each));
      return sign === "!="
        ? wants.every((each) => held !== each)
        : wants.some((each) => HOLDS[sign](held, each));
    };
  });
  return (model) => tests.every((test) => test(model));
}
