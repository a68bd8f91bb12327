/** The view of one job: the image as it comes into being, its curves, its settings, what to do. */

import { cancelJob, hasEnded, jobPath } from "./api.js";
import { easel } from "./compare.js";
import { curves } from "./curve.js";
import { announce, byId, element, say } from "./dom.js";
import { capital, duration, sentence } from "./format.js";
import { shown } from "./options.js";
import { follow } from "./stream.js";
import { showUpload } from "./upload.js";

/** @typedef {import("./api.js").Job} Job */

/**
 * @param {import("./api.js").About} about
 * @param {object} told
 * @param {(job: Job) => void} told.again
 * @param {(job: Job) => void} told.remove
 * @param {(job: Job) => void} told.changed
 * @param {(id: string, problem: import("./api.js").Problem) => void} told.refused
 */
export function runView(about, told) {
  const picture = easel(byId("easel"));
  const curve = curves(byId("curve"));
  const labels = new Map(about.options.map(({ name, label }) => [name, label]));
  /** @type {Job | null} */
  let job = null;
  let unfollow = () => {};
  let quarter = 0;

  const stop = /** @type {HTMLButtonElement} */ (byId("stop"));
  stop.addEventListener("click", () => void cancel());
  byId("again").addEventListener("click", () => job && told.again(job));
  byId("delete").addEventListener("click", () => job && told.remove(job));
  for (const id of ["again", "delete"]) byId(id).hidden = Boolean(about.live);

  async function cancel() {
    if (!job) return;
    stop.disabled = true;
    say(stop, "Stopping after this iteration…");
    try {
      const answer = await cancelJob(job.id);
      // The stream may have told of the end before, and another job may be shown by now.
      if (job?.id === answer.id && !hasEnded(job)) show(answer);
    } catch (error) {
      say(byId("run-problem"), error instanceof Error ? error.message : String(error));
      stop.disabled = false;
      say(stop, STOP);
    }
  }

  /** @param {Job} next */
  function show(next) {
    const first = job === null;
    const changed = job?.state !== next.state;
    job = next;
    if (first) {
      picture.begin(job.content);
      showSettings(job);
    }
    if (job.width && job.height) picture.fit(job.width, job.height);
    curve.expect(job.iterations);
    showState(job);
    if (hasEnded(job) && job.has_image) {
      void picture.paint(jobPath(job.id, "image.webp"), `The result: ${look(job)}`);
    }
    if (changed) {
      announce(stateLine(job));
      told.changed(job);
    }
  }

  /** @param {Job} now */
  function showState(now) {
    const ended = hasEnded(now);
    say(byId("run-title"), TITLES[now.state]);
    say(byId("run-line"), stateLine(now));
    say(byId("run-problem"), now.state === "failed" ? sentence(now.problem ?? "the run failed") : "");
    byId("run").dataset.state = now.state;
    byId("compare-help").hidden = now.content === null || (!ended && now.iteration === 0) || (ended && !now.has_image);
    const bar = /** @type {HTMLProgressElement} */ (byId("run-progress"));
    bar.hidden = ended;
    if (now.state === "waiting") bar.removeAttribute("value");
    else bar.value = now.iterations ? Math.min(1, now.iteration / now.iterations) : 0;
    stop.hidden = ended;
    if (!stop.disabled) say(stop, now.state === "waiting" ? "Leave the queue" : STOP);
    showDownloads(now);
    byId("run-actions").hidden = false;
    document.title = `${titleOf(now)} – gramstyle`;
  }

  /** @param {Job} now */
  function showDownloads(now) {
    const group = byId("downloads");
    const links = [];
    // The command line saves the image of its run itself.
    if (hasEnded(now) && !about.live) {
      if (now.has_image) {
        links.push(download(now, "image.png", "Download PNG"), download(now, "image.jpg", "JPEG"));
        links[0].classList.add("primary");
      }
      links.push(download(now, "recipe", "Recipe"));
    }
    if (group.children.length !== links.length || group.dataset.job !== now.id) group.replaceChildren(...links);
    group.dataset.job = now.id;
    group.hidden = links.length === 0;
  }

  /** @param {Job} now */
  function showSettings(now) {
    const list = byId("settings");
    list.replaceChildren();
    /** @type {(name: string, value: string) => void} */
    const row = (name, value) => list.append(element("dt", {}, capital(name)), element("dd", {}, value));
    row("look", capital(now.preset ?? "balanced"));
    for (const [name, value] of Object.entries(now.options)) row(labels.get(name) ?? name, shown(value));
    byId("sources").replaceChildren(
      ...(now.content ? [thumbnail(now.content, "The photograph")] : []),
      ...now.styles.map((id, at) =>
        thumbnail(id, now.styles.length > 1 ? `Painting ${at + 1}` : "The painting"),
      ),
    );
  }

  /** @param {import("./stream.js").Progress} progress */
  function progressed(progress) {
    if (!job) return;
    const { points, terms, ...fields } = progress;
    job = { ...job, ...fields };
    curve.add([...(points ?? []), [progress.iteration, progress.loss, terms]]);
    picture.fit(progress.width, progress.height);
    curve.expect(job.iterations);
    showState(job);
    const reached = job.iterations ? Math.floor((4 * job.iteration) / job.iterations) : 0;
    if (reached > quarter && reached < 4) announce(`${25 * reached} percent. ${stateLine(job)}`);
    quarter = reached;
  }

  return {
    /** @param {string} id */
    open(id) {
      this.close();
      stop.disabled = false;
      curve.replace([]);
      picture.begin(null);
      byId("run").dataset.state = "opening";
      for (const part of ["run-actions", "run-progress", "compare-help"]) byId(part).hidden = true;
      say(byId("run-title"), "Opening…");
      say(byId("run-line"), "");
      say(byId("run-problem"), "");
      byId("settings").replaceChildren();
      byId("sources").replaceChildren();
      unfollow = follow(id, {
        job: show,
        losses: (points) => curve.replace(points),
        progress: progressed,
        preview({ image, iteration, width, height }) {
          if (!job || (hasEnded(job) && job.has_image)) return;
          picture.fit(width, height);
          void picture.paint(image, `The image after ${iteration} iterations`);
          byId("compare-help").hidden = job.content === null;
        },
        refused: (problem) => told.refused(id, problem),
      });
    },
    close() {
      unfollow();
      unfollow = () => {};
      job = null;
      quarter = 0;
    },
    id: () => job?.id ?? null,
  };
}

