// The paper's loss and its gradient in plain JavaScript: no framework, every derivative by hand.
//
//   gramstyle conformance run --command "node examples/conformance/plain.mjs"
//
// Responses are { data, shape: [N, H, V] } with the numbers in rows. Sums are numbers of JavaScript,
// which are float64; what is stored has the float type of the case.

import { serve } from "./protocol.mjs";

/** Return { loss, gradient, dF } of a case. */
function valueAndGradient({ image: x, preprocessing, layers, content, style, regions, statistics, tv }) {
  const { mean, scale } = preprocessing;
  const order = preprocessing.channels === "BGR" ? [2, 1, 0] : [0, 1, 2];

  // The forward pass: X[name] is what a layer reads, F[name] what it returns.
  let v = zeros(x.data, x.shape);
  const M = x.shape[1] * x.shape[2];
  for (let c = 0; c < 3; c++) {
    for (let k = 0; k < M; k++) v.data[c * M + k] = (x.data[order[c] * M + k] - mean[c]) * scale[c];
  }
  const X = {};
  const F = {};
  for (const layer of layers) {
    X[layer.name] = v;
    v = layer.kind === "convolution" ? convolution(v, layer) : pooling(v, layer.kind);
    F[layer.name] = v;
  }

  // Each term adds its value to the loss, and its derivative by F to the seeds.
  let loss = 0;
  const seeds = {};
  for (const { name } of layers) seeds[name] = zeros(F[name].data, F[name].shape);
  if (content) loss += contentTerm(F[content.layer], content, seeds[content.layer]);
  for (const term of style) loss += styleTerm(F[term.layer], term, null, seeds[term.layer]);
  for (const term of regions) loss += styleTerm(F[term.layer], term, term.T, seeds[term.layer]);
  for (const term of statistics) {
    const add = term.statistic === "mean-std" ? meanStdTerm : covarianceTerm;
    loss += add(F[term.layer], term, seeds[term.layer]);
  }

  // The backward pass: the same layers from the deepest down. dX is the derivative by what the
  // layer above reads, which is what this layer returns.
  const dF = {};
  let dX = null;
  for (const layer of [...layers].reverse()) {
    const name = layer.name;
    const dF_l = seeds[name];
    if (dX) dX.data.forEach((d, k) => (dF_l.data[k] += d));
    dF[name] = dF_l.data;
    dX =
      layer.kind === "convolution"
        ? convolutionBackward(dF_l, F[name], layer)
        : poolingBackward(dF_l, X[name], layer.kind);
  }
  const gradient = zeros(x.data, x.shape);
  for (let c = 0; c < 3; c++) {
    for (let k = 0; k < M; k++) gradient.data[order[c] * M + k] = dX.data[c * M + k] * scale[c];
  }
  if (tv) loss += totalVariation(x, tv, gradient);
  return { loss, gradient: gradient.data, dF };
}

/** Return an array of this shape, of the same float type as another. */
function zeros(like, shape) {
  return { data: new like.constructor(shape.reduce((a, b) => a * b, 1)), shape };
}

// The layers.

/** Return where position i of n lies that a padding reads; −1 for a zero. */
function source(i, n, padding) {
  if (i >= 0 && i < n) return i;
  if (padding === "replicate") return i < 0 ? 0 : n - 1;
  if (padding === "reflect") return i < 0 ? -i : 2 * (n - 1) - i;
  if (padding === "circular") return (i + n) % n;
  return -1;
}

/** Call f(n, c, k, from, w): at position k, filter n reads channel c at `from` with weight w. */
function eachTap({ W, padding }, H, V, f) {
  const [N, C] = W.shape;
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 3; j++) {
      for (let row = 0; row < H; row++) {
        const r = source(row + i - 1, H, padding);
        for (let column = 0; column < V && r >= 0; column++) {
          const s = source(column + j - 1, V, padding);
          if (s < 0) continue;
          for (let n = 0; n < N; n++) {
            for (let c = 0; c < C; c++) {
              const w = W.data[((n * C + c) * 3 + i) * 3 + j];
              f(n, c, row * V + column, r * V + s, w);
            }
          }
        }
      }
    }
  }
}

/** F = max(0, Z), where Z = b + the cross-correlation of X with W. */
function convolution(X, layer) {
  const [, H, V] = X.shape;
  const [N] = layer.W.shape;
  const M = H * V;
  const Z = new Float64Array(N * M).map((_, at) => layer.b.data[Math.floor(at / M)]);
  eachTap(layer, H, V, (n, c, k, from, w) => {
    Z[n * M + k] += w * X.data[c * M + from];
  });
  const F = zeros(X.data, [N, H, V]);
  Z.forEach((z, at) => (F.data[at] = Math.max(0, z)));
  return F;
}

/** dZ = dF where F > 0; every tap returns dZ to where it read from. */
function convolutionBackward(dF, F, layer) {
  const [, H, V] = F.shape;
  const [, C] = layer.W.shape;
  const M = H * V;
  const sums = new Float64Array(C * M);
  eachTap(layer, H, V, (n, c, k, from, w) => {
    if (F.data[n * M + k] > 0) sums[c * M + from] += w * dF.data[n * M + k];
  });
  const dX = zeros(F.data, [C, H, V]);
  dX.data.set(sums);
  return dX;
}

/** Call f(at, window): the output `at`, and its four inputs in reading order. */
function eachWindow([N, H, V], f) {
  const [h, v] = [Math.floor(H / 2), Math.floor(V / 2)];
  for (let n = 0; n < N; n++) {
    for (let i = 0; i < h; i++) {
      for (let j = 0; j < v; j++) {
        const first = (n * H + 2 * i) * V + 2 * j;
        f((n * h + i) * v + j, [first, first + 1, first + V, first + V + 1]);
      }
    }
  }
}

