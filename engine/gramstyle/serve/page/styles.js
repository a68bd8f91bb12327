/**
 * The paintings of the form, and their shares.
 *
 * @typedef {{source: import("./upload.js").Source, share: number}} Painting
 */

import { announce, element, say } from "./dom.js";
import { capital } from "./format.js";
import { slot } from "./slot.js";
import { send, showUpload } from "./upload.js";

/** Shares are set from 1 to 100; equal ones are 50 each. */
const SHARE = 50;

/**
 * @param {HTMLElement} fieldset
 * @param {import("./api.js").About} about
 * @param {() => void} changed
 */
export function stylesField(fieldset, about, changed) {
  const most = about.limits.styles ?? Infinity;
  /** @type {Painting[]} */
  let paintings = [];

  const place = slot(fieldset, {
    noun: "painting",
    multiple: true,
    samples: about.samples.style,
    take: (pictures) => void take(pictures),
    takeSample(sample) {
      const chosen = paintings.find(({ source }) => source.name === sample.name);
      if (chosen) return remove(chosen);
      void place.during(async () => {
        const blob = await (await fetch(sample.file)).blob();
        add(await send(blob, sample.name, about.limits));
      });
    },
  });

  /** @param {import("./slot.js").Picture[]} pictures */
  const take = (pictures) =>
    place.during(async () => {
      for (const { blob, name } of pictures) {
        add(await send(blob, name, about.limits));
        announce(`${name} is a painting.`);
      }
    });

  /** @param {import("./upload.js").Source} source */
  function add(source) {
    if (paintings.length >= most) throw new Error(`A run takes at most ${most} paintings on this server.`);
    set([...paintings, { source, share: SHARE }]);
  }

  /** @param {Painting} painting */
  function remove(painting) {
    set(paintings.filter((other) => other !== painting));
    place.problem("");
  }

  /** @param {Painting[]} next */
  function set(next) {
    paintings = next;
    fieldset.classList.toggle("filled", paintings.length > 0);
    fieldset.classList.toggle("several", paintings.length > 1);
    place.mark(new Set(paintings.map(({ source }) => source.name)));
    const cards = paintings.map(card);
    place.body.replaceChildren(...cards.map(({ node }) => node));
    const showShares = () => cards.forEach(({ showShare }) => showShare());
    cards.forEach(({ slider }) => slider.addEventListener("input", showShares));
    showShares();
    changed();
  }

  /** @param {Painting} painting */
  function card(painting) {
    const { source } = painting;
    const name = capital(source.name);
    const image = element("img", { alt: `A painting: ${source.name}` });
    showUpload(image, source.id, "image", () => {
      if (!paintings.includes(painting)) return;
      remove(painting);
      place.problem("The server no longer has one of the paintings. Choose it again.");
    });
    const away = element("button", { type: "button", class: "plain", "aria-label": `Remove ${name}` }, "Remove");
    away.addEventListener("click", () => {
      remove(painting);
      focus();
    });
    const slider = element("input", {
      type: "range",
      min: "1",
      max: "100",
      value: String(painting.share),
      "aria-label": `Share of ${name}`,
    });
    slider.addEventListener("input", () => {
      painting.share = Number(slider.value);
      changed();
    });
    const share = element("span", { class: "soft" });
    const caption = element("figcaption", {}, element("span", { class: "name" }, name), share, away);
    const node = element("figure", { class: "picture" }, image, caption);
    if (paintings.length > 1) node.append(slider);
    return {
      node,
      slider,
      showShare() {
        const percent = `${Math.round((100 * painting.share) / total())} %`;
        say(share, paintings.length > 1 ? percent : source.width ? `${source.width} × ${source.height}` : "");
        slider.setAttribute("aria-valuetext", percent);
      },
    };
  }

  const total = () => paintings.reduce((sum, { share }) => sum + share, 0);

  const focus = () => /** @type {HTMLElement} */ (fieldset.querySelector("input[type=file]")).focus();

  return {
    sources: () => paintings.map(({ source }) => source),

    /** The numbers of style_blend, or undefined for equal shares. */
    blend() {
      const shares = paintings.map(({ share }) => share);
      return new Set(shares).size > 1 ? shares : undefined;
    },

    /**
     * @param {import("./upload.js").Source[]} sources
     * @param {number[]} [blend]
     */
    replace(sources, blend) {
      const largest = Math.max(...(blend ?? [1]));
      set(
        sources.map((source, at) => ({
          source,
          share: blend ? Math.max(1, Math.round((100 * blend[at]) / largest)) : SHARE,
        })),
      );
    },
    take,
    problem: place.problem,
    focus,
  };
}
