"""Measure the cost of float16 and of 8-bit codebooks: file sizes, responses, finished images.

    python tools/precision.py docs/samples/chelsea.jpg docs/samples/meadow.jpg

The default weights have 256 values per layer, so an 8-bit codebook stores them exactly. The loss
of full-precision weights is measured on random weights made from them: each is drawn uniformly
from the interval of values that its codebook rounds to it. These weights have the distribution of
the original ones, and rounding them is as coarse as rounding the original ones was.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from gramstyle import Options, transfer
from gramstyle.analysis.compare import compare_models
from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.images import read_image
from gramstyle.model.export import write_pretrained
from gramstyle.model.locate import locate_model
from gramstyle.model.onnx_file import read_model
from gramstyle.model.precision import PRECISIONS
from gramstyle.model.pretrained import Pretrained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("content", type=Path)
    parser.add_argument("style", type=Path)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--save", type=Path, help="folder for the finished images")
    arguments = parser.parse_args()
    options = Options(size=arguments.size, iterations=arguments.iterations)
    sample = read_image(arguments.content)

    with tempfile.TemporaryDirectory() as folder:
        files = {p: Path(folder) / f"{p}.onnx" for p in PRECISIONS}
        default = Pretrained.from_model(read_model(locate_model()))
        pretrained = unrounded(default, np.random.default_rng(0))
        for precision, path in files.items():
            write_pretrained(path, pretrained, precision=precision)
        reference = read_model(files["float32"])
        images = {p: render(arguments, options, path) for p, path in files.items()}
        # The difference of two runs whose initial images differ invisibly.
        start = sample.pixels / 255 + np.random.default_rng(1).normal(0, 1e-4, sample.pixels.shape)
        near = Options(size=options.size, iterations=options.iterations, init=np.clip(start, 0, 1))
        drift = render(arguments, near, files["float32"])

        print(
            "| precision | file | weights | responses, conv4_2 | largest of the responses | image |"
        )
        print("|---|---|---|---|---|---|")
        for precision, path in files.items():
            layers = compare_models(reference, read_model(path), sample).layers
            weights = max(layer.weights for layer in layers)
            content = next(layer.responses for layer in layers if layer.name == "conv4_2")
            largest = max(layers, key=lambda layer: layer.responses)
            print(
                f"| {precision} | {path.stat().st_size / 1e6:.1f} MB | {weights:.1e} "
                f"| {content:.1e} | {largest.responses:.1e} ({largest.name}) "
                f"| {distance(images[precision], images['float32']):.2f} |"
            )
        print(
            f"\nafter a change of the initial image by 0.03 grey levels: "
            f"{distance(drift, images['float32']):.2f}"
        )
        if arguments.save is not None:
            save(arguments.save / "drift.png", drift)
            for precision, pixels in images.items():
                save(arguments.save / f"{precision}.png", pixels)


def unrounded(pretrained: Pretrained, rng: np.random.Generator) -> Pretrained:
    """Draw each weight uniformly from the interval that is rounded to it."""
    convolutions = []
    for convolution in pretrained.convolutions:
        values, index = np.unique(convolution.W, return_inverse=True)
        borders = (values[1:] + values[:-1]) / 2
        # The outermost intervals are symmetric.
        low = np.concatenate(([2 * values[0] - borders[0]], borders))
        high = np.concatenate((borders, [2 * values[-1] - borders[-1]]))
        W = rng.uniform(low[index], high[index]).reshape(convolution.W.shape).astype(np.float32)
        convolutions.append(Convolution(convolution.name, W, convolution.b))
    return Pretrained(tuple(convolutions), pretrained.preprocessing, pretrained.metadata)


def render(arguments: argparse.Namespace, options: Options, model: Path) -> Array:
    result = transfer(arguments.content, arguments.style, options, model=model)
    return np.asarray(result.image, np.float64)


def distance(a: Array, b: Array) -> float:
    """Return the root mean square difference in grey levels."""
    return float(np.sqrt(np.mean((a - b) ** 2)))


def save(path: Path, pixels: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
