"""The page in Chromium, with the real model: what it computes, and what it says."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle import transfer
from gramstyle.run.options import Options
from gramstyle.run.prepare import prepare

sys.path.insert(0, str(Path(__file__).parents[2]))  # tools is not installed

from tools.static_server import served

playwright = pytest.importorskip("playwright.sync_api", reason="the extra test installs it")
expect = playwright.expect

pytestmark = [pytest.mark.browser, pytest.mark.real_model]

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    *(
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

# Milliseconds for any one wait, on a machine that does other work too.
PATIENCE = 120_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium; install it to test the page")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with served(site, isolated=True) as found:
        yield found


@pytest.fixture(scope="module")
def plain_address(site: Path) -> Iterator[str]:
    """The address at a server without the headers that allow threads."""
    with served(site, isolated=False) as found:
        yield found


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """An empty page; a request to another host, or an error that is not caught, is a failure."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    asked: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert errors == []
    hosts = ("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")
    assert [url for url in asked if not url.startswith(hosts)] == []


def opened(page: Any, address: str) -> Any:
    """The page, when both samples are chosen."""
    page.goto(address)
    for role in ("content", "style"):
        page.locator(f"[data-role={role}] .preview").wait_for()
    return page


def set_options(page: Any, **values: int) -> None:
    for name, value in values.items():
        page.locator(f"#{name}").fill(str(value))


def wait_until_done(page: Any) -> str:
    """Wait for the end of a run; return its last sentence."""
    expect(page.locator("#stop")).to_be_disabled(timeout=PATIENCE)
    return str(page.inner_text("#status"))


