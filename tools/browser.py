"""Time evaluations of the loss and its gradient in Chromium, and by the same machine's engines.

    python -m tools.browser --size 256

It exports the folder of `gramstyle objective export --web`, serves it, and evaluates the same loss
with each number of threads: in Chromium by ONNX Runtime for browsers, and in a process of its own
by each engine. The figures are the median of some evaluations after the first, and the peak of the
process's memory.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tools.arguments import positive
from tools.static_server import served

from gramstyle.cli import main as gramstyle
from gramstyle.run.options import Options
from gramstyle.run.prepare import prepare

ENGINES = ("winograd", "numpy", "onnx")

# No GPU, and nothing that Chromium does on its own.
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

EVALUATIONS = """
async ({ size, threads, repetitions, planes }) => {
  const { fetchFile, loadRuntime, ObjectiveGraph, TargetsGraph } = await import("./graphs.js");
  const ort = await loadRuntime("wasm", threads);
  const image = { width: size, height: size };
  const [content, style] = planes.map((each) => Float32Array.from(each));
  const graph = await TargetsGraph.open(ort, await fetchFile("targets.onnx"));
  const targets = {
    ...(await graph.targets("content", content, image)),
    ...(await graph.targets("style", style, image)),
  };
  await graph.release();
  const weights = { alpha: 24 / size ** 2, beta: 1 };
  const objective = await ObjectiveGraph.open(ort, await fetchFile("objective.onnx"), "wasm");
  const evaluate = objective.objective({ targets, weights, size: image });
  let { loss } = await evaluate(style);
  const seconds = [];
  for (let i = 0; i < repetitions; i++) {
    const start = performance.now();
    await evaluate(style);
    seconds.push((performance.now() - start) / 1000);
  }
  return { loss, seconds };
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=positive, default=256, help="the edge of the image")
    parser.add_argument("--threads", type=positive, nargs="+", default=[1, 2])
    parser.add_argument("--repetitions", type=positive, default=7)
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the program")
    parser.add_argument("--runtime", type=Path, help="as for gramstyle objective export")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine is not None:
        print(json.dumps(by_engine(arguments)))
        return
    if arguments.chromium is None:
        parser.error("there is no chromium; install it, or name it by --chromium")
    print("| what | threads | seconds | peak memory | loss |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        web = Path(folder) / "web"
        given = [] if arguments.runtime is None else ["--runtime", str(arguments.runtime)]
        if gramstyle(["objective", "export", "--web", str(web), *given]) != 0:
            sys.exit(2)
        for threads in arguments.threads:
            with served(web, isolated=True) as address:
                row("in Chromium", threads, in_chromium(arguments, address, threads))
            for engine in ENGINES:
                row(engine, threads, in_process(arguments, engine, threads))


def row(what: str, threads: int, found: dict[str, Any]) -> None:
    seconds = statistics.median(found["seconds"])
    memory = found["peak"] / 1e9
    print(
        f"| {what} | {threads} | {seconds:.3f} | {memory:.2f} GB | {found['loss']:.6g} |",
        flush=True,
    )


def images(size: int) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Return two images of noise (3, size, size), from 0 to 255."""
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (2, 3, size, size)).astype(np.float32))


def in_chromium(arguments: argparse.Namespace, address: str, threads: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=arguments.chromium, args=ARGUMENTS)
        page = browser.new_page()
        page.goto(address)
        given = {
            "size": arguments.size,
            "threads": threads,
            "repetitions": arguments.repetitions,
            "planes": [each.ravel().tolist() for each in images(arguments.size)],
        }
        found: dict[str, Any] = page.evaluate(EVALUATIONS, given)
        processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")
        peaks = [peak_of(each["id"]) for each in processes["processInfo"]
                 if each["type"] == "renderer"]  # fmt: skip
        browser.close()
    return {**found, "peak": max(peaks)}


def in_process(arguments: argparse.Namespace, engine: str, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.browser", "--engine", engine]
    for name, value in (("size", arguments.size), ("repetitions", arguments.repetitions)):
        command += [f"--{name}", str(value)]
    done = subprocess.run(
        [*command, "--threads", str(threads)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def by_engine(arguments: argparse.Namespace) -> dict[str, Any]:
    content, style = images(arguments.size)
    options = Options(
        size=arguments.size, scales=1, engine=arguments.engine, threads=arguments.threads[0]
    )
    planes = (content.transpose(1, 2, 0) / 255, style.transpose(1, 2, 0) / 255)
    with prepare(*planes, options) as prepared:
        loss = prepared.objective.loss_and_gradient(style).loss
        seconds = []
        for _ in range(arguments.repetitions):
            start = time.perf_counter()
            prepared.objective.loss_and_gradient(style)
            seconds.append(time.perf_counter() - start)
    return {"loss": loss, "seconds": seconds, "peak": peak_of(os.getpid())}


def peak_of(process: int) -> int:
    """Return the largest memory that a process of Linux has had, in bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
