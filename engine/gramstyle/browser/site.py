"""The files of the folder: the page, the graphs, ONNX Runtime, and the settings of all."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from gramstyle.browser.folder import FILES, SETTINGS
from gramstyle.browser.runtime import PACKAGE, VERSION, runtime_files

# Hosts such as Netlify and Cloudflare Pages read this file. The two headers allow threads.
HEADERS = """\
/*
  Cross-Origin-Opener-Policy: same-origin
  Cross-Origin-Embedder-Policy: require-corp
"""

RUNTIME_LICENCE = f"""\
{PACKAGE} {VERSION}, from npm. The files are unchanged; those called .mjs there are called .js here.
Its binary files contain code of others: their licences are in the file ThirdPartyNotices.txt of
https://github.com/microsoft/onnxruntime/tree/v{VERSION}

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What the page needs to know of a run, beside the graphs.

    Attributes
    ----------
    weights
        The inputs of the graph for the weights of equation 7; alpha is None where it depends on
        the size.
    alpha_pixels
        The default α times the number of pixels of the image.
    first_scale
        The least longer edge of the first scale, in pixels.
    history, tolerance
        As in `gramstyle.Options`.
    network, attribution
        The name of the network, and the authors and licence to credit.
    program
        The program that has written the folder.
    """

    weights: Mapping[str, float | None]
    alpha_pixels: float
    first_scale: int
    history: int
    tolerance: float
    network: str
    attribution: str
    program: str


def site_files(
    objective: bytes, targets: bytes, defaults: Defaults, tarball: bytes
) -> dict[str, bytes]:
    """Return all files of the folder, by their paths in it.

    Parameters
    ----------
    objective, targets
        The graphs: loss and gradient, with the targets and the weights of equation 7 as inputs,
        and the targets.
    defaults
        What the page needs to know of a run.
    tarball
        ONNX Runtime's package, as `fetch_runtime` returns it.
    """
    graphs = {"objective": objective, "targets": targets}
    files = {
        **dict(_files_of(resources.files("gramstyle.browser") / "page")),
        **{f"{name}.onnx": data for name, data in graphs.items()},
        **{f"onnxruntime/{name}": data for name, data in runtime_files(tarball).items()},
        "onnxruntime/LICENSE": RUNTIME_LICENCE.encode(),
        "_headers": HEADERS.encode(),
    }
    settings = {
        **{_camel(name): value for name, value in asdict(defaults).items()},
        "models": {
            name: {"file": f"{name}.onnx", "bytes": len(data)} for name, data in graphs.items()
        },
        FILES: sorted([*files, SETTINGS]),
    }
    files[SETTINGS] = json.dumps(settings, ensure_ascii=False, indent=2).encode() + b"\n"
    return files


def _files_of(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _files_of(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry.read_bytes()


def _camel(name: str) -> str:
    """Return a name as JavaScript writes it: first_scale becomes firstScale."""
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