def until(page: Any, is_true: Callable[[], bool]) -> None:
    """Wait for what the browser reports later."""
    for _ in range(PATIENCE // 50):
        if is_true():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not happen in time")


def problem(page: Any, place: str) -> str:
    """Wait for a problem, and return its sentence."""
    found = page.locator(f"{place} .problem")
    found.wait_for(state="visible")
    sentence = found.inner_text()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return str(sentence)


# The modules of the page, with what the worker gives them. A small first scale, so that there are
# two; each iterate comes back with its loss.
RUN = """
async ({ size, iterations }) => {
  const { fetchFile, loadRuntime } = await import("./graphs.js");
  const { planesOf, resized } = await import("./pixels.js");
  const { transfer } = await import("./transfer.js");
  const settings = { ...(await (await fetch("settings.json")).json()), firstScale: 64 };
  const images = {};
  for (const [role, name] of [["content", "chelsea"], ["style", "night"]]) {
    images[role] = await createImageBitmap(await (await fetch(`samples/${name}.jpg`)).blob());
  }
  const used = {};
  const iterates = [];
  const tools = {
    ort: await loadRuntime("wasm", 1),
    objective: await fetchFile("objective.onnx"),
    targets: await fetchFile("targets.onnx"),
    pixels(role, at) {
      const planes = planesOf(images[role], at);
      used[`${role} ${Math.max(at.width, at.height)}`] = { planes: Array.from(planes), ...at };
      return planes;
    },
    resized,
    report({ stage, loss, x, size }) {
      if (stage === "iteration") iterates.push({ loss, planes: Array.from(x), ...size });
    },
  };
  const sizes = Object.fromEntries(
    Object.entries(images).map(([role, { width, height }]) => [role, { width, height }]),
  );
  const job = { size, iterations, contentStrength: 2, device: "wasm", ...sizes };
  const { evaluations, reason } = await transfer(job, settings, tools);
  return { used, iterates, evaluations, reason };
}
"""


def planes(found: dict[str, Any]) -> np.ndarray:
    return np.array(found["planes"], np.float64).reshape(3, found["height"], found["width"])


def test_the_losses_of_the_page_are_python_s_at_the_same_images(
    page: Any, plain_address: str, real_model_path: Path
) -> None:
    page.goto(plain_address)
    found = page.evaluate(RUN, {"size": 96, "iterations": 10})
    assert found["evaluations"] >= 20
    assert found["reason"] == "all iterations done"
    edges = [each["width"] for each in found["iterates"]]
    assert sorted(set(edges)) == [68, 96]
    for edge in (68, 96):
        content, style = (
            planes(found["used"][f"{role} {edge}"]).transpose(1, 2, 0) / 255
            for role in ("content", "style")
        )
        options = Options(size=edge, scales=1, content_strength=2, engine="numpy")
        iterates = [each for each in found["iterates"] if each["width"] == edge]
        assert iterates[-1]["loss"] < iterates[0]["loss"] / 2
        with prepare(content, style, options, model=real_model_path) as prepared:
            for each in iterates:
                x = planes(each)
                assert x.min() >= 0
                assert x.max() <= 255
                truth = prepared.objective.loss_and_gradient(x).loss
                # float32 through 13 layers, in two orders of summation.
                assert each["loss"] == pytest.approx(truth, rel=1e-4)


DRAWN = """
async ([name, width, height]) => {
  const { planesOf } = await import("./pixels.js");
  const image = await createImageBitmap(await (await fetch(`samples/${name}.jpg`)).blob());
  return { planes: Array.from(planesOf(image, { width, height })), width, height };
}
"""


def test_the_page_renders_what_python_renders_and_offers_it_as_png(
    page: Any, address: str, real_model_path: Path
) -> None:
    opened(page, address)
    assert page.evaluate("crossOriginIsolated")
    set_options(page, size=64, iterations=20, strength=0)
    page.click("#start")
    assert re.fullmatch(r"Done after 2\d evaluations\.", wait_until_done(page))
    assert page.inner_text("[data-fact=iteration]") == "20 of 20"
    said = float(page.inner_text("[data-fact=loss]"))
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "gramstyle.png"
    image = PIL.Image.open(BytesIO(Path(download.value.path()).read_bytes()))
    assert (image.format, image.size) == ("PNG", (64, 43))
    x = np.asarray(image.convert("RGB"), np.float64).transpose(2, 0, 1)

    content, style = (
        planes(page.evaluate(DRAWN, [name, 64, height])).transpose(1, 2, 0) / 255
        for name, height in (("chelsea", 43), ("night", 51))
    )
    options = Options(size=64, scales=1, iterations=20, engine="numpy")
    with prepare(content, style, options, model=real_model_path) as prepared:
        # The image is rounded to whole numbers.
        assert prepared.objective.loss_and_gradient(x).loss == pytest.approx(said, rel=0.05)
    # In float32 and in float64, two runs part after some iterations.
    result = transfer(content, style, options, model=real_model_path)
    assert said == pytest.approx(result.record.losses[-1].loss, rel=0.1)
    rendered = result.rendered.pixels.transpose(2, 0, 1)
    correlation = np.corrcoef(rendered.ravel(), x.ravel())[0, 1]
    assert correlation > 0.95


def test_stop_keeps_the_image_so_far(page: Any, plain_address: str) -> None:
    opened(page, plain_address)
    assert not page.evaluate("crossOriginIsolated")
    set_options(page, size=64, iterations=300)
    page.click("#start")
    iteration = page.locator("[data-fact=iteration]")
    expect(iteration).to_have_text(re.compile(r"^([2-9]|\d\d+) of 300$"), timeout=PATIENCE)
    assert page.inner_text("[data-fact=device]") == "1 thread"
    page.click("#stop")
    assert page.inner_text("#status").startswith("Stopped at iteration ")
    expect(page.locator("#stop")).to_be_disabled()
    until(page, lambda: page.workers == [])
    assert page.is_visible("#image")
    assert page.is_enabled("#start")
    pixels = page.evaluate("""() => {
      const canvas = document.getElementById("image");
      return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
    }""")
    assert np.std(pixels) > 20
    # Another run starts anew.
    page.click("#start")
    page.locator("#progress").wait_for()
    page.click("#stop")
    assert page.inner_text("#status") == "Stopped."


def test_an_image_that_cannot_be_used_is_one_sentence(
    page: Any, plain_address: str, tmp_path: Path
) -> None:
    opened(page, plain_address)
    (tmp_path / "notes.jpg").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    PIL.Image.new("RGB", (400, 6)).save(tmp_path / "narrow.png")
    content = page.locator("[data-role=content] input")
    content.set_input_files(tmp_path / "notes.jpg")
    assert problem(page, "[data-role=content]") == (
        "notes.jpg cannot be read as an image; choose a PNG, JPEG or WebP image."
    )
    content.set_input_files(tmp_path / "empty.png")
    sentence = "empty.png is empty; choose a PNG, JPEG or WebP image."
    expect(page.locator("[data-role=content] .problem")).to_have_text(sentence)
    content.set_input_files(tmp_path / "narrow.png")
    page.locator("[data-role=content] .problem").wait_for(state="hidden")
    page.click("#start")
    assert problem(page, "#result") == (
        "The content image is too narrow: at this size it would have 256 × 4 pixels; choose a "
        "larger size or another image."
    )
    assert page.is_enabled("#start")


def test_an_image_can_be_dropped_and_pasted(page: Any, plain_address: str) -> None:
    opened(page, plain_address)
    page.evaluate("""async () => {
      const canvas = new OffscreenCanvas(40, 30);
      canvas.getContext("2d").fillRect(0, 0, 9, 9);
      const data = new DataTransfer();
      data.items.add(new File([await canvas.convertToBlob()], "new.png"));
      const drop = document.querySelector("[data-role=content] .drop");
      drop.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
    }""")
    for role in ("content", "style"):
        page.locator(f"[data-role={role}] .hint", has_text="40 × 30 pixels").wait_for()
        assert page.locator(f"[data-role={role}] [aria-pressed=true]").count() == 0


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("ort.wasm.min.js", "ONNX Runtime could not be loaded"),
        ("ort-wasm-simd-threaded.wasm", "ONNX Runtime could not start"),
        ("objective.onnx", "The file objective.onnx could not be loaded (status 404)"),
        ("worker.js", "The computation could not be started"),
    ],
)
def test_a_file_that_is_missing_is_one_sentence(
    page: Any, plain_address: str, file: str, sentence: str
) -> None:
    page.context.route(f"**/{file}", lambda route: route.fulfill(status=404, body="no"))
    opened(page, plain_address)
    page.click("#start")
    assert problem(page, "#result").startswith(sentence)
    assert page.is_enabled("#start")


def test_settings_that_are_missing_are_one_sentence(page: Any, plain_address: str) -> None:
    page.context.route("**/settings.json", lambda route: route.fulfill(status=404, body="no"))
    page.goto(plain_address)
    assert problem(page, "#result") == (
        "The file settings.json could not be loaded (status 404); try again later."
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_accessible(page: Any, plain_address: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    opened(page, plain_address)
    page.evaluate("""() => {
      for (const part of document.querySelectorAll("[hidden]:not(#unready)")) part.hidden = false;
      document.getElementById("problem").textContent = "A problem.";
    }""")
    violations = axe.Axe().run(page).response["violations"]
    serious = [each for each in violations if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []
    # Nothing is wider than the window.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
