"""A server that dies and comes back, and a server that asks for a token."""

import pytest
from playwright.sync_api import expect

from serve.page import steps
from serve.page.served import Server

pytestmark = pytest.mark.real_model

TOKEN = "a-token-of-the-tests"  # noqa: S105 - guards nothing
AWAY = "The server does not answer. Trying again…"


def test_the_page_recovers_when_a_killed_server_starts_again(page, server):
    steps.start_endless(page)
    steps.wait_for_preview(page)
    server.kill()
    banner = page.get_by_role("alert").filter(has_text=AWAY)
    expect(banner).to_be_visible()
    server.start()
    expect(banner).to_be_hidden()
    steps.wait_for_state(page, "running")
    steps.stop(page)
    expect(page.get_by_role("link", name="Download PNG")).to_be_visible()


def test_a_form_that_cannot_be_sent_says_so_and_keeps_its_values(page, server):
    steps.choose_samples(page)
    steps.option(page, "Size").fill("64")
    steps.option(page, "Iterations").fill("1")
    server.kill()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#start-problem")).to_have_text("The server does not answer.")
    expect(page.locator("#connection")).to_have_text(AWAY)
    server.start()
    expect(page.locator("#connection")).to_be_empty()
    page.get_by_role("button", name="Start").click()
    steps.wait_for_state(page, "finished")


@pytest.fixture(scope="module")
def locked_server(tmp_path_factory, real_model_path):
    running = Server(
        tmp_path_factory.mktemp("locked"),
        real_model_path,
        environment={"GRAMSTYLE_TOKEN": TOKEN},
    )
    running.start()
    yield running
    running.stop()


def test_a_locked_page_asks_for_the_token_and_then_works_until_the_user_signs_out(
    new_page, locked_server
):
    page = new_page()
    page.goto(locked_server.address)
    token = page.get_by_label("Token")
    expect(token).to_be_focused()
    expect(page.locator("#compose")).to_be_hidden()
    token.fill("not the token")
    token.press("Enter")
    expect(page.locator("#login-problem")).to_have_text("This is not the token of this server.")
    token.fill(TOKEN)
    token.press("Enter")
    steps.start(page, size=64, iterations=2)
    steps.wait_for_state(page, "finished")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    expect(page.locator("#run")).to_be_hidden()
