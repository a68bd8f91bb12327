// The sizes that a run passes through, and the iterations at each: as gramstyle.run.plan.scales.

// The factor between the edges of successive scales, which doubles the number of pixels.
const STEP = Math.SQRT2;
// The least shorter edge at the first scale, and at the only one: the network halves it four times.
const [SMALLEST_FIRST, SMALLEST] = [32, 16];
// The iterations of a later scale, as a fraction of those of the first one, and the fewest.
const [BETWEEN, LAST, FEWEST] = [0.2, 0.4, 10];

/**
 * Return the scales {edge, iterations}, the smallest first.
 *
 * `first` is the least edge of the first scale, and `shorter` the shortest edge of all images at
 * the size of the result, in pixels.
 */
export function scalesOf(size, { iterations, first, shorter }) {
  const edges = [];
  for (let edge = size / STEP; Math.round(edge) >= first; edge /= STEP) {
    if (shorter * Math.round(edge) >= SMALLEST_FIRST * size) edges.unshift(Math.round(edge));
  }
  edges.push(size);
  const later = (fraction) => Math.max(Math.min(iterations, FEWEST), Math.round(iterations * fraction));
  return edges.map((edge, i) => {
    if (i === 0) return { edge, iterations };
    return { edge, iterations: later(i === edges.length - 1 ? LAST : BETWEEN) };
  });
}

/** Return the size of an image whose longer edge is `edge`. */
export function fitted({ width, height }, edge) {
  const factor = edge / Math.max(width, height);
  return {
    width: Math.max(1, Math.round(width * factor)),
    height: Math.max(1, Math.round(height * factor)),
  };
}

/** Return whether the network can compute an image of this size. */
export function isLargeEnough({ width, height }) {
  return Math.min(width, height) >= SMALLEST;
}
