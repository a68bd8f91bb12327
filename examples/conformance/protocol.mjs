// The protocol of gramstyle conformance: cases come as lines of JSON on stdin and answers go as lines
// of JSON to stdout; the arrays are in files. docs/conformance-programs.md describes the messages.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const ARRAYS = { float32: Float32Array, float64: Float64Array };
const ENDINGS = { float32: "f32", float64: "f64" };

/**
 * Answer cases until stdin ends.
 *
 * @param {{name: string, version: string, dtypes: string[]}} about What is tested.
 * @param {(c: object) => object} valueAndGradient Returns { loss, gradient, dF } of a case, or a
 *   promise of it, as a program with WebGPU does. The last two are typed arrays, and dF has one for
 *   each layer by name. In the case, every array is { data, shape }, where data is a typed array.
 */
export async function serve(about, valueAndGradient) {
  for await (const line of createInterface({ input: process.stdin })) {
    const message = JSON.parse(line);
    say(message.message === "greeting" ? hello(about) : await answer(message, valueAndGradient));
  }
}

function hello(about) {
  return { message: "hello", protocol: 1, files: "raw", ...about };
}

async function answer(message, valueAndGradient) {
  let began, result;
  try {
    const given = withArrays(message, message.folder);
    began = performance.now();
    result = await valueAndGradient(given);
  } catch (error) {
    return { message: "error", case: message.case, text: String(error.message).split("\n")[0] };
  }
  const seconds = (performance.now() - began) / 1000;
  const write = (name, array) => {
    const file = `${name}.${ENDINGS[message.dtype]}`;
    writeFileSync(join(message.folder, file), array);
    return file;
  };
  return {
    message: "answer",
    case: message.case,
    loss: Number.isFinite(result.loss) ? result.loss : null,
    gradient: write("gradient", result.gradient),
    dF: Object.fromEntries(
      Object.entries(result.dF).map(([layer, dF]) => [layer, write(`${layer}.dF`, dF)]),
    ),
    seconds,
  };
}

/** Return a message in which every { file, dtype, shape } is { data, shape }. */
function withArrays(value, folder) {
  if (Array.isArray(value)) return value.map((each) => withArrays(each, folder));
  if (value === null || typeof value !== "object") return value;
  if ("file" in value) {
    const bytes = readFileSync(join(folder, value.file));
    const data = new ARRAYS[value.dtype](new Uint8Array(bytes).buffer);
    return { data, shape: value.shape };
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, withArrays(each, folder)]),
  );
}

function say(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}
