"""Whether a job's image exists already, rendered from the same files with the same settings.

A batch or a figure that is repeated checks this for every job. An image contains its settings and a
fingerprint. If the fingerprints are equal, the job's images need not be decoded. Otherwise the
settings are compared, which contain hashes of the images' pixels.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from gramstyle.batch.job import Job
from gramstyle.batch.render import ModelFile, planned_settings
from gramstyle.cluster.worker import installed_version
from gramstyle.errors import GramstyleError, ImageError
from gramstyle.images import Image, read_image, read_settings
from gramstyle.run.open_model import OpenModel
from gramstyle.run.options import STARTS
from gramstyle.run.options.masks import MASK_OPTIONS, mask_sources, mask_values
from gramstyle.run.options.values import with_present_names

# The setting that holds an image's fingerprint.
FINGERPRINT = "fingerprint"

# Settings that do not change the image. "scale_edges", the sizes of the run, stand for "scales".
_IRRELEVANT = (
    "program", "given", "threads", "max_pixels", "memory", "scheduler", "workers", "scales",
    "versions", "result", FINGERPRINT,
)  # fmt: skip
# Options whose defaults an image of an earlier gramstyle does not name, and these defaults.
_ADDED: dict[str, tuple[object, ...]] = {
    "content_strength": (1.0,),
    "style_loss": ("gram",),
    "style_blend": ([], [1.0]),
    "style_scale": ([1.0],),
    "style_size": (None,),
    **dict.fromkeys(MASK_OPTIONS, (None,)),
    "padding": ("zeros",),
    "colours": ("style",),
    "depth": (8,),
    "profile": ("srgb",),
}
# Options whose defaults depend on the machine's memory, or did in earlier versions.
_BY_MEMORY = ("tile", "optimiser")


def fingerprint(job: Job, *, model: ModelFile) -> str | None:
    """Return a SHA-256 of everything that determines the job's image.

    It covers the bytes of the image files and of the network, the given options that change the
    image, and the version of gramstyle. Jobs with equal fingerprints have the same image, up to
    rounding and the choices of the machine (tiles, a shorter history). Jobs with different
    fingerprints may have the same image too, because two files can contain the same pixels.

    The result is None if a file cannot be read, or if the image to start from or a mask is not a
    file.
    """
    inputs, start = job.inputs, job.options.start
    masks = mask_sources(job.options)
    if ("init" not in inputs and not isinstance(start, str)) or not masks.keys() <= inputs.keys():
        return None
    try:
        files = {role: _file_hash(path) for role, path in inputs.items()}
        files["model"] = _model_hash(model)
    except OSError:
        return None
    options = {k: v for k, v in asdict(job.options).items() if k not in _IRRELEVANT}
    options |= {
        "scales": job.options.scales,
        "engine": job.options.runs_on,
        "init": start if start in STARTS else "a file",
        **mask_values(dict.fromkeys(masks, "a file")),
    }
    text = json.dumps([installed_version(), files, options], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def find_reusable(job: Job, *, model: ModelFile) -> Mapping[str, Any] | None:
    """Return the summary of the run that rendered the job's image, if the image can be reused.

    The result is None if there is no image, if it was rendered in another way, or if it is damaged.
    Raises what `own_settings` and `planned_settings` raise.
    """
    found = own_settings(job)
    if found is None:
        return None
    known = found.get(FINGERPRINT)
    if known is None or known != fingerprint(job, model=model):
        planned = dict(planned_settings(job, model=model))
        for name in _BY_MEMORY:
            if getattr(job.options, name) is None:
                planned[name] = found.get(name)
        if _relevant(found) != _relevant(json.loads(json.dumps(planned))):
            return None
    try:
        image = read_output(job)
    except ImageError:
        return None
    size = found.get("content")
    if size is None:  # a style image may have another size than the result
        if max(image.width, image.height) != job.options.size:
            return None
    elif not isinstance(size, dict) or [size.get("width"), size.get("height")] != [
        image.width,
        image.height,
    ]:
        return None
    result = found.get("result")
    return result if isinstance(result, dict) else {}


def own_settings(job: Job) -> dict[str, Any] | None:
    """Return the settings in the job's image, or None if there is no image.

    Raises a GramstyleError if the file is not an image of this job: it must not be overwritten.
    """
    try:
        if not job.output.exists():
            return None
    except OSError as error:
        raise GramstyleError(f"cannot use {job.output}: {error.strerror}") from None
    settings = read_settings(job.output)
    if settings is None or not job.mark.items() <= settings.items():
        raise ImageError(
            f"{job.output} is not one of this {job.owner}'s images and would be overwritten; move "
            "it away"
        )
    return settings


def read_output(job: Job) -> Image:
    """Read the job's finished image; raises ImageError."""
    return read_image(job.output, max_pixels=max(job.options.max_pixels, job.options.size**2))


def _relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the image depends on: for images their pixels, not their names."""
    named = with_present_names(settings)
    relevant = {name: value for name, value in named.items() if name not in _IRRELEVANT}
    for name, defaults in _ADDED.items():
        if relevant.get(name) in defaults:
            relevant.pop(name, None)
    for name in ("content", "style", "start"):
        described = relevant.get(name)
        if isinstance(described, list):
            relevant[name] = [_unnamed(each) for each in described]
        elif described is not None:
            relevant[name] = _unnamed(described)
    if relevant.get("start") is not None:
        relevant.pop("init", None)  # the name of the image to start from
    masks = relevant.get("masks")
    if isinstance(masks, dict):
        relevant["masks"] = {role: _unnamed(each) for role, each in masks.items()}
        for name in MASK_OPTIONS:  # their names
            relevant.pop(name, None)
    return relevant


def _unnamed(described: object) -> object:
    """Return what an image's settings say, except its name."""
    if not isinstance(described, dict):
        return described
    return {key: value for key, value in described.items() if key != "name"}


def _model_hash(model: ModelFile) -> str:
    if not isinstance(model, OpenModel):
        return _file_hash(model)
    return model.sha256 or _file_hash(model.path)


def _file_hash(path: Path) -> str:
    found = path.stat()
    times = found.st_mtime_ns, found.st_ctime_ns
    return _cached_hash(path, found.st_dev, found.st_ino, found.st_size, *times)


# Many jobs share the network and a style image. A file that changes has other times.
@lru_cache(maxsize=64)
def _cached_hash(path: Path, *_state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
