"""The image that a run writes: the finished one, or the image so far of a run that is stopped."""

import secrets
from pathlib import Path
from typing import Any

from gramstyle.cli.pipes import DASH, FORMAT, shown, write_standard_output
from gramstyle.errors import GramstyleError, ImageError
from gramstyle.images import Image, write_image
from gramstyle.run.plan import RunPlan
from gramstyle.run.records.log import RunLog
from gramstyle.run.transfer import Progress, Result
from gramstyle.system.signals import held_back, stop_message
from gramstyle.system.temporary import temporary_folder


class ImageOutput:
    """The image of a run, which is saved even if an error or a signal ends the run.

    Attributes
    ----------
    latest
        The progress after the latest iteration.
    """

    def __init__(self, path: Path, plan: RunPlan, *, resumed: bool) -> None:
        self.latest: Progress | None = None
        self._path, self._settings, self._resumed = path, plan.settings.to_json(), resumed
        self._encoding = plan.encoding
        self._ended = self._saved = False

    @property
    def finished(self) -> bool:
        """Whether the finished image is saved."""
        return self._ended and self._saved

    def finish(self, result: Result, log: RunLog) -> None:
        """Save the finished image, then end the log; raises an error if one of them fails."""
        with held_back():
            self._ended = True
            self._save(result.rendered, result.record.summary)
            log.end(result.record.summary)

    def numbered(self, progress: Progress) -> None:
        """Save the image of an iteration under its number."""
        path = numbered(self._path, progress.losses.iteration)
        self._write(path, progress.rendered(), self._settings)

    def stopped(self, stop: BaseException) -> BaseException:
        """Save the image so far, unless the finished one is saved.

        Returns
        -------
        BaseException
            An exception like the one that stopped the run, with a message that names the image. If
            it is a bug, the exception itself, with a note.
        """
        if self._ended and not self._saved:  # the finished image could not be saved, as `stop` says
            return stop
        if self._ended:
            return with_sentence(stop, f"The finished image is in {shown(self._path)}")
        if self.latest is None:
            what = "another" if self._resumed else "the first"
            return with_sentence(stop, f"Nothing was written: {what} iteration was not complete")
        losses, scale = self.latest.losses, self.latest.scale
        summary = {"iterations": losses.iteration, "loss": losses.loss, "reason": _reason(stop)}
        try:
            with held_back():
                self._save(self.latest.rendered(), summary)
        except KeyboardInterrupt:  # was held back; the run is being stopped anyway
            if not self._saved:
                raise
        size = ""
        if scale.number + 1 < self.latest.scales:
            size = f", {scale.width}×{scale.height} pixels,"
        where = shown(self._path)
        return with_sentence(stop, f"The image of iteration {losses.iteration}{size} is in {where}")

    def _save(self, image: Image, summary: dict[str, Any]) -> None:
        """Write an image; if that fails, write it to the folder for temporary files."""
        settings = {**self._settings, "result": summary}
        try:
            if self._path == DASH:
                write_standard_output(image, settings, self._encoding)
            else:
                self._write(self._path, image, settings)
        except ImageError as error:
            spare = self._save_elsewhere(image, settings)
            if spare is None:
                raise
            raise ImageError(f"{error} (the image was saved as {spare})") from None
        self._saved = True

    def _save_elsewhere(self, image: Image, settings: dict[str, Any]) -> Path | None:
        name = Path("gramstyle").with_suffix(FORMAT) if self._path == DASH else self._path
        try:
            spare = temporary_folder() / f"{name.stem}-{secrets.token_hex(4)}{name.suffix}"
            self._write(spare, image, settings)
        except GramstyleError:  # there may be no folder for temporary files
            return None
        return spare

    def _write(self, path: Path, image: Image, settings: dict[str, Any]) -> None:
        write_image(path, image, settings=settings, encoding=self._encoding)


def numbered(path: Path, iteration: int) -> Path:
    """Return the path of the image of an iteration."""
    return path.with_name(f"{path.stem}-{iteration:04d}{path.suffix}")


def with_sentence(stop: BaseException, sentence: str) -> BaseException:
    """Return an exception of the same type, with a sentence added to its message."""
    text = f"{_reason(stop)}. {sentence}"
    if isinstance(stop, MemoryError):  # NumPy's takes a shape and a type instead of a message
        return MemoryError(text)
    if isinstance(stop, (GramstyleError, KeyboardInterrupt)):
        return type(stop)(text)
    stop.add_note(sentence)
    return stop


def _reason(stop: BaseException) -> str:
    if isinstance(stop, KeyboardInterrupt):
        return stop_message(stop)
    if isinstance(stop, MemoryError):
        return "there is not enough memory; choose a smaller --size"
    return str(stop) or type(stop).__name__
