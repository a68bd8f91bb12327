/**
 * The options that the form shows, in what order, and what each value does, in words for artists.
 * Their defaults, ranges, choices and labels come from the server.
 *
 * @typedef {{content: {width: number, height: number} | null}} Scene what a sentence may refer to
 *
 * @typedef {object} Shown
 * @property {number[]} [stops] values of the slider; the default is always one
 * @property {number} [automatic] where the slider stands if the server chooses; else at its start
 * @property {(value: any, normal: any, scene: Scene) => string} says what a value does
 */

import { plain } from "./format.js";

/** How many of the options the form shows at first. */
export const FIRST = 4;

/** The shares of the paintings are set beside the paintings. */
export const SHARES = "style_blend";

/** @type {Record<string, Shown>} */
export const SHOWN = {
  size: {
    stops: [64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096],
    says: (value, normal, { content }) => {
      if (!content) return "The longer edge of the image, in pixels.";
      const [width, height] = resultSize(value, content);
      const times = (value / normal) ** 2;
      const longer = value > normal ? ` A run takes about ${plain(Math.round(times))} times longer.` : "";
      return `An image of ${width} × ${height} pixels.${longer}`;
    },
  },
  iterations: {
    stops: [10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000],
    says: (value, normal) => {
      if (value < 0.4 * normal) return "A quick sketch.";
      if (value < normal) return "Nearly complete, and sooner.";
      if (value === normal) return "Enough for most images.";
      return `More refined; takes ${plain(value / normal)} times as long.`;
    },
  },
  content_strength: {
    stops: [1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 1.5, 2, 4, 8, 16],
    says: (value, normal) => {
      if (value === normal) return "Photograph and painting in balance.";
      if (value === 0) return "Nothing of the photograph is kept.";
      if (value > normal) return value > 6 * normal ? "A photograph with a few strokes." : "Keeps more of the photograph.";
      return value < 0.2 * normal ? "The painting takes over." : "Broader strokes; simplifies the photograph.";
    },
  },
  style_scale: {
    stops: [0.25, 0.35, 0.5, 0.7, 1.5, 2, 3, 4],
    automatic: 1,
    says: (value) => {
      if (value === null || value === 1) return "Strokes as large as in the painting.";
      if (value === 2) return "Strokes twice as large as in the painting.";
      if (value === 0.5) return "Strokes half as large as in the painting.";
      return `Strokes ${plain(value)} times as large as in the painting.`;
    },
  },
  [SHARES]: { says: () => "" },
  colours: {
    says: (value) =>
      said(value, {
        style: "The colours of the painting.",
        content: "The colours of the photograph; the painting gives light and dark.",
        match: "The colours of the painting, shifted to those of the photograph.",
      }),
  },
  style_loss: {
    says: (value) =>
      said(value, {
        gram: "Compares which features occur together, as the paper does.",
        "mean-std": "Compares how strong each feature is: simpler strokes.",
        covariance: "The strokes of the painting, with more of the photograph's colours.",
      }),
  },
  tv: {
    stops: [0, 100, 200, 300, 500, 1000, 2000, 5000, 10000],
    says: (value) => {
      if (value === 0) return "No smoothing.";
      return value < 300 ? "Smooths the image a little." : "Smooths the image: less grain, softer edges.";
    },
  },
  scales: {
    stops: [1, 2, 3, 4, 5, 6],
    says: (value) => {
      if (value === null) return "From coarse to fine, in as many scales as the size needs.";
      if (value === 1) return "The final size only: small strokes.";
      return `From coarse to fine in ${value} scales.`;
    },
  },
  pooling: {
    says: (value) =>
      said(value, { avg: "Smoother strokes.", max: "Finer and crisper strokes, closer to the photograph." }),
  },
};

/**
 * Return the width and the height of a result.
 * @param {number} size the longer edge
 * @param {{width: number, height: number}} content
 * @returns {[number, number]}
 */
export function resultSize(size, { width, height }) {
  const scale = size / Math.max(width, height);
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

/**
 * Return the options that the form shows, of those that the server offers.
 * @param {import("./api.js").Option[]} offered
 */
export function shownOptions(offered) {
  const found = Object.keys(SHOWN).map((name) => offered.find((option) => option.name === name));
  return found.filter((option) => option !== undefined);
}

/**
 * Return one value for a list of one; a preset may give either.
 * @param {any} value
 */
export const single = (value) => (Array.isArray(value) && value.length === 1 ? value[0] : value);

/**
 * Return a value as text.
 * @param {any} value
 * @returns {string}
 */
export function shown(value) {
  if (value === null || value === undefined) return "automatic";
  if (Array.isArray(value)) return value.map(shown).join(", ");
  return typeof value === "number" ? plain(value) : String(value);
}

/** @param {any} value @param {Record<string, string>} sentences */
function said(value, sentences) {
  return value === null ? "The usual choice." : (sentences[value] ?? "");
}
