// Errors that the page shows as one sentence.

/** A problem with a sentence for the reader of the page. */
export class Problem extends Error {}

// What browsers and ONNX Runtime say when memory is short.
const MEMORY = /memory|alloc|out of bounds|array buffer|OOM/i;

/** Return an error of the computation as a sentence. */
export function sentenceOf(error) {
  if (error instanceof Problem) return error.message;
  // A number is the address of an exception of WebAssembly, for which memory is the usual reason.
  const text = error instanceof Error ? error.message : "";
  if (typeof error === "number" || error instanceof RangeError || MEMORY.test(text)) {
    return "The browser has too little memory for this size; choose a smaller one.";
  }
  return `The computation failed (${text || String(error)}); reload the page, or choose a smaller size.`;
}
