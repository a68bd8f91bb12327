"""Time one evaluation of loss and gradient against PyTorch's autograd doing the same work.

Each contender runs alone in a process of its own, the processes alternate, and what is reported
is medians over processes: idle threads of one runtime would slow the other down.

    python tools/benchmark.py [--sizes 256 512] [--rounds 3] [--threads 2] [--json FILE]

PyTorch is optional (pip install "gramstyle[bench]"); without it only gramstyle is timed.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTENT = "conv4_2"
STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
ALPHA, BETA = 1e-3, 1.0

# Evaluations in one process: the first few pay for fresh memory and are not counted.
WARM_UP, COUNTED = 3, 5

Evaluate = Callable[[NDArray[np.float64]], float]


def main() -> None:
    arguments = parse_arguments()
    if arguments.contender:
        print(json.dumps(measure(arguments.contender, arguments.sizes[0], arguments.threads)))
        return
    contenders = ["gramstyle", *(["pytorch"] if find_spec("torch") else [])]
    results = [
        result
        for size in arguments.sizes
        for result in compare(contenders, size, arguments.rounds, arguments.threads)
    ]
    print(as_markdown(results))
    if arguments.json:
        report = {"machine": machine(), "threads": arguments.threads, "results": results}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], metavar="PIXELS")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each contender")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--contender", choices=("gramstyle", "pytorch"), help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(contenders: list[str], size: int, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Run the contenders in turn, each in its own process, and gather their figures."""
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in contenders:
            samples[name].append(in_own_process(name, size, threads))
    losses = [runs[0]["loss"] for runs in samples.values()]
    if not np.allclose(losses, losses[0], rtol=1e-3):
        sys.exit(f"the contenders do different work: their losses are {losses}")
    baseline = median(s["seconds"] for s in samples[contenders[-1]])
    return [
        {
            "contender": name,
            "size": size,
            "median": median(s["seconds"] for s in runs),
            "minimum": min(s["seconds"] for s in runs),
            "maximum": max(s["seconds"] for s in runs),
            "ratio": median(s["seconds"] for s in runs) / baseline,
            "peak_mb": max(s["peak_mb"] for s in runs),
            "loss": runs[0]["loss"],
        }
        for name, runs in samples.items()
    ]


def in_own_process(name: str, size: int, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--contender", name]
    command += ["--sizes", str(size), "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(name: str, size: int, threads: int) -> dict[str, Any]:
    """Time one contender in this process: the median of its counted evaluations."""
    rng = np.random.default_rng(0)
    x, p, a = rng.uniform(0, 255, (3, 3, size, size))
    evaluate = {"gramstyle": gramstyle_evaluation, "pytorch": pytorch_evaluation}[name](
        p, a, threads
    )
    seconds, loss = [], 0.0
    for _ in range(WARM_UP + COUNTED):
        began = time.perf_counter()
        loss = evaluate(x)
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": median(seconds[WARM_UP:]), "peak_mb": peak, "loss": loss}


def gramstyle_evaluation(p: NDArray[np.float64], a: NDArray[np.float64], threads: int) -> Evaluate:
    """The evaluation as `gramstyle transfer` does it."""
    from gramstyle.options import Options
    from gramstyle.prepare import prepare

    content, style = (image.transpose(1, 2, 0) / 255 for image in (p, a))
    options = Options(size=p.shape[1], alpha=ALPHA, beta=BETA, pooling="max", threads=threads)
    objective = prepare(content, style, options).objective
    return lambda x: objective.loss_and_gradient(x).loss


def pytorch_evaluation(p: NDArray[np.float64], a: NDArray[np.float64], threads: int) -> Evaluate:
    """The same objective written as users of PyTorch write it, its gradient by autograd."""
    import torch
    from torch.nn.functional import conv2d, max_pool2d, relu

    from gramstyle.model import locate_model, read_model
    from gramstyle.network import Convolution

    torch.set_num_threads(threads)
    model = read_model(locate_model())
    layers = [
        (layer.name, torch.from_numpy(layer.W.copy()), torch.from_numpy(layer.b))
        if isinstance(layer, Convolution)
        else (layer.name, None, None)
        for layer in model.network.until([CONTENT, *STYLE]).layers
    ]
    preprocess = model.preprocessing.forward
    del model

    def responses(image: torch.Tensor) -> dict[str, torch.Tensor]:
        kept, F = {}, image[None]
        for name, W, b in layers:
            F = max_pool2d(F, 2) if W is None else relu(conv2d(F, W, b, padding=1))
            if name == CONTENT or name in STYLE:
                kept[name] = F[0]
        return kept

    def gram(F: torch.Tensor) -> torch.Tensor:
        matrix = F.flatten(1)
        return matrix @ matrix.T

    def as_input(image: NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(preprocess(image), np.float32))

    with torch.no_grad():
        P = responses(as_input(p))[CONTENT]
        A = {name: gram(F) for name, F in responses(as_input(a)).items() if name in STYLE}

    def evaluate(x: NDArray[np.float64]) -> float:
        v = as_input(x).requires_grad_()
        F = responses(v)
        loss = ALPHA * 0.5 * ((F[CONTENT] - P) ** 2).sum()
        for name in STYLE:
            N, M = F[name].shape[0], F[name][0].numel()
            E = ((gram(F[name]) - A[name]) ** 2).sum() / (4 * N**2 * M**2)
            loss = loss + BETA * E / len(STYLE)
        torch.autograd.grad(loss, v)
        return float(loss)

    return evaluate


def as_markdown(results: list[dict[str, Any]]) -> str:
    """Return the figures as a table, below a line about the machine."""
    lines = [
        machine(),
        "",
        "| size | contender | median s | min to max s | ratio | peak MB | loss |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['size']} | {r['contender']} | {r['median']:.2f} | "
        f"{r['minimum']:.2f} to {r['maximum']:.2f} | {r['ratio']:.2f} | {r['peak_mb']:.0f} | "
        f"{r['loss']:.6g} |"
        for r in results
    ]
    return "\n".join(lines)


def machine() -> str:
    """Return one line: processor, cores, Python and the packages that matter."""
    names = ("gramstyle", "numpy", "scipy", "onnxruntime", "torch")
    versions = ", ".join(f"{name} {installed(name)}" for name in names)
    cores = len(os.sched_getaffinity(0))
    return f"{processor()}, {cores} cores, Python {platform.python_version()}, {versions}"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    return f"{facts.get('model name')} (family {facts.get('cpu family')}, {facts.get('model')})"


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
