"""What a person does on the page, and what the page then shows."""

import re

from playwright.sync_api import Locator, Page, expect

# Iterations that take hours on any machine.
ENDLESS = 1_000_000


def choose_samples(page: Page) -> None:
    page.get_by_role("button", name="Sample photograph: cat").click()
    page.get_by_role("button", name="Sample painting: night").click()
    expect(page.locator("#content .picture img")).to_be_visible()
    expect(page.locator("#styles .picture img")).to_be_visible()


def start(page: Page, *, size: int, iterations: int) -> None:
    """Start a run of the samples; return when the page shows it."""
    choose_samples(page)
    option(page, "Size").fill(str(size))
    option(page, "Iterations").fill(str(iterations))
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#run")).to_be_visible()


def start_endless(page: Page, *, size: int = 64) -> None:
    """Start a run that only `stop` ends, on any machine; return when the page shows it."""
    start(page, size=size, iterations=ENDLESS)


def option(page: Page, label: str) -> Locator:
    return page.get_by_label(label, exact=True)


def look(page: Page, name: str) -> Locator:
    return page.get_by_role("radio", name=name)


def wait_for_state(page: Page, state: str) -> None:
    expect(page.locator(f"#run[data-state={state}]")).to_be_visible()


def wait_for_preview(page: Page) -> None:
    expect(page.locator("#easel.painted .after")).to_be_visible()
    expect(page.locator("#run-line")).to_have_text(re.compile(r"Iteration \d+ of \d+"))


def iteration(page: Page) -> int:
    wait_for_preview(page)
    found = re.search(r"Iteration (\d+) of", page.locator("#run-line").inner_text())
    return int(found[1]) if found else 0


def job_id(page: Page) -> str:
    return page.url.partition("#job=")[2]


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop and keep the image").click()
    wait_for_state(page, "cancelled")
