// One style transfer: all scales, from the content image to the result.

import { Evaluator } from "./evaluator.js";
import { TargetsGraph } from "./graphs.js";
import { minimise } from "./lbfgsb.js";
import { Problem } from "./problems.js";
import { fitted, isLargeEnough, scalesOf } from "./scales.js";

/**
 * Render the content image in the style of the style image.
 *
 * `job`: {size, iterations, contentStrength, content, style, device}, with the sizes of the two
 * images; `device` is "wasm", "auto" to use a GPU where it is faster, or "webgpu" to use it anyway.
 * `settings`: those that the export has written.
 * `tools`: {ort, targets, objective}, ONNX Runtime and the two graphs as bytes;
 * `pixels(role, size)`, an image at a size as planes; `resized(x, size, larger)`, planes at a larger
 * size; `report(state)`, which is called at every iteration, and before the first one; the run ends
 * when it returns true.
 *
 * Returns {x, size, loss, evaluations, reason}.
 */
export async function transfer(job, settings, tools) {
  const scales = planned(job, settings);
  const { report } = tools;
  report({ stage: "targets" });
  const targets = await targetsOf(scales, tools);

  report({ stage: "objective" });
  const evaluator = await Evaluator.open(tools.ort, tools.objective);
  const clock = new Clock(scales);
  let result = { evaluations: 0 };
  for (const [number, { size, iterations }] of scales.entries()) {
    const start = result.x
      ? await tools.resized(result.x, result.size, size)
      : await tools.pixels("content", size);
    evaluator.begin({ targets: targets[number], weights: weightsOf(job, settings, size), size });
    if (number === 0 && job.device !== "wasm") {
      await evaluator.tryGpu(start, { anyway: job.device === "webgpu" });
    }
    const before = result.evaluations;
    const found = await minimise((x) => clock.timed(number, () => evaluator.at(x)), start, {
      iterations,
      history: settings.history,
      tolerance: settings.tolerance,
      onIteration: ({ evaluations, ...state }) =>
        report({
          ...state,
          stage: "iteration",
          scale: number,
          scales: scales.length,
          iterations,
          evaluations: before + evaluations,
          seconds: clock.seconds,
          secondsLeft: clock.left(number, state.iteration),
          device: evaluator.device,
          size,
        }),
    });
    result = { ...found, size, evaluations: before + found.evaluations };
    if (found.reason === "stopped by the caller") break;
  }
  await evaluator.release();
  return result;
}

/** Return the scales with the size of the image at each, or refuse an image that is too narrow. */
function planned({ size, iterations, content, style }, { firstScale }) {
  const sizes = { content: fitted(content, size), style: fitted(style, size) };
  for (const [role, each] of Object.entries(sizes)) {
    if (!isLargeEnough(each)) {
      throw new Problem(
        `The ${role} image is too narrow: at this size it would have ${each.width} × ` +
          `${each.height} pixels; choose a larger size or another image.`,
      );
    }
  }
  const edges = Object.values(sizes).flatMap(({ width, height }) => [width, height]);
  const scales = scalesOf(size, { iterations, first: firstScale, shorter: Math.min(...edges) });
  return scales.map((scale) => ({
    ...scale,
    size: fitted(content, scale.edge),
    styleSize: fitted(style, scale.edge),
  }));
}

/** Return the targets of every scale; the graph that computes them is then released. */
async function targetsOf(scales, { ort, targets, pixels }) {
  const graph = await TargetsGraph.open(ort, targets);
  const found = [];
  for (const { size, styleSize } of scales) {
    found.push({
      ...(await graph.targets("content", await pixels("content", size), size)),
      ...(await graph.targets("style", await pixels("style", styleSize), styleSize)),
    });
  }
  await graph.release();
  return found;
}

/** Return the weights of equation 7 at a scale. */
function weightsOf({ contentStrength }, { weights, alphaPixels }, { width, height }) {
  const alpha = weights.alpha ?? alphaPixels / (width * height);
  return { ...weights, alpha: contentStrength * alpha };
}

/** The duration of evaluations, from which the time left is estimated. */
class Clock {
  constructor(scales) {
    this.scales = scales;
    this.recent = [];
    this.seconds = 0;
  }

  async timed(number, evaluate) {
    if (number !== this.number) [this.number, this.recent] = [number, []];
    const start = performance.now();
    const evaluation = await evaluate();
    this.recent = [...this.recent.slice(-4), (performance.now() - start) / 1000];
    this.seconds = this.recent.reduce((sum, value) => sum + value, 0) / this.recent.length;
    return evaluation;
  }

  /** Return the seconds left; an evaluation's time grows with the number of pixels. */
  left(number, iteration) {
    const area = ({ size }) => size.width * size.height;
    const here = this.scales[number];
    const later = this.scales.slice(number + 1);
    const units = later.reduce((sum, scale) => sum + scale.iterations * (area(scale) / area(here)), 0);
    return this.seconds * (here.iterations - iteration + units);
  }
}
