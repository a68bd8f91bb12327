"""Runs on the page with the real model: from two images to a download, and interruptions."""

import io
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from serve.page import steps
from workers import PATIENCE, program, until

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.real_model


def test_a_run_shows_one_preview_after_the_other(page):
    shown = page.locator("#easel .after")
    steps.start_endless(page, size=128)
    steps.wait_for_preview(page)
    first = shown.get_attribute("src")
    expect(shown).not_to_have_attribute("src", first)
    for preview in (first, shown.get_attribute("src")):
        assert preview.startswith("data:image/webp;base64,")
    steps.stop(page)


def test_two_samples_become_an_image(page):
    shown = page.locator("#easel .after")
    steps.start(page, size=128, iterations=25)
    steps.wait_for_state(page, "finished")
    expect(page.locator("#run-line")).to_contain_text("25 iterations · 128 × 85 pixels")
    expect(shown).to_have_attribute("src", re.compile(r"image\.webp$"))

    for term in ("loss", "content", "style"):
        line = page.locator(f"#curve path[data-term={term}]")
        assert len(re.findall("[ML]", line.get_attribute("d"))) == 25
    expect(page.locator("#curve svg[role=img]")).to_have_attribute(
        "aria-label", re.compile("25 iterations: the loss fell from .+ to .+")
    )

    slider = page.get_by_label("How much of the photograph to show")
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^100 %"))
    for _ in range(3):
        slider.press("ArrowLeft")
    expect(page.locator("#easel")).to_have_css("--at", "97%")

    for link, kind in (("Download PNG", "PNG"), ("JPEG", "JPEG")):
        with page.expect_download() as download:
            page.get_by_role("link", name=link).click()
        image = Image.open(download.value.path())
        image.load()
        assert (image.format, image.size) == (kind, (128, 85))
    with page.expect_download() as download:
        page.get_by_role("link", name="Recipe").click()
    recipe = tomllib.loads(download.value.path().read_text())
    assert (recipe["size"], recipe["iterations"]) == (128, 25)


def test_an_earlier_image_gives_its_settings_to_the_form_and_can_be_deleted(page):
    steps.look(page, "Painterly").check()
    steps.start(page, size=64, iterations=2)
    steps.wait_for_state(page, "finished")
    page.get_by_role("link", name="New image").click()
    steps.look(page, "Subtle").check()

    cards = page.get_by_role("list").filter(has=page.locator("a[href^='#job=']")).locator("li")
    expect(cards).to_have_count(1)
    cards.get_by_role("button", name="Again").click()
    expect(steps.look(page, "Painterly")).to_be_checked()
    expect(steps.option(page, "Size")).to_have_value("64")
    expect(steps.option(page, "Iterations")).to_have_value("2")
    expect(page.locator("#styles .picture")).to_have_count(1)
    page.get_by_role("button", name="Start").click()
    steps.wait_for_state(page, "finished")
    expect(cards).to_have_count(2)

    address = page.url
    page.locator("#delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#compose")).to_be_visible()
    expect(cards).to_have_count(1)
    page.goto(address)
    expect(page.locator("#notice")).to_contain_text("The server no longer has this image.")


def test_a_deleted_image_can_be_made_again_from_the_images_in_the_form(page):
    steps.start(page, size=64, iterations=1)
    steps.wait_for_state(page, "finished")
    page.locator("#delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#compose")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    steps.wait_for_state(page, "finished")


def test_an_earlier_image_whose_uploads_are_gone_asks_for_them_again(page):
    steps.start(page, size=64, iterations=1)
    steps.wait_for_state(page, "finished")
    page.reload()
    page.route("**/uploads/**", lambda route: route.fulfill(status=404, json={"detail": "no"}))
    steps.wait_for_state(page, "finished")
    page.locator("#again").click()
    expect(page.locator("#content-problem")).to_contain_text("no longer has this photograph")
    expect(page.locator("#styles-problem")).to_contain_text("no longer has one of the paintings")
    expect(steps.option(page, "Size")).to_have_value("64")


