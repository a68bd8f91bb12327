"""axe-core finds nothing serious in the views of the page; the keyboard alone is enough."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from serve.page import steps

pytestmark = pytest.mark.real_model


def findings(page):
    """The findings of axe-core that are serious or critical, with the elements."""
    return [
        (each["id"], [node["target"] for node in each["nodes"]])
        for each in Axe().run(page).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_serious_finding(new_page, server, scheme):
    page = new_page(color_scheme=scheme, reduced_motion="reduce")
    page.goto(server.address)
    expect(page.locator("#compose")).to_be_visible()
    page.get_by_text("More options").click()
    assert findings(page) == []
    page.get_by_role("button", name="Start").click()  # with a problem at the photograph
    expect(page.locator("#content-problem")).not_to_be_empty()
    assert findings(page) == []
    steps.start_endless(page)
    steps.wait_for_preview(page)
    assert findings(page) == []
    steps.stop(page)
    assert findings(page) == []
    page.locator("#delete").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert findings(page) == []


def test_the_description_of_the_interface_has_no_serious_finding(page, server):
    page.goto(f"{server.address}/docs")
    expect(page.locator("#operations")).to_contain_text("/jobs")
    assert findings(page) == []


def test_a_run_can_be_made_with_the_keyboard_alone(page):
    def tab_to(name):
        """Press Tab until the element of that name has the focus."""
        for _ in range(80):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                """() => {
                    const node = document.activeElement;
                    const label = node.labels?.[0] ?? node;
                    return node.getAttribute("aria-label") ?? label.innerText;
                }"""
            )
            if focused.strip() == name:
                return
        pytest.fail(f"Tab does not reach {name}")

    tab_to("Sample photograph: cat")
    page.keyboard.press("Enter")
    tab_to("Sample painting: night")
    page.keyboard.press("Space")
    expect(page.locator("#styles .picture")).to_have_count(1)
    expect(page.locator("#content .picture")).to_have_count(1)
    tab_to("Size")
    page.keyboard.press("Control+A")
    page.keyboard.type("64")
    tab_to("Iterations, slider")
    page.keyboard.press("Home")
    tab_to("Start")
    page.keyboard.press("Enter")
    steps.wait_for_state(page, "finished")
    expect(page.locator("#run-line")).to_contain_text("10 iterations · 64 × 43 pixels")
    expect(page.locator("#run-title")).to_be_focused()
    tab_to("How much of the photograph to show")
    page.keyboard.press("End")
    expect(page.locator("#easel")).to_have_css("--at", "100%")
    tab_to("Download PNG")