const STOP = "Stop and keep the image";

const TITLES = {
  waiting: "Waiting for its turn",
  running: "Painting",
  finished: "Finished",
  cancelled: "Stopped",
  failed: "This run failed",
};

/** @param {Job} job */
function stateLine(job) {
  if (job.state === "waiting") {
    if (job.position === null) return "In the queue";
    return job.position <= 1 ? "Next in the queue" : `Number ${job.position} in the queue`;
  }
  const parts = [];
  if (job.iteration) {
    parts.push(hasEnded(job) ? `${job.iteration} iterations` : `Iteration ${job.iteration} of ${job.iterations}`);
  } else if (job.state === "running") {
    parts.push("Preparing");
  }
  if (job.width && job.height) parts.push(`${job.width} × ${job.height} pixels`);
  if (job.scales > 1) {
    parts.push(hasEnded(job) ? `${job.scales} scales` : `scale ${job.scale} of ${job.scales}`);
  }
  if (job.seconds) parts.push(duration(job.seconds));
  if (!hasEnded(job) && job.seconds_left !== null && job.iteration) {
    parts.push(`about ${duration(job.seconds_left)} left`);
  }
  if (job.state === "finished" && job.reason) parts.push(job.reason);
  if (job.state === "cancelled" && !job.has_image) parts.push("stopped before there was an image");
  return parts.join(" · ");
}

/** @param {Job} job */
function titleOf(job) {
  if (job.state === "running" && job.iterations) return `${Math.floor((100 * job.iteration) / job.iterations)} %`;
  return TITLES[job.state];
}

/**
 * Return a job's look in a few words.
 * @param {Job} job
 */
export function look(job) {
  const size = job.width && job.height ? `, ${job.width} × ${job.height} pixels` : "";
  return `${capital(job.preset ?? "balanced")}${size}`;
}

/**
 * @param {Job} job
 * @param {string} part
 * @param {string} text
 */
function download(job, part, text) {
  return element("a", { class: "button", href: `${jobPath(job.id, part)}?download=1`, download: "" }, text);
}

/** @param {string} id @param {string} name */
function thumbnail(id, name) {
  const image = element("img", { alt: name, title: name, height: 56 });
  showUpload(image, id, "thumbnail", () => image.remove());
  return image;
}
