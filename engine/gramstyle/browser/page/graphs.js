// The two ONNX graphs, run by ONNX Runtime: targets of an image, and loss and gradient of an image.

import { isShortOfMemory, Problem } from "./problems.js";

// The first dimensions of an image's tensor: one image of three planes.
const PLANES = [1, 3];

// The files with the compiled part of ONNX Runtime, by device.
const BINARIES = { wasm: "ort-wasm-simd-threaded", webgpu: "ort-wasm-simd-threaded.asyncify" };

/** Fetch a file of this folder; `report(loaded)` receives the number of bytes so far. */
export async function fetchFile(name, report = () => {}) {
  try {
    const answer = await fetch(new URL(name, import.meta.url));
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const parts = [];
    let loaded = 0;
    for (const reader = answer.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      report((loaded += value.length));
    }
    const data = new Uint8Array(loaded);
    let place = 0;
    for (const part of parts) {
      data.set(part, place);
      place += part.length;
    }
    return data;
  } catch (error) {
    throw new Problem(`The file ${name} could not be loaded (${error.message}); try again later.`);
  }
}

/** Return ONNX Runtime for a device, "wasm" or "webgpu". */
export async function loadRuntime(device, threads) {
  try {
    const ort = await import(`./onnxruntime/ort.${device}.min.js`);
    const file = (suffix) => new URL(`onnxruntime/${BINARIES[device]}.${suffix}`, import.meta.url).href;
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = { mjs: file("js"), wasm: file("wasm") };
    return ort;
  } catch (error) {
    throw new Problem(`ONNX Runtime could not be loaded (${error.message}); reload the page.`);
  }
}

async function openSession(ort, bytes, device) {
  try {
    // Without memory patterns and the arena, memory is given back when the size of the image changes.
    const options = { enableMemPattern: false, enableCpuMemArena: false, logSeverityLevel: 3 };
    return await ort.InferenceSession.create(bytes, { executionProviders: [device], ...options });
  } catch (error) {
    const isStart = error instanceof Error && /backend|wasm|webassembly/i.test(error.message);
    if (isStart && !isShortOfMemory(error)) {
      throw new Problem(
        `ONNX Runtime could not start (${error.message}); use a current browser, or reload the page.`,
      );
    }
    throw error;
  }
}

/** An image as planes (3, H, W) of red, green and blue from 0 to 255. */
function imageTensor(ort, values, { width, height }) {
  return new ort.Tensor("float32", values, [...PLANES, height, width]);
}

/** The graph that computes the targets of an image. */
export class TargetsGraph {
  static async open(ort, bytes) {
    return new TargetsGraph(ort, await openSession(ort, bytes, "wasm"));
  }

  constructor(ort, session) {
    Object.assign(this, { ort, session });
  }

  /** Return the targets of one role: "content", which are P, or "style". */
  async targets(role, values, size) {
    const names = this.session.outputNames.filter(
      (name) => name.endsWith(".P") === (role === "content"),
    );
    const found = await this.session.run({ x: imageTensor(this.ort, values, size) }, names);
    return Object.fromEntries(names.map((name) => [name, { data: found[name].data, dims: found[name].dims }]));
  }

  release() {
    return this.session.release();
  }
}

/** The graph that computes the loss and its gradient, on one device. */
export class ObjectiveGraph {
  static async open(ort, bytes, device) {
    return new ObjectiveGraph(ort, await openSession(ort, bytes, device), device);
  }

  constructor(ort, session, device) {
    Object.assign(this, { ort, session, device });
  }

  /** Return the function from x to {loss, gradient} for images of one size. */
  objective({ targets, weights, size }) {
    const { ort, session } = this;
    const tensor = ({ data, dims }) => new ort.Tensor("float32", data, dims);
    const inputs = Object.fromEntries([
      ...Object.entries(targets).map(([name, target]) => [name, tensor(target)]),
      ...Object.entries(weights).map(([name, value]) => [
        name,
        tensor({ data: Float32Array.of(value), dims: [] }),
      ]),
    ]);
    return async (x) => {
      const found = await session.run({ x: imageTensor(ort, x, size), ...inputs }, ["loss", "gradient"]);
      return { loss: found.loss.data[0], gradient: found.gradient.data };
    };
  }

  release() {
    return this.session.release();
  }
}
