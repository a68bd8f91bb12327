// L-BFGS-B: minimise a function of n numbers that all lie between the same two bounds.
//
// The method is that of gramstyle's Python package (gramstyle.optimise.lbfgsb), after Byrd, Lu,
// Nocedal and Zhu (1995). An iteration has three parts:
//
// 1. The model: f(x + d) ≈ f + gᵀd + ½ dᵀBd with B = θ I − Vᵀ K⁻¹ V, where the rows of V are the
//    last k differences y of the gradient and the last k steps s.
// 2. The direction: towards the model's minimum over the free entries, clipped to the box. Entries
//    that reach a bound are then fixed there, and the others are minimised again.
// 3. The line search along it for the strong Wolfe conditions.
//
// Vectors have the type of the start, Float32Array or Float64Array. Sums are in float64. n numbers
// take 4 n entries and 2 n for each pair of the history.

import { lineSearch } from "./line_search.js";
import { NotSolvableError, solve } from "./linear.js";

// Entries in a tile: few enough that what is read twice is still in the cache.
const TILE = 1024;

// The run has converged when the loss has fallen by less than the tolerance in so many iterations.
const WINDOW = 10;

// The smallest part of the slope at the start that the change of the slope must exceed.
const EPSILON = 2 ** -52;

export class NonFiniteError extends Error {}

/**
 * Minimise a function with bounds.
 *
 * `evaluate(x)` returns {loss, gradient}, or a promise of it, with a new gradient for each call.
 * `onIteration({iteration, evaluations, x, loss})` is called after every iteration; the run ends
 * when it returns true. Returns {x, loss, iteration, evaluations, reason}.
 */
export async function minimise(evaluate, x0, options) {
  const { iterations, history = 10, tolerance = 0, lower = 0, upper = 255, onIteration } = options;
  // Bounds that the vector's type can hold, so that an entry can be at a bound.
  const [low, high] = new x0.constructor([lower, upper]);
  const box = { lower: low, upper: high };
  const pairs = new Pairs(history, x0.length, x0.constructor);

  let x = x0.map((value) => clip(value, box));
  let at = await evaluate(x);
  let evaluations = 1;
  const squares = dot(at.gradient, at.gradient);
  if (!Number.isFinite(at.loss) || !Number.isFinite(squares)) {
    throw new NonFiniteError("the loss or its gradient at the start is not finite");
  }
  // The first step then moves the entries by one (root mean square).
  const scale = squares ? Math.sqrt(x.length / squares) : 0;
  const losses = [at.loss];
  let iteration = 0;

  const end = (reason) => ({ x, loss: at.loss, iteration, evaluations, reason });
  if (scale === 0) return end("the gradient is zero at the start");
  while (iteration < iterations) {
    const found = await step();
    if (found === null) return end("no lower loss was found along the last direction");
    ({ x, at } = found);
    iteration += 1;
    losses.push(at.loss);
    if (onIteration?.({ iteration, evaluations, x, loss: at.loss })) {
      return end("stopped by the caller");
    }
    const before = losses[losses.length - 1 - WINDOW];
    if (before !== undefined && before - at.loss < tolerance * Math.abs(at.loss)) {
      return end(`the loss fell by less than ${tolerance} of itself in ${WINDOW} iterations`);
    }
  }
  return end("all iterations done");

  /** Return the next x and the evaluation there, or null if no step lowers the loss. */
  async function step() {
    const g = { values: at.gradient, scale };
    for (;;) {
      const direction = findDirection(x, g, pairs, box);
      const found = direction && (await lineSearch(tryAlong(direction), start(direction), direction.longest));
      if (found) return accept(direction, found);
      if (!pairs.count) return null;
      pairs.clear(); // their model of the curvature is wrong here
    }
  }

  function start(direction) {
    return { t: 0, loss: at.loss * scale, slope: direction.slope };
  }

  /** Return the function that evaluates the point x + t d. */
  function tryAlong({ d }) {
    return async (t) => {
      evaluations += 1;
      const evaluation = await evaluate(clippedStep(x, d, t, box));
      const slope = scale * dot(evaluation.gradient, d);
      // 0 times an infinity or NaN is NaN, so the slope covers every entry of the gradient.
      if (!Number.isFinite(evaluation.loss) || !Number.isFinite(slope)) {
        throw new NonFiniteError("the loss or its gradient is not finite");
      }
      return { t, loss: evaluation.loss * scale, slope, evaluation };
    };
  }

  /** Add the pair of an accepted point to the history. */
  function accept(direction, point) {
    const after = clippedStep(x, direction.d, point.t, box);
    // Skip a pair whose curvature is lost in rounding.
    if (point.slope - direction.slope > -direction.slope * EPSILON) {
      pairs.append(x, after, at.gradient, point.evaluation.gradient, scale);
    }
    return { x: after, at: point.evaluation };
  }
}

/** The last steps s and differences y of the gradient, and their inner products. */
class Pairs {
  constructor(history, n, Vector) {
    Object.assign(this, { history, n, Vector });
    this.clear();
  }

