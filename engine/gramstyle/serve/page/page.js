/** The page: which view is shown, and what the views tell each other. */

import { LOCKED, NoAnswer, Problem, about, deleteJob, signIn, signOut } from "./api.js";
import { serverIsBack } from "./connection.js";
import { announce, byId, confirmed, say } from "./dom.js";
import { composeForm } from "./form.js";
import { forget, historyView, remember } from "./history.js";
import { runView } from "./run.js";

/** Whether this browser has signed in, so that it can sign out. */
const SIGNED_IN = "gramstyle.signed-in";

/** @param {"login" | "compose" | "run" | "opening"} name */
function view(name) {
  for (const id of ["login", "compose", "run", "opening"]) byId(id).hidden = id !== name;
}

/** @param {string} text */
const notice = (text) => say(byId("notice"), text);

/** @returns {Promise<import("./api.js").About>} what the server says, once it answers */
async function ask() {
  for (;;) {
    try {
      return await about();
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      await serverIsBack();
    }
  }
}

async function open() {
  view("opening");
  const server = await ask();
  say(byId("program"), server.program);
  if (server.locked) return askForToken();
  byId("sign-out").hidden = localStorage.getItem(SIGNED_IN) === null;
  if (server.live) return showLive(server, server.live);
  showStudio(server);
}

function askForToken() {
  localStorage.removeItem(SIGNED_IN);
  view("login");
  byId("token").focus();
}

document.addEventListener(LOCKED, askForToken);

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId("token"));
  const problem = byId("login-problem");
  say(problem, "");
  try {
    await signIn(field.value);
    localStorage.setItem(SIGNED_IN, "yes");
    location.reload();
  } catch (error) {
    say(problem, error instanceof Error ? error.message : String(error));
    field.select();
    field.focus();
  }
});

byId("sign-out").addEventListener("click", async () => {
  await signOut().catch(() => {});
  localStorage.removeItem(SIGNED_IN);
  location.reload();
});

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the job that is shown
  byId("main").focus();
});

/**
 * Show one job and nothing else: a run of the command line.
 * @param {import("./api.js").About} server
 * @param {string} id
 */
function showLive(server, id) {
  const run = runView(server, {
    again() {},
    remove() {},
    changed() {},
    refused: (_, problem) => say(byId("run-problem"), problem.message),
  });
  view("run");
  run.open(id);
}

/** @param {import("./api.js").About} server */
function showStudio(server) {
  const form = composeForm(server, (job) => {
    remember(job.id);
    void history.refresh();
    notice("");
    location.hash = `job=${job.id}`;
  });

  /** @param {import("./api.js").Job} job */
  function again(job) {
    form.fill(job);
    location.hash = "new";
    showForm();
    announce("The form has the images and the settings of this image.");
  }

  /** @param {import("./api.js").Job} job */
  async function remove(job) {
    const question =
      "Delete this image and its settings from the server? Its photograph and paintings go too, unless another image uses them.";
    if (!(await confirmed(question, "Delete"))) return;
    try {
      await deleteJob(job.id);
    } catch (error) {
      if (!(error instanceof Problem && error.status === 404)) {
        notice(`The image is not deleted. ${error instanceof Error ? error.message : error}`);
        return;
      }
    }
    drop(job.id, "The image is deleted.");
  }

  /** @param {string} id @param {string} message */
  function drop(id, message) {
    forget(id);
    void history.refresh();
    if (location.hash === `#job=${id}`) location.hash = "new";
    announce(message);
  }

  const history = historyView({ again, remove });
  const run = runView(server, {
    again,
    remove,
    changed: (job) => history.update(job),
    refused(id, problem) {
      if (problem.status === 401) return;
      drop(id, "");
      notice(`The server no longer has this image. ${problem.message}`);
    },
  });

  function showForm() {
    run.close();
    view("compose");
    document.title = "gramstyle";
    byId("to-new").hidden = true;
    byId("compose-title").focus();
  }

  /** Show what the address says. Other addresses change nothing. */
  function route() {
    const id = location.hash.match(/^#job=([\w-]{22,43})$/)?.[1];
    if (id) {
      view("run");
      byId("to-new").hidden = false;
      run.open(id);
      byId("run-title").focus();
      window.scrollTo(0, 0);
    } else if (location.hash === "#new" || location.hash === "") {
      showForm();
      window.scrollTo(0, 0);
    }
  }

  byId("to-history").addEventListener("click", (event) => {
    event.preventDefault();
    byId("history").scrollIntoView();
    byId("history-title").focus();
  });
  window.addEventListener("hashchange", route);

  void history.refresh();
  if (location.hash) return route();
  void history.unfinished().then((id) => {
    if (id && !location.hash) window.history.replaceState(null, "", `#job=${id}`);
    route();
  });
}

open().catch((error) => {
  byId("opening").hidden = true;
  notice(error instanceof Error ? error.message : String(error));
});
