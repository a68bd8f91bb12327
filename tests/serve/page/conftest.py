"""A server with the real model and a browser for the tests of the page. They need Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urljoin

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from serve.page import steps
from serve.page.served import Server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 300_000  # milliseconds; a busy machine is slow


@pytest.fixture(scope="session")
def server(tmp_path_factory, real_model_path) -> Iterator[Server]:
    """A server for all tests of the page: each leaves no run that others would wait for."""
    limits = ("--max-upload", "200kB", "--max-iterations", str(steps.ENDLESS))
    running = Server(tmp_path_factory.mktemp("served"), real_model_path, limits)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("the tests of the page need Chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser):
    """Return a function that opens a page; in the end, none may have had an error in its code."""
    contexts, faults, jobs = [], [], []

    def note_job(answer) -> None:
        if (
            answer.request.method == "POST"
            and answer.status == 202
            and "location" in answer.headers
        ):
            jobs.append(
                (answer.frame.page.context, urljoin(answer.url, answer.headers["location"]))
            )

    def open_page(**settings) -> Page:
        context = browser.new_context(**settings)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        context.on("response", note_job)
        context.on("weberror", lambda event: faults.append(str(event.error)))
        context.on(
            "console",
            lambda message: (
                "Content Security Policy" in message.text and faults.append(message.text)
            ),
        )
        return context.new_page()

    yield open_page
    # A run that a failed test has left would keep those of the next tests waiting.
    for context, job in jobs:
        with suppress(Error):  # its server is gone
            context.request.post(f"{job}/cancel")
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def page(new_page, server) -> Page:
    """The page as somebody sees it who comes for the first time."""
    opened = new_page()
    opened.goto(server.address)
    expect(opened.locator("#compose")).to_be_visible()
    return opened