  clear() {
    this.y = [];
    this.s = [];
    this.products = []; // V Vᵀ, where the rows of V are the y, oldest first, then the s
  }

  get count() {
    return this.y.length;
  }

  /** The rows of V. */
  get rows() {
    return [...this.y, ...this.s];
  }

  append(x, after, g, gAfter, scale) {
    const full = this.count === this.history;
    // The vectors of the oldest pair are reused.
    const y = full ? this.y.shift() : new this.Vector(this.n);
    const s = full ? this.s.shift() : new this.Vector(this.n);
    for (let j = 0; j < this.n; j++) {
      s[j] = after[j] - x[j];
      y[j] = scale * gAfter[j] - scale * g[j];
    }
    const kept = full ? this.products.filter(isKept).map((row) => row.filter(isKept)) : this.products;
    this.y.push(y);
    this.s.push(s);
    this.products = this.#extended(kept);

    function isKept(_, i, all) {
      return i % (all.length / 2) !== 0;
    }
  }

  /** Return V Vᵀ from the products of all rows but the newest y and s. */
  #extended(kept) {
    const k = this.count;
    const rows = this.rows;
    const products = rows.map(() => new Float64Array(2 * k));
    const old = (i) => (i < k ? i : i - 1); // the index of a row before the last pair was added
    for (let i = 0; i < 2 * k; i++) {
      for (let j = 0; j <= i; j++) {
        const isNew = i % k === k - 1 || j % k === k - 1;
        const value = isNew ? dot(rows[i], rows[j]) : kept[old(i)][old(j)];
        products[i][j] = products[j][i] = value;
      }
    }
    return products;
  }
}

/** The quadratic model of the pairs, from their inner products. */
class Model {
  constructor(products) {
    const k = products.length / 2;
    const curvature = products[2 * k - 1][k - 1];
    if (!(curvature > 0)) throw new NotSolvableError("the last pair has no curvature");
    this.theta = products[k - 1][k - 1] / curvature;
    this.w = Array.from({ length: 2 * k }, (_, i) => (i < k ? 1 : this.theta));
    // K = [[−D, Lᵀ], [L, θ S Sᵀ]], where D is the diagonal of S Yᵀ and L what is below it.
    this.K = products.map((_, i) =>
      Array.from({ length: 2 * k }, (_, j) => {
        if (i < k && j < k) return i === j ? -products[k + i][i] : 0;
        if (i >= k && j >= k) return this.theta * products[i][j];
        const [s, y] = i >= k ? [i - k, j] : [j - k, i];
        return s > y ? products[k + s][y] : 0;
      }),
    );
  }

  /**
   * Return c for which d = −g/θ + c V moves the free entries to the model's minimum.
   *
   * `free` are the products of V's free columns, `Fg` their products with the gradient, and `moved`
   * the products of V's rows with the displacement of the fixed entries.
   */
  coefficients(free, Fg, moved) {
    const { K, theta, w } = this;
    const G = free.map((row, i) => Array.from(row, (value, j) => value * w[i] * w[j]));
    const u = solve(K, w.map((weight, i) => weight * moved[i]));
    const matrix = K.map((row, i) => row.map((value, j) => value - G[i][j] / theta));
    const right = w.map((weight, i) => weight * Fg[i] - G[i].reduce((sum, value, j) => sum + value * u[j], 0));
    const v = solve(matrix, right);
    return w.map((weight, i) => weight * (u[i] / theta - v[i] / theta ** 2));
  }
}

/** Return {d, slope, longest}, a direction of descent, or null if there is none. */
function findDirection(x, g, pairs, box) {
  let theta = 1;
  if (pairs.count) {
    try {
      const model = new Model(pairs.products);
      theta = model.theta;
      const direction = intoDirection(x, g, minimiseModel(x, g, pairs, model, box), box);
      if (direction.slope < 0) return direction;
      // The minimum of the model, clipped to the box, may lie uphill.
    } catch (error) {
      if (!(error instanceof NotSolvableError)) throw error;
      return null;
    }
  }
  const to = x.map((value, j) => clip(value - (g.scale * g.values[j]) / theta, box));
  const direction = intoDirection(x, g, to, box);
  return direction.slope < 0 ? direction : null;
}

/**
 * Return the model's minimum in the box, approximated in two rounds.
 *
 * The first round fixes the entries at a bound beyond which the function falls; the second one
 * those that the first round has moved to a bound. The others move to the model's minimum.
 */
function minimiseModel(x, g, pairs, model, box) {
  const rows = pairs.rows;
  const nothing = new Float64Array(rows.length);
  const first = fixedSums(x, g, rows, null, box);
  let c = model.coefficients(freeProducts(pairs, first), first.Fg, nothing);

  const to = new x.constructor(x.length);
  eachMove(rows, c, g, model.theta, (j, move) => {
    to[j] = isOutward(x[j], g.values[j], box) ? x[j] : clip(x[j] + move, box);
  });
  const second = fixedSums(x, g, rows, to, box);
  c = model.coefficients(freeProducts(pairs, second), second.Fg, second.moved);

  eachMove(rows, c, g, model.theta, (j, move) => {
    if (!isAtBound(to[j], box)) to[j] = clip(x[j] + move, box);
  });
  return to;
}

