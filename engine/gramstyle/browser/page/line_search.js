// The line search for a point that satisfies the strong Wolfe conditions (Nocedal, Wright,
// "Numerical Optimization", algorithms 3.5 and 3.6).

// The conditions: sufficient decrease of the loss, and reduction of the slope.
const [DECREASE, CURVATURE] = [1e-3, 0.9];

// The maximum number of trial points on one line, and the limit of an extrapolation, in steps.
const [MAX_TRIALS, MAX_EXTRAPOLATION] = [20, 10];

/**
 * Return the first point that satisfies the conditions, else the best one, else null.
 *
 * A point is {t, loss, slope, evaluation}; `evaluate(t)` returns a promise of it. `start` is the
 * point at t = 0, where the slope is negative, and `longest` the largest t in the box. While the
 * loss falls, t increases; once a minimum lies between the best point and another one, the search
 * continues between them. The last point in the box may have any slope.
 */
export async function lineSearch(evaluate, start, longest) {
  let [best, other, t] = [start, null, 1];
  for (let trial = 0; trial < MAX_TRIALS; trial++) {
    const here = await evaluate(t);
    const tooHigh = here.loss > start.loss + DECREASE * t * start.slope;
    if (tooHigh || (other && here.loss >= best.loss)) {
      other = here;
    } else {
      const isFlat = Math.abs(here.slope) <= -CURVATURE * start.slope;
      if (isFlat || (t >= longest && here.slope < 0)) return here;
      if (!other && here.slope < 0) {
        t = Math.min(extrapolated(best, here), longest);
        best = here;
        continue;
      }
      // The loss rises from here towards `other`: the minimum is on the other side.
      if (!other || here.slope * (other.t - best.t) >= 0) other = best;
      best = here;
    }
    t = interpolated(best, other);
  }
  return best.loss < start.loss ? best : null;
}

/** Return a t beyond b: the zero of a linear slope, within limits. */
function extrapolated(a, b) {
  const ratio = b.slope > a.slope ? a.slope / (a.slope - b.slope) : MAX_EXTRAPOLATION;
  return a.t + (b.t - a.t) * Math.min(Math.max(ratio, 2), MAX_EXTRAPOLATION);
}

/** Return the t of the minimum of the cubic through two points, or the middle if it is no use. */
function interpolated(a, b) {
  const width = b.t - a.t;
  const middle = a.t + width / 2;
  const p = a.slope + b.slope - (3 * (b.loss - a.loss)) / width;
  const q = p * p - a.slope * b.slope;
  const root = Math.sign(width) * Math.sqrt(q);
  const divisor = b.slope - a.slope + 2 * root;
  if (!(q > 0) || divisor === 0) return middle;
  const ratio = 1 - (b.slope + root - p) / divisor;
  return ratio >= 0.1 && ratio <= 0.9 ? a.t + width * ratio : middle;
}
