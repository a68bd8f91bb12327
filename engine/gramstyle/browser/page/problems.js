// Errors that the page shows as one sentence.

/** A problem with a sentence for the reader of the page. */
export class Problem extends Error {}

// What browsers and ONNX Runtime say when memory is short.
const MEMORY = /memory|alloc|out of bounds|array buffer|OOM/i;

/** Return whether an error of the browser or of ONNX Runtime means that memory is short. */
export function isShortOfMemory(error) {
  // A number is the address of an exception of WebAssembly, for which memory is the usual reason.
  if (typeof error === "number" || error instanceof RangeError) return true;
  return error instanceof Error && MEMORY.test(error.message);
}

/** Return an error of the computation as a sentence. */
export function sentenceOf(error) {
  if (error instanceof Problem) return error.message;
  if (isShortOfMemory(error)) {
    return "The browser has too little memory for this size; choose a smaller one.";
  }
  const text = error instanceof Error ? error.message : String(error);
  return `The computation failed (${text}); reload the page, or choose a smaller size.`;
}
