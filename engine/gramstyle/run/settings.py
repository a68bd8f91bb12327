"""The settings of a run: the options, images, model and versions that a record names."""

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gramstyle.images import Image, Source
from gramstyle.run.options import Options
from gramstyle.run.options.values import FROM_FILES, names_image

# The distributions whose versions a record names.
DISTRIBUTIONS = (
    "numpy", "scipy", "onnx", "onnxruntime", "onnxruntime-gpu", "numba", "cupy-cuda12x",
    "cupy-cuda13x", "pillow",
)  # fmt: skip


@dataclass(frozen=True)
class ImageSettings:
    """An image that a run has read, at the size that the last scale uses.

    Attributes
    ----------
    name
        The file's name without its folders, or the image's role in brackets.
    width, height
        In pixels. A style image that is sampled at several scales is described at the largest.
    pixels
        The SHA-256 of the pixels as float32, and of the transparency.
    """

    name: str
    width: int
    height: int
    pixels: str

    @classmethod
    def of(cls, source: Source, role: str, image: Image) -> "ImageSettings":
        """Return the settings of an image."""
        alpha = b"" if image.alpha is None else image.alpha.tobytes()
        digest = hashlib.sha256(image.pixels.tobytes() + alpha).hexdigest()
        return cls(name_of(source, role), image.width, image.height, digest)


@dataclass(frozen=True)
class LossSettings:
    """One of the losses of equation 7: its weight, and the weights of its layers."""

    weight: float
    layers: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings of a run, which its record names.

    Attributes
    ----------
    program
        The program and its version.
    options
        The options by name, with the defaults that were chosen filled in.
    given
        The options as they were given, from which `gramstyle.run.recipes` makes a recipe.
    loss
        The losses by name.
    content, styles, start
        The images; `start` is the image to start from, if one is given.
    model
        The model file's metadata.
    sha256
        The model file's SHA-256.
    versions
        The versions of Python and of the packages that compute.
    scale_edges
        The longer edge of each scale in pixels; empty if there is only one scale.
    icc_profile
        The SHA-256 of the colour profile that the result keeps; empty if it is sRGB.
    masks
        The masks and label maps by role, in their own sizes.
    """

    program: str
    options: Mapping[str, Any]
    given: Mapping[str, Any]
    loss: Mapping[str, LossSettings]
    content: ImageSettings | None
    styles: tuple[ImageSettings, ...]
    start: ImageSettings | None
    model: Mapping[str, str]
    sha256: str
    versions: Mapping[str, str]
    scale_edges: tuple[int, ...] = ()
    icc_profile: str = ""
    masks: Mapping[str, ImageSettings] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON types, for a record or for the metadata of an image."""
        described = {role: asdict(image) for role, image in self.masks.items()}
        masks = {"masks": described} if described else {}
        edges = {"scale_edges": list(self.scale_edges)} if self.scale_edges else {}
        profile = {"icc_profile": self.icc_profile} if self.icc_profile else {}
        return {
            "program": self.program,
            **self.options,
            "given": dict(self.given),
            "loss": {name: asdict(loss) for name, loss in self.loss.items()},
            "content": None if self.content is None else asdict(self.content),
            "style": self._style(),
            "start": None if self.start is None else asdict(self.start),
            "model": {**self.model, "sha256": self.sha256},
            "versions": dict(self.versions),
            **edges,
            **profile,
            **masks,
        }

    def images(self) -> dict[str, ImageSettings | None]:
        """Return the images by their roles."""
        styles = dict(zip(style_roles(len(self.styles)), self.styles, strict=True))
        found = {"content": self.content, "style": None, **styles, "start": self.start}
        return {**found, **self.masks}

    def _style(self) -> dict[str, Any] | list[dict[str, Any]] | None:
        """Return the style image as JSON types; several as a list."""
        if len(self.styles) > 1:
            return [asdict(image) for image in self.styles]
        return asdict(self.styles[0]) if self.styles else None


def style_roles(count: int) -> tuple[str, ...]:
    """Return the roles of so many style images: "style", "style2" and so on."""
    return ("style", *(f"style{number}" for number in range(2, count + 1)))[:count]


def name_of(source: Source | None, role: str) -> str:
    """Return the name of an image in a record: a file's name without its folders."""
    if isinstance(source, str | os.PathLike):
        return Path(os.fsdecode(source)).name
    return f"({role})"


def given_values(options: Options) -> dict[str, Any]:
    """Return the options of a run that a recipe contains; None stands for a default.

    The options of the machine are left out. Images have their names, as in `name_of`. The engine is
    always there: another installation has another default, whose results differ in the last bits.
    """
    given = {**{name: getattr(options, name) for name in FROM_FILES}, "engine": options.runs_on}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if names_image(name, value):
            several = isinstance(value, tuple)
            given[name] = (
                [name_of(each, name) for each in value] if several else name_of(value, name)
            )
    return given


def program() -> str:
    """Return the program and its version."""
    return f"gramstyle {_version('gramstyle')}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute, as far as installed."""
    found = {name: _version(name) for name in DISTRIBUTIONS}
    return {"python": platform.python_version(), **{n: v for n, v in found.items() if v}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
