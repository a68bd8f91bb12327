"""More tabs than a browser has connections to a server: six without HTTP/2."""

import re

import pytest
from playwright.sync_api import Page, expect

from serve.page import steps

pytestmark = pytest.mark.real_model

TABS = 8
# At most the job, all losses or a progress, a preview, and a progress that comes meanwhile.
MOST_EVENTS = 6

# A browser without a screen shows every tab; this lets a test hide one as the browser does. It also
# counts the streams that are open, and the events of each.
VISIBILITY = """
window.hiddenByTest = false;
window.streams = [];
Object.defineProperty(Document.prototype, "hidden", { get: () => window.hiddenByTest });
window.hide = (hidden) => {
  window.hiddenByTest = hidden;
  document.dispatchEvent(new Event("visibilitychange"));
};
window.EventSource = class extends EventSource {
  constructor(url) {
    super(url);
    this.kinds = [];
    window.streams.push(this);
    for (const kind of ["job", "losses", "progress", "preview"]) {
      this.addEventListener(kind, () => this.kinds.push(kind));
    }
  }
};
"""


def open_streams(tab: Page) -> int:
    return tab.evaluate("window.streams.filter((each) => each.readyState < 2).length")


def test_of_eight_tabs_that_watch_a_run_the_visible_one_is_live_and_all_can_ask(new_page, server):
    first = new_page()
    context = first.context
    context.add_init_script(VISIBILITY)
    first.goto(server.address)
    steps.start_endless(first, size=512)
    steps.wait_for_preview(first)
    tabs = [first]
    for _ in range(TABS - 1):
        tabs[-1].evaluate("window.hide(true)")
        tab = context.new_page()
        tab.goto(first.url)
        steps.wait_for_preview(tab)
        tabs.append(tab)
    assert [open_streams(tab) for tab in tabs] == [0] * (TABS - 1) + [1]
    job = steps.job_id(first)
    asked = tabs[6].evaluate(f"fetch('/jobs/{job}').then((answer) => answer.status)")
    assert asked == 200

    for shown, before in zip(tabs[:3], (tabs[-1], *tabs), strict=False):
        before.evaluate("window.hide(true)")
        reached = tabs[6].evaluate(
            f"fetch('/jobs/{job}').then((answer) => answer.json()).then((job) => job.iteration)"
        )
        count = shown.evaluate("window.streams.length")
        shown.bring_to_front()
        shown.evaluate("window.hide(false)")
        shown.wait_for_function(
            """([count, reached]) => {
                const line = document.getElementById("run-line").textContent;
                const found = line.match(/Iteration (\\d+) of/);
                return window.streams.length > count && found && Number(found[1]) >= reached
                    && window.streams.at(-1).kinds.includes("progress");
            }""",
            arg=[count, reached],
        )
        kinds = shown.evaluate("window.streams.at(-1).kinds.slice()")
        assert "losses" not in kinds, "the points before are not sent again"
        assert kinds[: kinds.index("progress")].count("job") <= 1
        assert kinds.index("progress") < MOST_EVENTS
        # The points that came while the tab was hidden are in its curve.
        shown.wait_for_function(
            """(reached) => document.querySelector("#curve path[data-term=loss]")
                .getAttribute("d").match(/[ML]/g).length >= reached""",
            arg=reached,
        )

    tabs[2].get_by_role("button", name="Stop and keep the image").click()
    steps.wait_for_state(tabs[2], "cancelled")
    hidden, title = tabs[0], re.compile("^Stopped")
    expect(hidden).to_have_title(title)  # also in the tabs that are hidden
    tabs[5].evaluate("window.hide(false)")
    steps.wait_for_state(tabs[5], "cancelled")
    expect(tabs[5].get_by_role("link", name="Download PNG")).to_be_visible()
