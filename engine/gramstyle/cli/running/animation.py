"""The animation of a run that `--record` asks for, which is saved however the run ends."""

from pathlib import Path

import PIL.Image

from gramstyle.cli.running.image import with_sentence
from gramstyle.errors import GramstyleError
from gramstyle.images.animation import Animation
from gramstyle.run.plan import RunPlan
from gramstyle.run.transfer import Progress
from gramstyle.system.signals import held_back


class AnimationOutput:
    """The animation of a run: its iterates, then its result; nothing if the path is None."""

    def __init__(self, path: Path | None, plan: RunPlan) -> None:
        self._saved = False
        self._animation = (
            None if path is None else Animation(path, plan.last.width, plan.last.height)
        )

    def add(self, progress: Progress) -> None:
        """Add the iterate of an iteration."""
        if self._animation is not None:
            self._animation.add(progress.image())

    def finish(self, image: PIL.Image.Image) -> None:
        """Add the result and write the file; raises ImageError if that fails."""
        if self._animation is None:
            return
        with held_back():
            self._animation.add(image)
            self._saved = True  # tried only once
            self._animation.save()

    def stopped(self, stop: BaseException) -> BaseException:
        """Write the iterates so far of a run that `stop` ends; return what to raise instead."""
        animation = self._animation
        if animation is None or animation.empty or self._saved:
            return stop
        try:
            with held_back():
                animation.save()
                self._saved = True
        except GramstyleError as error:
            return with_sentence(stop, f"The animation was lost: {error}")
        except KeyboardInterrupt:  # was held back; the run is being stopped anyway
            if not self._saved:
                raise
        return with_sentence(stop, f"The animation so far is in {animation.path}")
