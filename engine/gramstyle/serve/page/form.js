/** The form: images, a look and options become a new job. */

import { Problem, startJob } from "./api.js";
import { contentField } from "./content.js";
import { control } from "./control.js";
import { byId, element, say } from "./dom.js";
import { capital, duration } from "./format.js";
import { FIRST, SHARES, resultSize, shown, shownOptions, single } from "./options.js";
import { named } from "./slot.js";
import { stylesField } from "./styles.js";
import { filesIn, renew } from "./upload.js";

/** The look without a preset, as a value of a radio button. */
const PLAIN = "";

/**
 * @param {import("./api.js").About} about
 * @param {(job: import("./api.js").Job) => void} started
 */
export function composeForm(about, started) {
  const form = /** @type {HTMLFormElement} */ (byId("compose"));
  const content = contentField(byId("content"), about, refresh);
  const styles = stylesField(byId("styles"), about, refresh);
  const options = shownOptions(about.options);
  /** @type {Map<string, any>} values that the user gives; the others are those of the look */
  const given = new Map();
  /** @type {Record<string, any>} values of options without a control, from an earlier job */
  let others = {};
  let preset = PLAIN;

  const radios = lookCards(about.presets, (name) => {
    preset = name;
    refresh();
  });
  const controls = new Map(
    options
      .filter(({ name }) => name !== SHARES)
      .map((option) => [
        option.name,
        control(option, (value) => {
          if (value === undefined || value === normal(option)) given.delete(option.name);
          else given.set(option.name, value);
          refresh();
        }),
      ]),
  );
  const nodes = [...controls.values()].map(({ node }) => node);
  const rest = /** @type {HTMLDetailsElement} */ (byId("options-rest"));
  byId("options-first").replaceChildren(...nodes.slice(0, FIRST));
  rest.querySelector(".controls")?.replaceChildren(...nodes.slice(FIRST));

  /** @param {import("./api.js").Option} option the value of the look */
  function normal(option) {
    const values = about.presets.find(({ name }) => name === preset)?.values ?? {};
    return single(option.name in values ? values[option.name] : option.default);
  }

  /** @param {import("./api.js").Option} option */
  const value = (option) => (given.has(option.name) ? given.get(option.name) : normal(option));

  function refresh() {
    const source = content.value();
    const size = source?.width && source.height ? { width: source.width, height: source.height } : null;
    for (const option of options) {
      controls.get(option.name)?.show(value(option), normal(option), given.has(option.name), { content: size });
    }
    for (const [name, radio] of radios) radio.checked = name === preset;
    showOthers();
    say(byId("summary"), summary(size));
  }

  /** @param {{width: number, height: number} | null} content */
  function summary(content) {
    /** @param {string} name */
    const of = (name) => options.find((option) => option.name === name);
    const parts = [preset === PLAIN ? "" : capital(preset)];
    const size = of("size");
    if (size) parts.push(content ? `${resultSize(value(size), content).join(" × ")} pixels` : `${value(size)} pixels`);
    const iterations = of("iterations");
    if (iterations) parts.push(`${value(iterations)} iterations`);
    return parts.filter(Boolean).join(" · ");
  }

  function showOthers() {
    const names = Object.keys(others);
    const node = byId("options-others");
    node.hidden = names.length === 0;
    if (node.hidden) return node.replaceChildren();
    const forget = element("button", { type: "button", class: "plain" }, "leave them out");
    forget.addEventListener("click", () => {
      others = {};
      refresh();
    });
    const list = names.map((name) => `${name} ${shown(others[name])}`).join(", ");
    node.replaceChildren(`Also from the earlier image: ${list} `, forget);
  }

  /** Return whether all fields are usable; if not, the first wrong one says why. */
  function check() {
    if (!content.value()) {
      content.problem("Choose a photograph first.");
      content.focus();
      return false;
    }
    if (!styles.sources().length) {
      styles.problem("Choose a painting first.");
      styles.focus();
      return false;
    }
    const wrong = [...controls.values()].filter((one) => one.problem());
    if (!wrong.length) return true;
    if (rest.contains(wrong[0].node)) rest.open = true;
    wrong[0].focus();
    return false;
  }

  async function start() {
    const problem = byId("start-problem");
    say(problem, "");
    if (!check()) return;
    const button = /** @type {HTMLButtonElement} */ (byId("start"));
    button.disabled = true;
    try {
      started(await startJob(wanted()).catch(renewed));
    } catch (error) {
      say(problem, whyNot(error));
    } finally {
      button.disabled = false;
    }
  }

  /** @returns {import("./api.js").NewJob} */
  function wanted() {
    const blend = styles.blend();
    return {
      content: content.value()?.id ?? "",
      styles: styles.sources().map(({ id }) => id),
      preset: preset === PLAIN ? null : preset,
      options: { ...others, ...Object.fromEntries(given), ...(blend && { [SHARES]: blend }) },
    };
  }

  /**
   * Start the job again with the images that the server lacked.
   * @param {unknown} error
   */
  async function renewed(error) {
    if (!(error instanceof Problem && error.status === 404)) throw error;
    for (const source of [content.value(), ...styles.sources()]) if (source) await renew(source);
    return startJob(wanted());
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void start();
  });

  /**
   * Take images that were dropped or pasted somewhere on the page.
   * @param {File[]} files
   * @param {boolean} asStyles
   */
  function take(files, asStyles) {
    const pictures = files.map(named);
    if (!asStyles && !content.value()) void content.take(/** @type {any} */ (pictures.shift()));
    if (pictures.length) void styles.take(pictures);
  }

  document.addEventListener("paste", (event) => {
    const files = filesIn(event.clipboardData);
    if (form.hidden || !files.length) return;
    event.preventDefault();
    take(files, byId("styles").contains(document.activeElement));
  });
  document.addEventListener("dragover", (event) => {
    // Else the browser would leave the page and open the image.
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    const files = filesIn(event.dataTransfer);
    if (!files.length) return;
    event.preventDefault();
    if (!form.hidden) take(files, false);
  });

  refresh();

  return {
    /**
     * Fill the form with the images and the settings of a job.
     * @param {import("./api.js").Job} job
     */
    fill(job) {
      const { [SHARES]: blend, ...values } = job.options;
      given.clear();
      others = {};
      preset = about.presets.some(({ name }) => name === job.preset) ? (job.preset ?? PLAIN) : PLAIN;
      for (const [name, each] of Object.entries(values)) {
        if (controls.has(name)) given.set(name, single(each));
        else others[name] = each;
      }
      if (options.slice(FIRST).some(({ name }) => given.has(name))) rest.open = true;
      content.set(job.content ? { id: job.content, name: "photograph" } : null);
      styles.replace(
        job.styles.map((id, at) => ({ id, name: job.styles.length > 1 ? `painting ${at + 1}` : "painting" })),
        Array.isArray(blend) && blend.length === job.styles.length ? blend : undefined,
      );
      say(byId("start-problem"), "");
    },
  };
}

/**
 * Make the cards of the looks; return their radio buttons by name.
 * @param {import("./api.js").Preset[]} presets
 * @param {(name: string) => void} chosen
 */
function lookCards(presets, chosen) {
  const looks = [{ name: PLAIN, description: "photograph and painting in balance" }, ...presets];
  const cards = byId("presets").querySelector(".cards");
  cards?.replaceChildren();
  /** @type {Map<string, HTMLInputElement>} */
  const radios = new Map();
  for (const { name, description } of looks) {
    const radio = element("input", { type: "radio", name: "look", value: name, checked: name === PLAIN });
    radio.addEventListener("change", () => chosen(name));
    radios.set(name, radio);
    cards?.append(
      element(
        "label",
        { class: "card" },
        radio,
        element("strong", {}, capital(name || "balanced")),
        element("span", { class: "soft" }, `${capital(description)}.`),
      ),
    );
  }
  return radios;
}

/** @param {unknown} error */
function whyNot(error) {
  if (error instanceof Problem && error.status === 429) {
    const wait = error.retryAfter ? ` Try again in ${duration(error.retryAfter)}.` : " Try again later.";
    return error.message + wait;
  }
  return error instanceof Error ? error.message : String(error);
}
