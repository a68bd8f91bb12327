// The objective of one scale after the other, on the processor or on a GPU.

import { loadRuntime, ObjectiveGraph } from "./graphs.js";

// The largest relative difference of two devices' losses; rounding makes 1e-5.
const SAME_LOSS = 1e-3;

// The longest time that a GPU gets for its first evaluation, which compiles shaders.
const MAX_SECONDS = 20;

export class Evaluator {
  static async open(ort, bytes) {
    return new Evaluator(ort, bytes, await ObjectiveGraph.open(ort, bytes, "wasm"));
  }

  constructor(ort, bytes, graph) {
    Object.assign(this, { ort, bytes, graph });
  }

  get device() {
    return this.graph.device;
  }

  /** Take {targets, weights, size} of a scale. */
  begin(problem) {
    this.problem = problem;
    this.evaluate = this.graph.objective(problem);
  }

  /** Return {loss, gradient} at x; after an error of the GPU, by the processor. */
  async at(x) {
    try {
      return await this.evaluate(x);
    } catch (error) {
      if (this.device === "wasm") throw error;
      await this.graph.release().catch(() => {});
      this.graph = await ObjectiveGraph.open(this.ort, this.bytes, "wasm");
      this.begin(this.problem);
      return this.evaluate(x);
    }
  }

  /**
   * Go to the GPU if there is one on which the objective is right and faster at x.
   *
   * Any error means that the GPU is not used. If `anyway`, speed and loss are not compared.
   */
  async tryGpu(x, { anyway }) {
    const adapter = await globalThis.navigator?.gpu?.requestAdapter().catch(() => null);
    if (!adapter || (adapter.info?.isFallbackAdapter && !anyway)) return;
    const here = await secondOf(this.graph.objective(this.problem), x);
    let graph = null;
    try {
      graph = await ObjectiveGraph.open(await loadRuntime("webgpu", 1), this.bytes, "webgpu");
      const evaluate = graph.objective(this.problem);
      const there = await (anyway ? secondOf(evaluate, x) : within(MAX_SECONDS, secondOf(evaluate, x)));
      const isSame = Math.abs(there.loss - here.loss) <= SAME_LOSS * Math.abs(here.loss);
      if (anyway || (there.seconds < here.seconds && isSame)) {
        await this.graph.release();
        this.graph = graph;
        this.begin(this.problem);
        return;
      }
    } catch {
      // The processor goes on.
    }
    await graph?.release().catch(() => {});
  }

  release() {
    return this.graph.release();
  }
}

/** Return the loss and the duration of the second evaluation; the first one compiles shaders. */
async function secondOf(evaluate, x) {
  await evaluate(x);
  const start = performance.now();
  const { loss } = await evaluate(x);
  return { loss, seconds: (performance.now() - start) / 1000 };
}

function within(seconds, promise) {
  const end = new Promise((_, reject) => {
    setTimeout(() => reject(new Error("too slow")), 1000 * seconds);
  });
  return Promise.race([promise, end]);
}
