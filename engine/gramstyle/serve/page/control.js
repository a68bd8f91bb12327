/**
 * The control of one option: a slider with a number, or a list of choices; a sentence that says
 * what the value does; and a button that takes the usual value again.
 *
 * @typedef {object} Control
 * @property {HTMLElement} node
 * @property {(value: any, normal: any, given: boolean, scene: import("./options.js").Scene) => void} show
 * @property {() => string} problem what is wrong with the value, or ""
 * @property {() => void} focus
 */

import { element, say } from "./dom.js";
import { capital, plain } from "./format.js";
import { SHOWN, shown } from "./options.js";

/**
 * @param {import("./api.js").Option} option
 * @param {(value: any) => void} changed is told a value, or undefined for the usual one
 * @returns {Control}
 */
export function control(option, changed) {
  const id = `option-${option.name}`;
  const sentence = element("p", { id: `${id}-says`, class: "says" });
  const problem = element("p", { id: `${id}-problem`, class: "problem", role: "alert" });
  const reset = element("button", { type: "button", class: "plain reset", hidden: true });
  const input = option.choices ? choice(id, option, changed) : number(id, option, changed);
  const label = element("label", { htmlFor: id, title: option.description }, capital(option.label));
  input.main.setAttribute("aria-describedby", `${sentence.id} ${problem.id}`);
  reset.addEventListener("click", () => {
    changed(undefined);
    input.main.focus();
  });
  const head = element("div", { class: "head" }, label, reset, input.main);
  const node = element("div", { class: "option" }, head, ...input.others, sentence, problem);

  function showProblem() {
    const wrong = input.wrong();
    say(problem, wrong);
    if (wrong) input.main.setAttribute("aria-invalid", "true");
    else input.main.removeAttribute("aria-invalid");
    return wrong;
  }

  return {
    node,
    show(value, normal, given, scene) {
      input.show(value);
      const wrong = showProblem();
      const says = SHOWN[option.name].says(value, option.default, scene) || option.description;
      say(sentence, wrong ? "" : says);
      reset.hidden = !given;
      say(reset, `back to ${shown(normal)}`);
      reset.setAttribute("aria-label", `${capital(option.label)}: back to ${shown(normal)}`);
    },
    problem: showProblem,
    focus: () => input.main.focus(),
  };
}

/**
 * @typedef {object} Input
 * @property {HTMLInputElement | HTMLSelectElement} main
 * @property {HTMLElement[]} others
 * @property {(value: any) => void} show
 * @property {() => string} wrong
 */

/**
 * @param {string} id
 * @param {import("./api.js").Option} option
 * @param {(value: any) => void} changed
 * @returns {Input}
 */
function choice(id, option, changed) {
  const select = element("select", { id });
  if (option.default === null) select.append(element("option", { value: "" }, "automatic"));
  for (const name of option.choices ?? []) select.append(element("option", { value: name }, name));
  select.addEventListener("change", () => changed(select.value === "" ? null : select.value));
  return {
    main: select,
    others: [],
    show(value) {
      select.value = value ?? "";
    },
    wrong: () => "",
  };
}

/**
 * @param {string} id
 * @param {import("./api.js").Option} option
 * @param {(value: any) => void} changed
 * @returns {Input}
 */
function number(id, option, changed) {
  const least = option.minimum ?? -Infinity;
  const most = option.maximum ?? Infinity;
  const stops = stopsOf(option, least, most);
  const field = element("input", {
    id,
    type: "number",
    inputMode: option.type === "integer" ? "numeric" : "decimal",
    step: option.type === "integer" ? "1" : "any",
    min: String(option.minimum ?? ""),
    max: String(option.maximum ?? ""),
    placeholder: option.default === null ? "auto" : "",
  });
  const slider = element("input", {
    type: "range",
    min: "0",
    max: String(stops.length - 1),
    step: "1",
    "aria-label": `${capital(option.label)}, slider`,
  });
  // A form that is shown again meanwhile, as when an upload arrives, must not replace what is typed.
  let typing = false;
  field.addEventListener("input", () => (typing = true));
  field.addEventListener("change", () => {
    typing = false;
    // A text that is no number stays in the field; `wrong` says so.
    if (!field.validity.badInput) changed(field.value === "" ? undefined : Number(field.value));
  });
  slider.addEventListener("input", () => changed(stops[Number(slider.value)]));
  return {
    main: field,
    others: stops.length > 1 ? [slider] : [],
    show(value) {
      if (!typing && (document.activeElement !== field || Number(field.value) !== value)) {
        field.value = value === null ? "" : String(typeof value === "number" ? rounded(value) : value);
      }
      slider.value = String(nearest(stops, value));
      slider.setAttribute("aria-valuetext", shown(value));
    },
    wrong() {
      const label = capital(option.label);
      if (field.validity.badInput) return `${label} must be a number.`;
      if (field.value === "") return "";
      const value = Number(field.value);
      if (option.type === "integer" && !Number.isInteger(value)) return `${label} must be a whole number.`;
      if (value < least) return `${label} must be at least ${plain(least)}.`;
      if (value > most) return `${label} must be at most ${plain(most)} on this server.`;
      return "";
    },
  };
}

/**
 * Return the values of a slider that the server allows, and the default.
 * @param {import("./api.js").Option} option
 * @param {number} least
 * @param {number} most
 * @returns {(number | null)[]}
 */
function stopsOf(option, least, most) {
  const { stops = [], automatic = -Infinity } = SHOWN[option.name];
  const within = stops.filter((stop) => stop >= least && stop <= most);
  const all = [...new Set([...within, option.default])];
  return all.sort((one, other) => (one ?? automatic) - (other ?? automatic));
}

/** @param {(number | null)[]} stops @param {number | null} value */
function nearest(stops, value) {
  /** @param {number} at */
  const distance = (at) => {
    const stop = stops[at];
    if (stop === null || value === null) return stop === value ? -1 : Infinity;
    return Math.abs(Math.log((stop + 0.01) / (value + 0.01)));
  };
  let best = 0;
  for (let at = 1; at < stops.length; at += 1) if (distance(at) < distance(best)) best = at;
  return best;
}

/** @param {number} value */
const rounded = (value) => Number(value.toPrecision(6));
