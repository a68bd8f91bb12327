/** Numbers, times and sizes as people read them. */

/** @param {number} seconds */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 && minutes < 10 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {number} value */
export function bytes(value) {
  const megabytes = value / 1e6;
  return megabytes >= 1 ? `${plain(Math.round(megabytes * 10) / 10)} MB` : `${Math.ceil(value / 1000)} kB`;
}

/**
 * Return a number with three significant digits.
 * @param {number} value
 */
export function plain(value) {
  if (Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(3)));
}

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/**
 * Return a power of ten, like 10⁻³.
 * @param {number} exponent
 */
export function powerOfTen(exponent) {
  const digits = [...String(Math.abs(exponent))].map((digit) => RAISED[Number(digit)]).join("");
  return `10${exponent < 0 ? "⁻" : ""}${digits}`;
}

/**
 * Return a loss, like 3.2 × 10⁵.
 * @param {number} value
 */
export function loss(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const exponent = Math.floor(Math.log10(Math.abs(value)));
  if (exponent >= -2 && exponent < 5) return plain(value);
  return `${(value / 10 ** exponent).toFixed(2)} × ${powerOfTen(exponent)}`;
}

/** @param {string} text an RFC 3339 time */
export function when(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return "";
  const today = new Date().toDateString() === time.toDateString();
  return new Intl.DateTimeFormat(undefined, today ? { timeStyle: "short" } : { dateStyle: "medium" }).format(time);
}

/** @param {string} word */
export const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);

/**
 * Write a message of the server, which is a line of the command line, as a sentence.
 * @param {string} line
 */
export const sentence = (line) => (line.endsWith(".") ? capital(line) : `${capital(line)}.`);
