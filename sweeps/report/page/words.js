// How figures are put into words: as sweeps.report.wording does it, but for how halves are rounded.

export const MISSING = "–";
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

function missing(value) {
  return value === null || value === undefined || !Number.isFinite(value);
}

/** To three decimals; small or large ones to as many significant figures. */
export function number(value, digits = 3) {
  if (missing(value)) return MISSING;
  const size = Math.abs(value);
  if (size === 0 || (size >= 10 ** (1 - digits) && size < 1e3)) {
    return value.toFixed(digits).replace("-", "−");
  }
  return significant(value, digits);
}

/** To some significant figures, as a power of ten where digits would be many. */
export function significant(value, digits = 3) {
  if (missing(value)) return MISSING;
  const size = Math.abs(value);
  if (size === 0 || (size >= 1e-4 && size < 1e6)) {
    const text =
      size >= 10 ** digits - 0.5 ? value.toFixed(0) : `${Number(value.toPrecision(digits))}`;
    return text.replace("-", "−");
  }
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = [...`${Number(exponent)}`].map((c) => (c === "-" ? "⁻" : SUPERSCRIPTS[c])).join("");
  return `${Number(mantissa)}·10${power}`.replace("-", "−");
}

/** A share of one as whole per cent, but never 0% or 100% by rounding alone. */
export function percent(value) {
  if (missing(value)) return MISSING;
  if (value > 0 && value < 0.01) return "<1%";
  if (value > 0.99 && value < 1) return ">99%";
  return `${(100 * value).toFixed(0)}%`;
}

/** A range of ranks: "3", or "1–4". */
export function span(low, high) {
  return low === high ? `${low}` : `${low}–${high}`;
}

/** A difference, with its sign, as `shown` writes the figures themselves; nothing finer. */
export function difference(value, shown) {
  if (missing(value)) return "";
  const text = shown === number ? Math.abs(value).toFixed(3) : shown(Math.abs(value));
  if (!/[1-9]/.test(text) || Math.abs(value) < 1e-12) return "±0";
  return `${value > 0 ? "+" : "−"}${text}`;
}

/** A setting's value. */
export function plain(value) {
  if (value === null || value === undefined) return MISSING;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? `${value}` : significant(value);
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
