// Choosing an image: a file, a dropped or pasted one, or a sample.

import { Problem, sentenceOf } from "./problems.js";

// The largest file and the largest image; an image takes 4 bytes for each pixel.
const [MAX_BYTES, MAX_PIXELS] = [100e6, 100e6];

/** Decode a file, or say in one sentence why not. */
export async function decoded(file, name) {
  const remedy = "choose a PNG, JPEG or WebP image";
  if (file.size === 0) throw new Problem(`${name} is empty; ${remedy}.`);
  if (file.size > MAX_BYTES) throw new Problem(`${name} is larger than ${MAX_BYTES / 1e6} MB; ${remedy}.`);
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    throw new Problem(`${name} cannot be read as an image; ${remedy}.`);
  }
  if (image.width * image.height > MAX_PIXELS) {
    image.close();
    throw new Problem(`${name} has more than ${MAX_PIXELS / 1e6} million pixels; choose a smaller one.`);
  }
  return image;
}

/** One of the two images that the page asks for. */
export class Chooser {
  constructor(section) {
    this.section = section;
    this.image = null;
    const input = section.querySelector("input");
    const drop = section.querySelector(".drop");
    input.addEventListener("change", () => this.takeFile(input.files[0]));
    for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", over);
      });
    }
    drop.addEventListener("drop", ({ dataTransfer }) => this.takeFile(dataTransfer.files[0]));
    for (const button of this.samples()) {
      button.addEventListener("click", () => this.takeSample(button.dataset.sample));
    }
  }

  samples() {
    return [...this.section.querySelectorAll("[data-sample]")];
  }

  async takeFile(file) {
    if (file) await this.#take(file, file.name || "The image", null);
  }

  async takeSample(name) {
    try {
      const answer = await fetch(new URL(`samples/${name}`, import.meta.url));
      await this.#take(await answer.blob(), `The sample ${name}`, name);
    } catch {
      this.#say(`The sample ${name} could not be loaded; try again later.`);
    }
  }

  async #take(file, name, sample) {
    try {
      const image = await decoded(file, name);
      this.image?.close();
      this.image = image;
    } catch (error) {
      this.#say(sentenceOf(error));
      return;
    }
    this.#say("");
    for (const button of this.samples()) {
      button.setAttribute("aria-pressed", String(button.dataset.sample === sample));
    }
    this.#show();
  }

  /** Show a problem with the image; an empty sentence removes the last one. */
  #say(sentence) {
    const problem = this.section.querySelector(".problem");
    problem.textContent = sentence;
    problem.hidden = sentence === "";
  }

  #show() {
    const canvas = this.section.querySelector("canvas");
    const { width, height } = this.image;
    const factor = Math.min(1, 480 / Math.max(width, height));
    canvas.width = Math.max(1, Math.round(width * factor));
    canvas.height = Math.max(1, Math.round(height * factor));
    canvas.getContext("2d").drawImage(this.image, 0, 0, canvas.width, canvas.height);
    canvas.hidden = false;
    this.section.querySelector(".hint").textContent = `${width} × ${height} pixels. Choose another.`;
  }
}
