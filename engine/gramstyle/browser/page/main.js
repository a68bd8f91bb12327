// The page: it chooses the images and the options, starts a worker, and shows what the worker says.
//
// For measurements, ?threads=N sets the number of threads, and ?device=wasm or ?device=webgpu the
// device.

import { Chooser } from "./choosing.js";
import { fetchFile } from "./graphs.js";
import { Problem, sentenceOf } from "./problems.js";

const MAX_THREADS = 8;

const query = new URLSearchParams(location.search);
const byId = (id) => document.getElementById(id);
const form = byId("form");
let settings = null;
let worker = null;
let last = null; // the last iteration that the worker has reported

const sliders = {
  size: (value) => `${value} pixels`,
  iterations: (value) => value,
  strength: (value) => `× ${strengthOf(value)}`,
};

const choosers = Object.fromEntries(
  [...document.querySelectorAll(".chooser")].map((section) => [
    section.dataset.role,
    new Chooser(section),
  ]),
);

/** Return the factor of α: a power of two with two digits. */
function strengthOf(value) {
  return Number((2 ** Number(value)).toPrecision(2));
}

for (const [id, text] of Object.entries(sliders)) {
  const show = () => {
    document.querySelector(`output[for=${id}]`).textContent = text(byId(id).value);
  };
  byId(id).addEventListener("input", show);
  show();
}

document.addEventListener("paste", ({ clipboardData }) => {
  const [file] = clipboardData.files;
  if (!file) return;
  const focused = document.activeElement?.closest(".chooser")?.dataset.role;
  const role = focused ?? (choosers.content.image ? "style" : "content");
  choosers[role].takeFile(file);
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start().catch(showProblem);
});
byId("stop").addEventListener("click", stop);

open().catch(showProblem);

/** Read the settings of the export, show the page and choose the first samples. */
async function open() {
  settings = JSON.parse(new TextDecoder().decode(await fetchFile("settings.json")));
  byId("network").textContent = `The network: ${settings.attribution || settings.network}.`;
  byId("program").textContent = `Made by ${settings.program}.`;
  byId("unready").hidden = true;
  form.hidden = false;
  byId("start").disabled = false;
  await Promise.all([choosers.content.takeSample("chelsea.jpg"), choosers.style.takeSample("night.jpg")]);
}

function threads() {
  if (!crossOriginIsolated) return 1; // threads need shared memory
  const cores = navigator.hardwareConcurrency || 1;
  // Half of many: two of them usually share the units that compute.
  const wanted = Number(query.get("threads")) || (cores > 4 ? cores / 2 : cores);
  return Math.max(1, Math.min(MAX_THREADS, Math.floor(wanted)));
}

async function start() {
  showProblem(null);
  const images = await Promise.all(
    ["content", "style"].map(async (role) => {
      const { image } = choosers[role];
      if (!image) throw new Problem(`There is no ${role} image; choose one.`);
      return createImageBitmap(image); // a copy, which the worker receives
    }),
  );
  last = null;
  setRunning(true);
  say("Loading …");
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.addEventListener("message", ({ data }) => hear(data));
  worker.addEventListener("error", () => {
    hear({ kind: "failed", sentence: "The computation could not be started; reload the page." });
  });
  const job = {
    content: images[0],
    style: images[1],
    settings,
    threads: threads(),
    device: query.get("device") ?? "auto",
    size: Number(byId("size").value),
    iterations: Number(byId("iterations").value),
    contentStrength: strengthOf(byId("strength").value),
  };
  worker.postMessage(job, images);
}

/** End the worker; the image so far stays. */
function stop() {
  setRunning(false);
  say(last ? `Stopped at iteration ${last.iteration}; the image so far is kept.` : "Stopped.");
}

const hearing = {
  loading({ loaded, total }) {
    const MB = (bytes) => Math.round(bytes / 1e6);
    say(`Loading the network: ${MB(loaded)} of ${MB(total)} MB`);
    byId("progress").value = loaded / total;
  },

  stage({ stage }) {
    byId("progress").removeAttribute("value");
    say(stage === "targets" ? "Looking at both images …" : "Starting …");
  },

  iteration(state) {
    last = state;
    const { size, image, scale, scales } = state;
    const canvas = byId("image");
    canvas.width = size.width;
    canvas.height = size.height;
    canvas.getContext("2d").putImageData(new ImageData(image, size.width, size.height), 0, 0);
    canvas.hidden = false;
    fact("iteration", `${state.iteration} of ${state.iterations}`);
    fact("loss", state.loss.toPrecision(4));
    fact("seconds", `${state.seconds.toPrecision(3)} s`);
    fact("left", duration(state.secondsLeft));
    fact("device", state.device === "webgpu" ? "the GPU" : counted(threads(), "thread"));
    byId("facts").hidden = false;
    byId("progress").value = state.iteration / state.iterations;
    const part = scales > 1 ? `size ${scale + 1} of ${scales}, ` : "";
    say(`Rendering: ${part}${size.width} × ${size.height} pixels`);
    byId("download").hidden = false;
  },

  done({ evaluations }) {
    setRunning(false);
    fact("left", "none");
    say(`Done after ${counted(evaluations, "evaluation")}.`);
  },

  failed({ sentence }) {
    setRunning(false);
    say(last ? "The image so far is kept." : "");
    showProblem({ sentence });
  },
};

function fact(name, text) {
  document.querySelector(`[data-fact=${name}]`).textContent = text;
}

function hear(message) {
  if (worker) hearing[message.kind](message);
}

function setRunning(running) {
  if (!running) {
    worker?.terminate(); // with all its memory
    worker = null;
  }
  const [enabled, disabled] = running ? ["stop", "start"] : ["start", "stop"];
  byId(enabled).disabled = false;
  // A button that is disabled loses the focus.
  if (document.activeElement === byId(disabled)) byId(enabled).focus();
  byId(disabled).disabled = true;
  byId("progress").hidden = !running;
  if (!running) return;
  byId("progress").removeAttribute("value");
  byId("result").scrollIntoView({ block: "nearest" });
  byId("image").hidden = true;
  byId("facts").hidden = true;
  byId("download").hidden = true;
}

/** Show a sentence in the live region, unless it is there: readers hear only what is new. */
function say(sentence) {
  const status = byId("status");
  if (status.textContent !== sentence) status.textContent = sentence;
}

function showProblem(problem) {
  const place = byId("problem");
  place.hidden = problem === null;
  place.textContent = problem === null ? "" : (problem.sentence ?? sentenceOf(problem));
}

byId("download").addEventListener("click", () => {
  byId("image").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "gramstyle.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60e3); // when it has been saved
  }, "image/png");
});

function counted(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function duration(seconds) {
  if (seconds < 1) return "a moment";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}