/** Return the products of V's free columns from those of the fixed ones, or the other way round. */
function freeProducts(pairs, { chosen, fewFixed }) {
  if (!fewFixed) return chosen;
  return pairs.products.map((row, i) => row.map((value, j) => value - chosen[i][j]));
}

/**
 * Return sums over the entries, of which some are fixed: in the first round, where `to` is null,
 * those at a bound beyond which the function falls, in the second those at a bound in `to`.
 *
 * `chosen`: the products of V's fixed columns if few are fixed, else those of the free columns;
 * `Fg`: the products of V's free columns with the gradient; `moved`: the products of V's rows with
 * the displacement of the fixed entries.
 */
function fixedSums(x, g, rows, to, box) {
  const isFixed = (j) => (to ? isAtBound(to[j], box) : isOutward(x[j], g.values[j], box));
  let fixedEntries = 0;
  for (let j = 0; j < x.length; j++) fixedEntries += isFixed(j) ? 1 : 0;
  const fewFixed = 2 * fixedEntries <= x.length;

  const chosen = rows.map(() => new Float64Array(rows.length));
  const [Fg, moved] = [new Float64Array(rows.length), new Float64Array(rows.length)];
  const columns = rows.map(() => new Float64Array(TILE));
  const [gradient, displacement] = [new Float64Array(TILE), new Float64Array(TILE)];
  const places = new Int32Array(TILE);
  for (let start = 0; start < x.length; start += TILE) {
    const count = Math.min(TILE, x.length - start);
    let n = 0;
    for (let j = 0; j < count; j++) {
      const at = start + j;
      const fixed = isFixed(at);
      gradient[j] = fixed ? 0 : g.scale * g.values[at];
      displacement[j] = fixed && to ? to[at] - x[at] : 0;
      places[n] = at;
      n += fixed === fewFixed ? 1 : 0;
    }
    for (let r = 0; r < rows.length; r++) {
      const [row, column] = [rows[r], columns[r]];
      let [sumOfGradient, sumOfMove] = [0, 0];
      for (let j = 0; j < count; j++) {
        sumOfGradient += row[start + j] * gradient[j];
        sumOfMove += row[start + j] * displacement[j];
      }
      Fg[r] += sumOfGradient;
      moved[r] += sumOfMove;
      for (let m = 0; m < n; m++) column[m] = row[places[m]];
      for (let q = 0; q <= r; q++) {
        const other = columns[q];
        let sum = 0;
        for (let m = 0; m < n; m++) sum += column[m] * other[m];
        chosen[r][q] += sum;
      }
    }
  }
  for (let r = 0; r < rows.length; r++) {
    for (let q = 0; q < r; q++) chosen[q][r] = chosen[r][q];
  }
  return { chosen, fewFixed, Fg, moved };
}

/** Call `use(j, move)` with the move −g/θ + c V of every entry. */
function eachMove(rows, c, g, theta, use) {
  const move = new Float64Array(TILE);
  for (let start = 0; start < g.values.length; start += TILE) {
    const count = Math.min(TILE, g.values.length - start);
    for (let j = 0; j < count; j++) move[j] = -(g.scale * g.values[start + j]) / theta;
    for (let r = 0; r < rows.length; r++) {
      const [row, factor] = [rows[r], c[r]];
      for (let j = 0; j < count; j++) move[j] += factor * row[start + j];
    }
    for (let j = 0; j < count; j++) use(start + j, move[j]);
  }
}

/** Turn `to` into the direction d from x, in place; return it with its slope and the longest t. */
function intoDirection(x, g, to, { lower, upper }) {
  let [slope, longest] = [0, Infinity];
  for (let j = 0; j < x.length; j++) {
    to[j] -= x[j];
    const d = to[j];
    slope += g.scale * g.values[j] * d;
    if (d !== 0) longest = Math.min(longest, (d > 0 ? upper - x[j] : x[j] - lower) / Math.abs(d));
  }
  // x + d is in the box, whatever the rounding of the ratio.
  return { d: to, slope, longest: Math.max(1, longest) };
}

function clippedStep(x, d, t, box) {
  const result = new x.constructor(x.length);
  for (let j = 0; j < x.length; j++) result[j] = clip(x[j] + t * d[j], box);
  return result;
}

function clip(value, { lower, upper }) {
  return value < lower ? lower : value > upper ? upper : value;
}

function isAtBound(x, { lower, upper }) {
  return x <= lower || x >= upper;
}

/** Return whether an entry is at a bound beyond which the function falls. */
function isOutward(x, g, { lower, upper }) {
  return (x <= lower && g > 0) || (x >= upper && g < 0);
}

function dot(a, b) {
  let sum = 0;
  for (let j = 0; j < a.length; j++) sum += a[j] * b[j];
  return sum;
}
