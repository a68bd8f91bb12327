/** The photograph of the form. */

import { announce, element } from "./dom.js";
import { capital } from "./format.js";
import { slot } from "./slot.js";
import { send, showUpload } from "./upload.js";

/**
 * @param {HTMLElement} fieldset
 * @param {import("./api.js").About} about
 * @param {() => void} changed
 */
export function contentField(fieldset, about, changed) {
  /** @type {import("./upload.js").Source | null} */
  let source = null;

  const place = slot(fieldset, {
    noun: "photograph",
    multiple: false,
    samples: about.samples.content,
    take: (pictures) => void take(pictures[0]),
    takeSample: (sample) =>
      void place.during(async () => {
        const blob = await (await fetch(sample.file)).blob();
        set(await send(blob, sample.name, about.limits));
      }),
  });

  /** @param {import("./slot.js").Picture} picture */
  const take = ({ blob, name }) =>
    place.during(async () => {
      set(await send(blob, name, about.limits));
      announce(`${name} is the photograph.`);
    });

  /** @param {import("./upload.js").Source | null} next */
  function set(next) {
    source = next;
    fieldset.classList.toggle("filled", source !== null);
    place.mark(new Set(source ? [source.name] : []));
    place.body.replaceChildren(...(source ? [picture(source)] : []));
    changed();
  }

  /** @param {import("./upload.js").Source} shown */
  function picture(shown) {
    const image = element("img", { alt: `The photograph: ${shown.name}` });
    const size = element("span", { class: "soft" }, sizeOf(shown));
    image.addEventListener("load", () => {
      if (shown.width) return;
      Object.assign(shown, { width: image.naturalWidth, height: image.naturalHeight });
      changed();
    });
    showUpload(image, shown.id, "image", () => {
      if (source !== shown) return;
      set(null);
      place.problem("The server no longer has this photograph. Choose it again.");
    });
    return element(
      "figure",
      { class: "picture" },
      image,
      element("figcaption", {}, element("span", { class: "name" }, capital(shown.name)), size),
    );
  }

  return {
    value: () => source,
    set,
    take,
    problem: place.problem,
    focus: () => /** @type {HTMLElement} */ (fieldset.querySelector("input[type=file]")).focus(),
  };
}

/** @param {import("./upload.js").Source} source */
const sizeOf = ({ width, height }) => (width ? `${width} × ${height}` : "");
