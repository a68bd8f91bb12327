// The paper's loss in TensorFlow.js, which computes the gradient.
//
//   npm install
//   gramstyle conformance run --command "node tfjs.mjs"
//
// Run it in this folder. These three packages are a quarter of the size of @tensorflow/tfjs, which has
// them all; its methods of tensors are missing here, its functions are there. Responses are tensors
// (1, H, V, N), as its convolutions want them.

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-layers"; // registers the gradients
import { serve } from "./protocol.mjs";

/** Return { loss, gradient, dF } of a case. */
function valueAndGradient(given) {
  return tf.tidy(() => {
    const x = tensor(given.image); // (3, H, V)
    // The derivative by zeros that are added to the responses is the derivative by the responses.
    const added = given.layers.map((layer) => tf.zeros(shapeOf(layer, given)));
    const { value, grads } = tf.valueAndGrads((image, ...zeros) => lossOf(given, image, zeros))([
      x,
      ...added,
    ]);
    const [gradient, ...dF] = grads;
    const numbers = (d) => tf.transpose(tf.squeeze(d, [0]), [2, 0, 1]).dataSync(); // (N, H, V)
    return {
      loss: value.dataSync()[0],
      gradient: gradient.dataSync(),
      dF: Object.fromEntries(given.layers.map(({ name }, l) => [name, numbers(dF[l])])),
    };
  });
}

/** The loss of equation 7 as a tensor. */
function lossOf({ preprocessing, layers, content, style, regions, statistics, tv }, x, zeros) {
  const { channels, mean, scale } = preprocessing;
  const v = tf.transpose(channels === "BGR" ? tf.reverse(x, 0) : x, [1, 2, 0]);
  let F = tf.expandDims(tf.mul(tf.sub(v, mean), scale), 0);
  const responses = {}; // (N, M) by layer
  layers.forEach((layer, l) => {
    if (layer.kind === "convolution") {
      F = convolution(F, layer);
    } else {
      F = (layer.kind === "max" ? tf.maxPool : tf.avgPool)(F, 2, 2, "valid");
    }
    F = tf.add(F, zeros[l]);
    responses[layer.name] = tf.transpose(tf.reshape(F, [-1, F.shape[3]]));
  });

  const terms = [];
  /** Add the term factor · Σ (found − target)². */
  const compare = (factor, found, target) => {
    terms.push(tf.mul(factor, tf.sum(tf.squaredDifference(found, target))));
  };
  if (content) {
    const { layer, factor, P } = content;
    compare(factor, responses[layer], tf.reshape(tensor(P), [P.shape[0], -1]));
  }
  for (const { layer, factor, A } of style) {
    const F_l = responses[layer];
    compare(factor, tf.div(gram(F_l), F_l.shape[1]), tensor(A));
  }
  for (const { layer, factor, T, A } of regions) {
    const guidance = tf.reshape(tensor(T), [1, -1]);
    const m = tf.sum(tf.square(guidance));
    compare(factor, tf.div(gram(tf.mul(guidance, responses[layer])), m), tensor(A));
  }
  for (const { layer, statistic, factor, A } of statistics) {
    const mu = tf.mean(responses[layer], 1, true);
    const H = tf.sub(responses[layer], mu);
    const sigma = tf.sqrt(tf.add(tf.mean(tf.square(H), 1), 1e-5));
    const S =
      statistic === "mean-std"
        ? tf.stack([tf.squeeze(mu, [1]), sigma])
        : tf.div(gram(H), H.shape[1]);
    compare(factor, S, tensor(A));
  }
  if (tv) {
    const [, H, V] = x.shape;
    compare(tv, tf.slice(x, [0, 1, 0], [3, H - 1, V]), tf.slice(x, [0, 0, 0], [3, H - 1, V]));
    compare(tv, tf.slice(x, [0, 0, 1], [3, H, V - 1]), tf.slice(x, [0, 0, 0], [3, H, V - 1]));
  }
  return tf.addN(terms);
}

/** F = max(0, Z), where Z = b + the cross-correlation of X with W. */
function convolution(X, { padding, W, b }) {
  const kernels = tf.transpose(tensor(W), [2, 3, 1, 0]); // (3, 3, C, N)
  const Z =
    padding === "zeros"
      ? tf.conv2d(X, kernels, 1, "same")
      : tf.conv2d(padded(X, padding), kernels, 1, "valid");
  return tf.relu(tf.add(Z, tensor(b)));
}

/** Pad (1, H, V, C) by one row and column on each side. */
function padded(X, padding) {
  for (const axis of [1, 2]) {
    const n = X.shape[axis];
    const [before, behind] = {
      replicate: [0, n - 1],
      reflect: [1, n - 2],
      circular: [n - 1, 0],
    }[padding];
    X = tf.gather(X, tf.tensor1d([before, ...Array(n).keys(), behind], "int32"), axis);
  }
  return X;
}

function gram(F) {
  return tf.matMul(F, F, false, true);
}

function tensor({ data, shape }) {
  return tf.tensor(data, shape);
}

/** The shape of a layer's responses: (1, H, V, N). */
function shapeOf(wanted, { image, layers }) {
  let [N, H, V] = image.shape;
  for (const layer of layers) {
    if (layer.kind === "convolution") N = layer.W.shape[0];
    else [H, V] = [Math.floor(H / 2), Math.floor(V / 2)];
    if (layer === wanted) break;
  }
  return [1, H, V, N];
}

await tf.setBackend("cpu");
await serve({ name: "TensorFlow.js", version: tf.version_core, dtypes: ["float32"] }, valueAndGradient);
