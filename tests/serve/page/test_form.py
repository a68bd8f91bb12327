"""The form: images from everywhere, options that the server describes, and what it refuses."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from gramstyle.serve.http.app import PAGE
from serve.page import steps

pytestmark = pytest.mark.real_model

MOST_BYTES = 200_000


def png(seed=0, width=48, height=32):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def file(name, data):
    return {"name": name, "mimeType": "image/png", "buffer": data}


def hand_over(page, event, target, *images):
    """Paste images, or drop them on an element."""
    page.locator(target).evaluate(
        """(node, [kind, images]) => {
            const transfer = new DataTransfer();
            for (const [name, bytes] of images) {
                transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
            }
            const settings = { bubbles: true, cancelable: true };
            node.dispatchEvent(
                kind === "paste"
                    ? new ClipboardEvent("paste", { ...settings, clipboardData: transfer })
                    : new DragEvent("drop", { ...settings, dataTransfer: transfer }),
            );
        }""",
        [event, [[name, list(data)] for name, data in images]],
    )


def submitted(page):
    """Press Start and return the job that the page asks for; the server does not see it."""
    asked = []

    def refuse(route):
        asked.append(json.loads(route.request.post_data))
        route.fulfill(
            status=429,
            headers={"Content-Type": "application/problem+json", "Retry-After": "90"},
            body=json.dumps({"status": 429, "detail": "the queue is full"}),
        )

    page.route("**/jobs", refuse)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#start-problem")).not_to_be_empty()
    page.unroute("**/jobs")
    return asked[-1]


def as_text(value):
    """A default as a field shows it."""
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_images_can_be_chosen_dropped_and_pasted(page):
    page.locator("#content-file").set_input_files(file("harbour.png", png(1)))
    expect(page.locator("#content .picture")).to_contain_text("Harbour.png48 × 32")
    hand_over(page, "drop", "#styles", ("one.png", png(2)), ("two.png", png(3)))
    expect(page.locator("#styles .picture")).to_have_count(2)
    hand_over(page, "paste", "body", ("three.png", png(4)))
    expect(page.locator("#styles .picture")).to_have_count(3)
    hand_over(page, "drop", "#content", ("other.png", png(5)))
    expect(page.locator("#content .picture")).to_contain_text("Other.png")
    page.get_by_role("button", name="Remove Two.png").click()
    expect(page.locator("#styles .picture")).to_have_count(2)


def test_the_first_image_pasted_anywhere_is_the_photograph_and_the_next_the_painting(page):
    hand_over(page, "paste", "body", ("first.png", png(1)))
    expect(page.locator("#content .picture")).to_contain_text("First.png")
    hand_over(page, "drop", "main", ("second.png", png(2)))
    expect(page.locator("#styles .picture")).to_contain_text("Second.png")


@pytest.mark.parametrize("place", ["content", "styles"])
def test_a_file_that_is_no_image_is_refused_beside_its_field(page, place):
    page.locator(f"#{place}-file").set_input_files(file("notes.png", b"these are notes"))
    expect(page.locator(f"#{place}-problem")).to_contain_text("not an image")
    expect(page.locator(f"#{place} .picture")).to_have_count(0)
    page.locator(f"#{place}-file").set_input_files(file("right.png", png()))
    expect(page.locator(f"#{place} .picture")).to_have_count(1)
    expect(page.locator(f"#{place}-problem")).to_be_empty()


def test_a_file_that_is_too_large_is_not_sent(page):
    sent = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    page.locator("#content-file").set_input_files(file("huge.png", bytes(MOST_BYTES + 1)))
    expect(page.locator("#content-problem")).to_have_text(
        "huge.png has 201 kB; this server takes images of at most 200 kB."
    )
    assert sent == []


def test_start_asks_for_what_is_missing(page):
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#content-problem")).to_have_text("Choose a photograph first.")
    expect(page.locator("#content-file")).to_be_focused()
    page.get_by_role("button", name="Sample photograph: coffee").click()
    expect(page.locator("#content .picture")).to_have_count(1)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#styles-problem")).to_have_text("Choose a painting first.")


def test_the_form_shows_what_the_server_says_of_ten_options(page, server):
    about = {
        each["name"]: each for each in page.request.get(f"{server.address}/about").json()["options"]
    }
    page.get_by_text("More options").click()
    shown = page.locator("[id^=option-]").evaluate_all(
        """nodes => nodes.filter((node) => node.matches("input, select"))
            .map((node) => [node.id, node.labels[0].innerText, node.value])"""
    )
    assert len(shown) == 9  # the tenth is the shares, which two paintings have
    for name, label, value in shown:
        option = about[name.removeprefix("option-")]
        assert label.casefold() == option["label"].casefold()
        assert value == as_text(option["default"])


def test_a_preset_fills_in_its_values_and_those_that_the_user_gave_stay(page):
    steps.choose_samples(page)
    steps.option(page, "Size").fill("96")
    steps.look(page, "Fast").check()
    expect(steps.option(page, "Size")).to_have_value("96")
    expect(steps.option(page, "Iterations")).to_have_value("50")
    expect(page.locator("#summary")).to_have_text("Fast · 96 × 64 pixels · 50 iterations")
    assert submitted(page)["options"] == {"size": 96}
    page.get_by_role("button", name="Size: back to 256").click()
    asked = submitted(page)
    assert (asked["preset"], asked["options"]) == ("fast", {})
    expect(page.locator("#start-problem")).to_have_text(
        "The queue is full. Try again in 1 min 30 s."
    )


def test_an_upload_that_arrives_does_not_replace_what_is_being_typed(page):
    held = []
    page.route("**/uploads?*", lambda route: held.append(route))
    with page.expect_request("**/uploads?*"):
        page.get_by_role("button", name="Sample photograph: cat").click()
    size = steps.option(page, "Size")
    size.press("Control+a")
    size.press_sequentially("256")
    held[0].continue_()
    expect(page.locator("#content .picture img")).to_be_visible()
    expect(size).to_have_value("256")
    size.press("Tab")
    expect(page.locator("#summary")).to_contain_text("256 × 170 pixels")


def test_sentences_follow_the_values(page):
    says = page.locator("#option-content_strength-says")
    before = says.inner_text()
    page.get_by_label("Content strength, slider").press("End")
    expect(says).to_have_text("A photograph with a few strokes.")
    page.get_by_role("button", name="Content strength: back to 1").click()
    expect(says).to_have_text(before)


def test_shares_of_two_paintings_become_the_blend(page):
    steps.choose_samples(page)
    page.get_by_role("button", name="Sample painting: ember").click()
    expect(page.locator("#styles .picture")).to_have_count(2)
    assert "style_blend" not in submitted(page)["options"]
    share = page.get_by_label("Share of Night")
    share.press("End")
    expect(share).to_have_attribute("aria-valuetext", "67 %")
    assert submitted(page)["options"]["style_blend"] == [100, 50]


def test_a_value_out_of_range_is_explained_at_its_option(page):
    steps.choose_samples(page)
    steps.option(page, "Size").fill("5000")
    steps.option(page, "Size").blur()
    expect(page.locator("#option-size-problem")).not_to_be_empty()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#option-size-problem")).to_have_text(
        "Size must be at most 1024 on this server."
    )
    expect(steps.option(page, "Size")).to_be_focused()


def test_what_the_server_refuses_is_said_at_the_button(page):
    steps.choose_samples(page)
    page.get_by_label("Stroke size", exact=True).fill("40")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#start-problem")).to_contain_text("choose a smaller style_scale")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(new_page, server, width):
    page = new_page(viewport={"width": width, "height": 740})
    page.goto(server.address)
    steps.start(page, size=64, iterations=1)
    steps.wait_for_state(page, "finished")
    for show in (lambda: None, lambda: page.get_by_role("link", name="New image").click()):
        show()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_with_its_samples_is_smaller_than_200_kilobytes():
    files = [path for path in Path(PAGE).rglob("*") if path.is_file()]
    assert len(files) > 10
    assert sum(path.stat().st_size for path in files) < 200_000
