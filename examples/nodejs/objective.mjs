// Neural style transfer in Node.js: the loss and its gradient come out of one ONNX graph, and Adam
// moves the pixels.
//
//   node objective.mjs OBJECTIVE.onnx PHOTO.ppm OUT.ppm [--steps 100] [--rate 4]
//                      [--targets TARGETS.onnx --style PAINTING.ppm]
//
// PHOTO.ppm is where the run starts. It has the size that the graph was exported for, or any size if
// it was exported with --targets inputs: TARGETS.onnx then tells what photograph and painting are
// compared by.

import { readFile, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { InferenceSession, Tensor } from "onnxruntime-node";

/** Read a binary PPM of 8 bits a channel as x: float32 (1, 3, height, width), 0 to 255. */
async function readImage(path) {
  const bytes = await readFile(path);
  const header = /^P6(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+255\s/.exec(
    bytes.toString("latin1", 0, 1000),
  );
  if (!header) throw new Error(`${path} is not a binary PPM of 8 bits a channel`);
  const [width, height] = [Number(header[1]), Number(header[2])];
  const pixels = bytes.subarray(header[0].length);
  const area = width * height;
  if (pixels.length < 3 * area) throw new Error(`${path} ends too early`);
  const x = new Float32Array(3 * area);
  for (let i = 0; i < 3 * area; i++) x[(i % 3) * area + Math.floor(i / 3)] = pixels[i];
  return new Tensor("float32", x, [1, 3, height, width]);
}

/** Write x as a binary PPM. */
async function writeImage(path, x) {
  const [, , height, width] = x.dims;
  const area = width * height;
  const pixels = Buffer.alloc(3 * area);
  for (let i = 0; i < 3 * area; i++) {
    pixels[i] = Math.round(x.data[(i % 3) * area + Math.floor(i / 3)]);
  }
  await writeFile(path, Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`), pixels]));
}

// Errors only: that a weight has a default is no cause for a warning.
const QUIET = { logSeverityLevel: 3 };

/** Ask the second graph for what the first one compares with: P of the photograph, A of the painting. */
async function computeTargets(model, photo, painting) {
  const session = await InferenceSession.create(model, QUIET);
  const ofPhoto = await session.run({ x: photo });
  const ofPainting = await session.run({ x: painting });
  return Object.fromEntries(
    session.outputNames.map((name) => [name, (name.endsWith(".P") ? ofPhoto : ofPainting)[name]]),
  );
}

/** One step of Adam, kept within 0 to 255; state remembers the means of gradients and squares. */
function adam(x, gradient, state, rate) {
  const [b1, b2] = [0.9, 0.999];
  state.step += 1;
  const [c1, c2] = [1 - b1 ** state.step, 1 - b2 ** state.step];
  for (let i = 0; i < x.length; i++) {
    const g = gradient[i] / state.scale; // squares of the gradient itself may be too small
    state.mean[i] = b1 * state.mean[i] + (1 - b1) * g;
    state.square[i] = b2 * state.square[i] + (1 - b2) * g * g;
    const move = (rate * (state.mean[i] / c1)) / (Math.sqrt(state.square[i] / c2) + 1e-8);
    x[i] = Math.min(255, Math.max(0, x[i] - move));
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    steps: { type: "string", default: "100" },
    rate: { type: "string", default: "4" },
    targets: { type: "string" },
    style: { type: "string" },
  },
});
if (positionals.length !== 3 || !values.targets !== !values.style) {
  console.error(
    "usage: node objective.mjs OBJECTIVE.onnx PHOTO.ppm OUT.ppm [--steps N] [--rate R] " +
      "[--targets TARGETS.onnx --style PAINTING.ppm]",
  );
  process.exit(2);
}
const [model, start, output] = positionals;
const steps = Number(values.steps);
const x = await readImage(start);
const targets = values.targets
  ? await computeTargets(values.targets, x, await readImage(values.style))
  : {};
const objective = await InferenceSession.create(model, QUIET);

const state = {
  step: 0,
  mean: new Float64Array(x.data.length),
  square: new Float64Array(x.data.length),
};
for (let step = 0; step <= steps; step++) {
  const { loss, gradient } = await objective.run({ x, ...targets }, ["loss", "gradient"]);
  if (step % 10 === 0 || step === steps) console.log(`step ${step}: loss ${loss.data[0]}`);
  if (step === steps) break;
  state.scale ??= Math.sqrt(gradient.data.reduce((sum, g) => sum + g * g, 0) / x.data.length) || 1;
  adam(x.data, gradient.data, state, Number(values.rate));
}
await writeImage(output, x);
console.log(`wrote ${output}`);
