/**
 * A place for images in the form: drop them on it, choose them, or take a sample.
 *
 * @typedef {{blob: Blob, name: string}} Picture
 *
 * @typedef {object} Slot
 * @property {HTMLElement} body where the images are shown
 * @property {HTMLElement} drop the part that invites to drop an image
 * @property {(text: string) => void} problem
 * @property {(work: () => Promise<void>) => Promise<void>} during show that work is going on, and its problem
 * @property {(names: Set<string>) => void} mark which samples are in use
 */

import { element, say } from "./dom.js";
import { capital } from "./format.js";
import { filesIn } from "./upload.js";

/**
 * @param {HTMLElement} fieldset
 * @param {object} given
 * @param {string} given.noun
 * @param {boolean} given.multiple
 * @param {import("./api.js").Sample[]} given.samples
 * @param {(pictures: Picture[]) => void} given.take
 * @param {(sample: import("./api.js").Sample) => void} given.takeSample
 * @returns {Slot}
 */
export function slot(fieldset, { noun, multiple, samples, take, takeSample }) {
  const id = fieldset.id;
  const input = element("input", {
    id: `${id}-file`,
    type: "file",
    accept: "image/*",
    multiple,
    class: "unseen",
    "aria-describedby": `${id}-problem`,
  });
  input.addEventListener("change", () => {
    take([...(input.files ?? [])].map(named));
    input.value = ""; // the same file can be chosen again
  });
  const choose = element(
    "label",
    { class: "choose", htmlFor: input.id },
    element("span", { class: "first" }, `Choose a ${noun}`),
    element("span", { class: "next" }, `${multiple ? "Add another" : "Choose another"} ${noun}`),
  );
  const drop = element(
    "div",
    { class: "drop" },
    element("span", { class: "frame", "aria-hidden": "true" }),
    input,
    choose,
    element("span", { class: "soft hint" }, "or drop or paste it here"),
  );
  const body = element("div", { class: "pictures" });
  const problem = element("p", { id: `${id}-problem`, class: "problem", role: "alert" });
  const buttons = samples.map((sample) => sampleButton(sample, noun, () => takeSample(sample)));
  const row = element("div", { class: "samples", role: "group", "aria-label": `Samples: ${noun}` });
  if (buttons.length) row.append(element("span", { class: "soft" }, "Samples"), ...buttons);
  fieldset.append(body, drop, problem, row);
  acceptDrops(fieldset, take);

  return {
    body,
    drop,
    problem: (text) => say(problem, text),
    async during(work) {
      say(problem, "");
      fieldset.classList.add("busy");
      fieldset.setAttribute("aria-busy", "true");
      try {
        await work();
      } catch (error) {
        say(problem, error instanceof Error ? error.message : String(error));
      } finally {
        fieldset.classList.remove("busy");
        fieldset.removeAttribute("aria-busy");
      }
    },
    mark(names) {
      samples.forEach((sample, at) => {
        buttons[at].setAttribute("aria-pressed", String(names.has(sample.name)));
      });
    },
  };
}

/** @param {File} file @returns {Picture} */
export const named = (file) => ({ blob: file, name: file.name || "The image" });

/**
 * @param {import("./api.js").Sample} sample
 * @param {string} noun
 * @param {() => void} take
 */
function sampleButton(sample, noun, take) {
  const image = element("img", { src: sample.file, alt: "", width: 56, height: 56 });
  const button = element(
    "button",
    {
      type: "button",
      class: "sample",
      title: capital(sample.name),
      "aria-label": `Sample ${noun}: ${sample.name}`,
      "aria-pressed": "false",
    },
    image,
  );
  button.addEventListener("click", take);
  return button;
}

/** @param {HTMLElement} node @param {(pictures: Picture[]) => void} take */
function acceptDrops(node, take) {
  let depth = 0; // dragenter and dragleave also come from the elements inside
  const mark = () => node.classList.toggle("over", depth > 0);
  node.addEventListener("dragenter", () => {
    depth += 1;
    mark();
  });
  node.addEventListener("dragleave", () => {
    depth -= 1;
    mark();
  });
  node.addEventListener("drop", (event) => {
    depth = 0;
    mark();
    const files = filesIn(event.dataTransfer);
    if (!files.length) return;
    event.preventDefault();
    event.stopPropagation();
    take(files.map(named));
  });
}