/** Return the largest entry or the mean of each window; an odd last row or column is left out. */
function pooling(X, kind) {
  const [N, H, V] = X.shape;
  const Y = zeros(X.data, [N, Math.floor(H / 2), Math.floor(V / 2)]);
  eachWindow(X.shape, (at, window) => {
    const entries = window.map((k) => X.data[k]);
    Y.data[at] = kind === "max" ? Math.max(...entries) : entries.reduce((a, b) => a + b) / 4;
  });
  return Y;
}

/** The first largest entry gets the whole derivative, or each entry a quarter of it. */
function poolingBackward(dY, X, kind) {
  const dX = zeros(X.data, X.shape);
  eachWindow(X.shape, (at, window) => {
    if (kind === "max") {
      const largest = Math.max(...window.map((k) => X.data[k]));
      dX.data[window.find((k) => X.data[k] === largest)] += dY.data[at];
    } else {
      for (const k of window) dX.data[k] += dY.data[at] / 4;
    }
  });
  return dX;
}

// The terms: each returns its value, and adds its derivative by F to dF.

/** factor · Σ (F − P)² */
function contentTerm(F, { factor, P }, dF) {
  let sum = 0;
  F.data.forEach((f, k) => {
    const d = f - P.data[k];
    sum += d * d;
    dF.data[k] += 2 * factor * d;
  });
  return factor * sum;
}

/** factor · Σ (G / m − A)², where G = (T∘F) (T∘F)ᵀ and m = Σ T²; without T, T = 1 and m = M. */
function styleTerm(F, { factor, A }, T, dF) {
  const [N, H, V] = F.shape;
  const M = H * V;
  const m = T ? T.data.reduce((sum, t) => sum + t * t, 0) : M;
  const guided = T ? Float64Array.from(F.data, (f, at) => f * T.data[at % M]) : F.data;
  return gramTerm(guided, N, M, m, factor, A, (n, k, d) => {
    dF.data[n * M + k] += T ? d * T.data[k] : d;
  });
}

/** factor · Σ (C − A)², where C = (F − μ) (F − μ)ᵀ / M; the derivative needs no term for μ. */
function covarianceTerm(F, { factor, A }, dF) {
  const [N, H, V] = F.shape;
  const M = H * V;
  const mu = means(F.data, N, M);
  const centred = Float64Array.from(F.data, (f, at) => f - mu[Math.floor(at / M)]);
  return gramTerm(centred, N, M, M, factor, A, (n, k, d) => {
    dF.data[n * M + k] += d;
  });
}

/** factor · Σ (G / m − A)², where G = X Xᵀ; calls add(n, k, derivative by X[n, k]). */
function gramTerm(X, N, M, m, factor, A, add) {
  let sum = 0;
  const D = new Float64Array(N * N);
  for (let i = 0; i < N; i++) {
    for (let j = 0; j < N; j++) {
      let G = 0;
      for (let k = 0; k < M; k++) G += X[i * M + k] * X[j * M + k];
      D[i * N + j] = G / m - A.data[i * N + j];
      sum += D[i * N + j] ** 2;
    }
  }
  for (let i = 0; i < N; i++) {
    for (let k = 0; k < M; k++) {
      let product = 0;
      for (let j = 0; j < N; j++) product += D[i * N + j] * X[j * M + k];
      add(i, k, ((4 * factor) / m) * product);
    }
  }
  return factor * sum;
}

/** factor · Σ (S − A)², where S has the rows μ and σ = √(variance + 10⁻⁵). */
function meanStdTerm(F, { factor, A }, dF) {
  const [N, H, V] = F.shape;
  const M = H * V;
  const mu = means(F.data, N, M);
  let sum = 0;
  for (let n = 0; n < N; n++) {
    const f = F.data.subarray(n * M, (n + 1) * M);
    const sigma = Math.sqrt(f.reduce((s, each) => s + (each - mu[n]) ** 2, 0) / M + 1e-5);
    const [dMu, dSigma] = [mu[n] - A.data[n], sigma - A.data[N + n]];
    sum += dMu ** 2 + dSigma ** 2;
    f.forEach((each, k) => {
      dF.data[n * M + k] += ((2 * factor) / M) * (dMu + (dSigma * (each - mu[n])) / sigma);
    });
  }
  return factor * sum;
}

/** Return the mean of each row of an (N, M) matrix. */
function means(data, N, M) {
  return Array.from(
    { length: N },
    (_, n) => data.subarray(n * M, (n + 1) * M).reduce((s, each) => s + each, 0) / M,
  );
}

/** tv · Σ of the squared differences of neighbours; adds the derivative to the gradient. */
function totalVariation(x, tv, gradient) {
  const [C, H, V] = x.shape;
  let sum = 0;
  const add = (first, second) => {
    const d = x.data[second] - x.data[first];
    sum += d * d;
    gradient.data[first] -= 2 * tv * d;
    gradient.data[second] += 2 * tv * d;
  };
  for (let c = 0; c < C; c++) {
    for (let i = 0; i < H; i++) {
      for (let j = 0; j < V; j++) {
        const at = (c * H + i) * V + j;
        if (j + 1 < V) add(at, at + 1);
        if (i + 1 < H) add(at, at + V);
      }
    }
  }
  return tv * sum;
}

await serve({ name: "plain JavaScript", version: "1", dtypes: ["float32", "float64"] }, valueAndGradient);
