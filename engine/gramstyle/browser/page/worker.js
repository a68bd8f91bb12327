// The worker that computes one style transfer. It receives one job, and answers with messages:
// {kind: "loading", loaded, total}, {kind: "stage", stage}, {kind: "iteration", …, image},
// {kind: "done", reason, …} or {kind: "failed", sentence}.

import { fetchFile, loadRuntime } from "./graphs.js";
import { bytesOf, planesOf, resized } from "./pixels.js";
import { sentenceOf } from "./problems.js";
import { transfer } from "./transfer.js";

self.onmessage = async ({ data: job }) => {
  try {
    await run(job);
  } catch (error) {
    self.postMessage({ kind: "failed", sentence: sentenceOf(error) });
  }
};

async function run({ content, style, settings, threads, ...options }) {
  const { objective, targets } = await load(settings.models);
  const images = { content, style };
  const tools = {
    ort: await loadRuntime("wasm", threads),
    objective,
    targets,
    pixels: (role, size) => planesOf(images[role], size),
    resized,
    report,
  };
  const sizes = { content: sizeOf(content), style: sizeOf(style) };
  const { evaluations, loss, reason } = await transfer({ ...options, ...sizes }, settings, tools);
  self.postMessage({ kind: "done", evaluations, loss, reason });
}

function sizeOf({ width, height }) {
  return { width, height };
}

/** Fetch the graphs, and report how much of both is there. */
async function load(models) {
  const total = Object.values(models).reduce((sum, { bytes }) => sum + bytes, 0);
  const loaded = {};
  const fetched = Object.entries(models).map(async ([name, { file }]) => [
    name,
    await fetchFile(file, (bytes) => {
      loaded[name] = bytes;
      const sum = Object.values(loaded).reduce((a, b) => a + b, 0);
      self.postMessage({ kind: "loading", loaded: sum, total });
    }),
  ]);
  return Object.fromEntries(await Promise.all(fetched));
}

function report({ stage, x, ...state }) {
  if (stage !== "iteration") {
    self.postMessage({ kind: "stage", stage });
    return;
  }
  const image = bytesOf(x);
  self.postMessage({ kind: "iteration", ...state, image }, [image.buffer]);
}
