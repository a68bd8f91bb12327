/**
 * The easel: the result, and the photograph over a part of it up to a handle that the user moves.
 * The handle is a native slider, so it works with keys, a mouse and a finger.
 */

import { element } from "./dom.js";
import { showUpload } from "./upload.js";

/** @param {HTMLElement} place */
export function easel(place) {
  const after = element("img", { class: "after", alt: "" });
  const before = element("img", { class: "before", alt: "" });
  const handle = element("span", { class: "handle", "aria-hidden": "true" });
  const slider = element("input", {
    type: "range",
    min: "0",
    max: "100",
    step: "1",
    value: "0",
    "aria-label": "How much of the photograph to show",
  });
  let paints = 0;
  place.replaceChildren(after, before, slider, handle);

  function move() {
    place.style.setProperty("--at", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % photograph, the rest is the result`);
  }
  slider.addEventListener("input", move);
  move();

  return {
    /**
     * Show the photograph alone, before there is a result.
     * @param {string | null} content the id of the upload
     */
    begin(content) {
      paints += 1;
      slider.value = "0";
      move();
      place.classList.remove("painted");
      place.classList.toggle("comparable", content !== null);
      after.removeAttribute("src");
      before.removeAttribute("src");
      if (content === null) return;
      const shape = () => {
        if (!place.classList.contains("painted")) fit(before.naturalWidth, before.naturalHeight);
      };
      before.onload = shape;
      showUpload(before, content, "image");
    },

    /**
     * Show a preview, or the result, as soon as it is there. What cannot be loaded changes nothing.
     * @param {string} address
     * @param {string} description
     */
    async paint(address, description) {
      const mine = (paints += 1);
      const next = element("img", { src: address });
      const there = await next.decode().then(
        () => true,
        () => false,
      );
      if (!there || mine !== paints) return;
      after.src = address;
      after.alt = description;
      place.classList.add("painted");
    },

    fit,
  };

  /**
   * Give the place the shape of an image, so that it stays still while the image is refined.
   * @param {number} width
   * @param {number} height
   */
  function fit(width, height) {
    if (!(width > 0 && height > 0)) return;
    place.style.setProperty("--ratio", String(width / height));
  }
}
