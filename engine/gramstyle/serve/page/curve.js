/** The loss curves: the loss and its weighted terms over the iterations, on a logarithmic scale. */

import { element, say } from "./dom.js";
import { capital, loss as asLoss, powerOfTen } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 340;
const HEIGHT = 200;
const LEFT = 40;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 24;
/** Longer curves are thinned out: more points than pixels do not show. */
const MOST_POINTS = 400;

const LABELS = { loss: "total", tv: "smoothness" };

/**
 * @param {HTMLElement} place
 */
export function curves(place) {
  /** @type {Map<number, import("./stream.js").Point>} */
  let points = new Map();
  let iterations = 0;
  let drawing = 0;

  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("class", "curve");
  const legend = element("ul", { class: "legend" });
  const empty = element("p", { class: "soft" }, "The curves appear after the first iteration.");
  place.replaceChildren(empty, svg, legend);

  function drawSoon() {
    drawing ||= requestAnimationFrame(() => {
      drawing = 0;
      draw();
    });
  }

  function draw() {
    const sorted = [...points.values()].sort(([one], [other]) => one - other);
    empty.hidden = sorted.length > 0;
    svg.toggleAttribute("hidden", sorted.length === 0);
    legend.hidden = sorted.length === 0;
    if (!sorted.length) return;
    const series = seriesOf(sorted);
    const positive = [...series.values()].flat().map(([, value]) => value);
    const bottom = Math.floor(Math.log10(Math.min(...positive)));
    const top = Math.max(bottom + 1, Math.ceil(Math.log10(Math.max(...positive))));
    const last = Math.max(iterations, sorted[sorted.length - 1][0], 1);
    /** @param {number} at */
    const x = (at) => LEFT + ((WIDTH - LEFT - RIGHT) * at) / last;
    /** @param {number} value */
    const y = (value) => TOP + ((HEIGHT - TOP - BOTTOM) * (top - Math.log10(value))) / (top - bottom);
    svg.replaceChildren(...axes(bottom, top, last, x, y));
    for (const [name, line] of series) {
      const step = Math.ceil(line.length / MOST_POINTS);
      const kept = line.filter((_, at) => at % step === 0 || at === line.length - 1);
      const path = kept.map(([at, value], n) => `${n ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`);
      // A curve of one point would be invisible.
      if (kept.length === 1) path.push("h0.1");
      svg.append(shape("path", { d: path.join(""), class: `stroke stroke-${name}`, "data-term": name }));
    }
    showLegend(series);
    const total = series.get("loss") ?? [];
    svg.setAttribute(
      "aria-label",
      `Loss curves on a logarithmic scale. ${total.length} iterations: the loss fell from ` +
        `${asLoss(total[0]?.[1] ?? 0)} to ${asLoss(total[total.length - 1]?.[1] ?? 0)}.`,
    );
  }

  /** @param {Map<string, [number, number][]>} series */
  function showLegend(series) {
    const names = [...series.keys()];
    const terms = names.join();
    if (legend.dataset.terms !== terms) {
      legend.dataset.terms = terms;
      legend.replaceChildren(...names.map(legendEntry));
    }
    names.forEach((name, at) => {
      const line = /** @type {[number, number][]} */ (series.get(name));
      say(/** @type {Element} */ (legend.children[at].lastElementChild), asLoss(line[line.length - 1][1]));
    });
  }

  draw();

  return {
    /** @param {number} total the iterations of the whole run */
    expect(total) {
      iterations = total;
      drawSoon();
    },
    /** @param {import("./stream.js").Point[]} more */
    add(more) {
      for (const point of more) points.set(point[0], point);
      drawSoon();
    },
    /** @param {import("./stream.js").Point[]} all */
    replace(all) {
      points = new Map(all.map((point) => [point[0], point]));
      if (!all.length) iterations = 0;
      drawSoon();
    },
  };
}

/**
 * Return the lines by name: the loss first, then its terms. A logarithm needs values above 0.
 * @param {import("./stream.js").Point[]} points
 * @returns {Map<string, [number, number][]>}
 */
function seriesOf(points) {
  /** @type {Map<string, [number, number][]>} */
  const series = new Map();
  for (const [at, loss, terms] of points) {
    for (const [name, value] of Object.entries({ loss, ...terms })) {
      if (!(value > 0)) continue;
      const line = series.get(name) ?? [];
      line.push([at, value]);
      series.set(name, line);
    }
  }
  return series;
}

/** @param {string} name */
function legendEntry(name) {
  const line = document.createElementNS(SVG, "svg");
  line.setAttribute("viewBox", "0 0 24 8");
  line.setAttribute("aria-hidden", "true");
  line.append(shape("path", { d: "M1 4h22", class: `stroke stroke-${name}` }));
  const label = name in LABELS ? LABELS[/** @type {keyof LABELS} */ (name)] : name;
  return element("li", {}, line, element("span", {}, capital(label)), element("span", { class: "value" }));
}

/**
 * @param {number} bottom
 * @param {number} top
 * @param {number} last
 * @param {(at: number) => number} x
 * @param {(value: number) => number} y
 */
function axes(bottom, top, last, x, y) {
  const parts = [];
  const step = Math.ceil((top - bottom) / 5);
  for (let exponent = bottom; exponent <= top; exponent += step) {
    const height = y(10 ** exponent);
    parts.push(shape("path", { d: `M${LEFT} ${height}H${WIDTH - RIGHT}`, class: "grid" }));
    parts.push(label(LEFT - 6, height + 3.5, "end", powerOfTen(exponent)));
  }
  parts.push(label(LEFT, HEIGHT - 6, "start", "0"));
  parts.push(label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", "iteration"));
  parts.push(label(x(last), HEIGHT - 6, "end", String(last)));
  return parts;
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} anchor
 * @param {string} text
 */
function label(x, y, anchor, text) {
  const node = shape("text", { x, y, "text-anchor": anchor });
  node.textContent = text;
  return node;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 */
function shape(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  return node;
}
