// How figures are put into words: letter for letter as sweeps.report.wording does it.

export const MISSING = "–";
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
/** Settings below are written in full where they are whole. */
const MOST_WHOLE = 1e15;

function missing(value) {
  return value === null || value === undefined || !Number.isFinite(value);
}

/** `text` is `value` as JavaScript rounds it, exactly and ties away from zero; with ties to even, as
 * Python has them. `exact` is the value in 100 digits, which hold every double that can be a tie. */
function toEven(text, exact) {
  const last = Number(text.at(-1));
  const isTie = last % 2 === 1 && /^\.?50*$/.test(exact.slice(text.length));
  return isTie ? `${text.slice(0, -1)}${last - 1}` : text;
}

function fixed(value, digits) {
  return toEven(value.toFixed(digits), value.toFixed(100));
}

/** [mantissa, exponent], as texts. */
function scientific(value, digits) {
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return [toEven(mantissa, value.toExponential(100).split("e")[0]), exponent];
}

/** To three decimals; small or large ones to as many significant figures. */
export function number(value, digits = 3) {
  if (missing(value)) return MISSING;
  const size = Math.abs(value);
  if (size === 0 || (size >= 10 ** (1 - digits) && size < 1e3)) {
    return fixed(value, digits).replace("-", "−");
  }
  return significant(value, digits);
}

/** To some significant figures, as a power of ten where digits would be many; `pad` keeps the zeros
 * at the end. */
export function significant(value, digits = 3, pad = false) {
  if (missing(value)) return MISSING;
  const size = Math.abs(value);
  const [mantissa, exponent] = scientific(value, digits);
  if (size === 0 || (size >= 1e-4 && size < 1e6)) {
    const rounded = Number(`${mantissa}e${exponent}`);
    const short = pad ? rounded.toPrecision(digits) : `${rounded}`;
    return (size >= 10 ** digits - 0.5 ? fixed(value, 0) : short).replace("-", "−");
  }
  const power = [...`${Number(exponent)}`].map((c) => (c === "-" ? "⁻" : SUPERSCRIPTS[c])).join("");
  return `${Number(mantissa)}·10${power}`.replace("-", "−");
}

/** `significant` with the zeros at the end, so that figures in a column are of one length. */
export function padded(value) {
  return significant(value, 3, true);
}

/** A share of one as whole per cent, but never 0% or 100% by rounding alone. */
export function percent(value) {
  if (missing(value)) return MISSING;
  if (value > 0 && value < 0.01) return "<1%";
  if (value > 0.99 && value < 1) return ">99%";
  return `${fixed(100 * value, 0)}%`;
}

/** A range of ranks: "3", or "1–4". */
export function span(low, high) {
  return low === high ? `${low}` : `${low}–${high}`;
}

/** A difference, with its sign, as `shown` writes the figures themselves; nothing finer. */
export function difference(value, shown) {
  if (missing(value)) return "";
  const text = shown === number ? fixed(Math.abs(value), 3) : shown(Math.abs(value));
  if (!/[1-9]/.test(text) || Math.abs(value) < 1e-12) return "±0";
  return `${value > 0 ? "+" : "−"}${text}`;
}

/** A setting's value. */
export function plain(value) {
  if (value === null || value === undefined) return MISSING;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    return Number.isInteger(value) && Math.abs(value) < MOST_WHOLE
      ? `${value}`
      : significant(value);
  }
  return typeof value === "object" ? JSON.stringify(value) : `${value}`;
}

/** A name as people read it: without the architecture's prefix. */
export function readable(name) {
  return name.split(".").at(-1).replaceAll("_", " ");
}

export function capitalised(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** 1 model, 3 models. */
export function count(amount, noun) {
  return `${amount.toLocaleString("en")} ${noun}${amount === 1 ? "" : "s"}`;
}