def test_a_run_that_is_stopped_keeps_its_image(page, server):
    steps.start_endless(page)
    steps.wait_for_preview(page)
    steps.stop(page)
    expect(page.get_by_role("link", name="Download PNG")).to_be_visible()
    answer = page.request.get(f"{server.address}/jobs/{steps.job_id(page)}/image.png")
    assert Image.open(io.BytesIO(answer.body())).size == (64, 43)


def test_a_page_that_is_loaded_again_finds_the_run(page, server):
    steps.start_endless(page)
    job, before = steps.job_id(page), steps.iteration(page)

    page.reload()
    assert steps.iteration(page) >= before
    # The photograph to compare with is larger than a thumbnail.
    expect(page.locator("#easel .before")).to_have_js_property("naturalWidth", 352)
    assert steps.job_id(page) == job
    expect(page.locator("#curve path[data-term=loss]")).to_be_attached()

    page.goto("about:blank")
    page.goto(server.address)  # without the id in the address
    assert steps.iteration(page) >= before
    assert steps.job_id(page) == job
    steps.stop(page)


def test_an_answer_that_comes_after_the_end_does_not_bring_the_run_back(page):
    held = []
    page.route("**/cancel", lambda route: held.append((route, route.fetch())))
    steps.start_endless(page)
    steps.wait_for_preview(page)
    steps.stop(page)
    ((route, answer),) = held
    assert answer.json()["state"] == "running"
    with page.expect_response("**/cancel") as arrived:
        route.fulfill(response=answer)
    arrived.value.finished()
    page.evaluate("new Promise(requestAnimationFrame)")
    steps.wait_for_state(page, "cancelled")


def test_two_tabs_show_the_same_run_and_the_same_history(page, server):
    steps.start_endless(page)
    steps.wait_for_preview(page)
    other = page.context.new_page()
    other.goto(server.address)
    steps.wait_for_preview(other)
    assert steps.job_id(other) == steps.job_id(page)

    steps.stop(other)
    steps.wait_for_state(page, "cancelled")
    other.locator("#delete").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(other.locator("#history")).to_be_hidden()
    expect(page.locator("#history")).to_be_hidden()


def test_a_second_job_waits_for_the_first_and_can_leave_the_queue(page):
    steps.start_endless(page)
    steps.wait_for_preview(page)
    first = page.url
    page.get_by_role("link", name="New image").click()
    page.get_by_role("button", name="Start").click()
    steps.wait_for_state(page, "waiting")
    expect(page.locator("#run-line")).to_have_text("Next in the queue")
    page.get_by_role("button", name="Leave the queue").click()
    steps.wait_for_state(page, "cancelled")
    page.goto(first)
    steps.wait_for_preview(page)
    steps.stop(page)


def test_a_run_of_the_command_line_is_shown_alone_and_can_be_stopped(
    new_page, real_model_path, tmp_path
):
    content, style = ROOT / "docs/samples/chelsea.jpg", ROOT / "docs/samples/night.jpg"
    command = [sys.executable, "-m", "gramstyle", "transfer", content, style, "-o", "out.png"]
    command += [
        "--size",
        "64",
        "--iterations",
        str(steps.ENDLESS),
        "--model",
        real_model_path,
        "--live",
    ]
    # Without a screen, the command opens no browser.
    environment = {**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    said = tmp_path / "stderr.txt"
    with (
        said.open("w") as stderr,
        program(command, cwd=tmp_path, stderr=stderr, env=environment) as run,
    ):
        address = until(lambda: re.search(r"http://\S+(?=\s)", said.read_text()))[0]
        page = new_page()
        page.goto(address)
        steps.wait_for_preview(page)
        for absent in ("#compose", "#history", "#again", "#delete", "#downloads", "#to-new"):
            expect(page.locator(absent)).to_be_hidden()
        steps.stop(page)
        assert run.wait(PATIENCE) == 0
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (64, 43)
    expect(page.locator("#easel.painted .after")).to_be_visible()
