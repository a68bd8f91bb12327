"""Prepare the scales of a run: compute the targets, and make the objective and the start."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Evaluation
from gramstyle.core.objective import Objective
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.protection import Protection
from gramstyle.engines.cuda.device import Device
from gramstyle.engines.registry import Engine, LossAndGradient, open_engine
from gramstyle.engines.spec import ObjectiveSpec
from gramstyle.errors import OptionError
from gramstyle.images import Source
from gramstyle.model import Model
from gramstyle.optimise.lbfgsb import Pairs, PairsInMemory, PairsOnDisk, pairs_on_host
from gramstyle.run.colours import Finishing, finishing_of, in_colours
from gramstyle.run.inputs import ScaleImages, Styles
from gramstyle.run.open_model import ModelSource
from gramstyle.run.options import Options, options_or_default
from gramstyle.run.plan import RunPlan, ScalePlan, plan_run
from gramstyle.run.prepare.starts import image_of_iterate, start_of
from gramstyle.run.prepare.targets import (
    guides_of,
    protection_of,
    samples_of,
    terms_in_tiles,
    terms_whole,
)
from gramstyle.run.settings import RunSettings
from gramstyle.system.temporary import scratch_folder
from gramstyle.tiling import SpillStore, TiledObjective, Tiling
from gramstyle.tiling.budget import on_disk
from gramstyle.tiling.objective import stored_targets
from gramstyle.tiling.spill import scratch_space

if TYPE_CHECKING:
    from gramstyle.cluster.client import Cluster


@dataclass(frozen=True)
class Prepared:
    """A scale that is ready to be optimised: everything is read, checked and in memory.

    Attributes
    ----------
    objective
        Equation 7 for these images. In tiles it lacks the targets with one entry per position. It
        protects no part of the image.
    loss_and_gradient
        The function that the optimiser calls: the objective's own, or one with the same result.
    scale
        The plan of the scale.
    read_start
        Returns `start`.
    pairs
        Makes the store of L-BFGS-B's history.
    settings
        The settings that a record names.
    finishing
        What an iterate lacks to be an image.
    protection
        The protected part of the content image, if there is one.
    """

    objective: Objective
    loss_and_gradient: LossAndGradient
    scale: ScalePlan
    read_start: Callable[[], Array]
    pairs: Callable[[], Pairs]
    settings: RunSettings
    finishing: Finishing
    protection: Protection | None = None

    @property
    def options(self) -> Options:
        """The options, with the choices for this scale filled in."""
        return self.scale.options

    @property
    def start(self) -> Array:
        """The first x (3, H, W), RGB, 0..255, on the GPU if the optimiser runs there.

        Its dtype is float32, or float64 for SciPy's optimiser. In tiles each access returns a new
        array.
        """
        return self.read_start()

    def image(self, x: Array) -> Array:
        """Return the image (3, H, W) of an iterate, with the protected part of the photograph."""
        return x if self.protection is None else self.protection.image(x)

    def whole(self, purpose: str) -> Objective:
        """Return the objective, for a purpose that needs the image whole.

        Raises
        ------
        OptionError
            If the image is computed in tiles; names the purpose.
        """
        if self.options.tile is not None or self.options.on_cluster:
            raise OptionError(f"{purpose} needs the image whole; choose a smaller --size")
        return self.objective


@contextmanager
def prepare(
    content: Source | None,
    style: Styles | None,
    options: Options | None = None,
    *,
    model: ModelSource | None = None,
    notify: Callable[[str], None] | None = None,
) -> Iterator[Prepared]:
    """Plan and prepare a run of one scale; parameters and errors are those of `plan_run`.

    Yields
    ------
    Prepared
        The scale. Its cluster, its temporary files and what is stored on workers end with the
        block.

    Raises
    ------
    RuntimeMissingError
        If the engine is not installed.
    """
    options = replace(options_or_default(options), scales=1)
    plan = plan_run(content, style, options, model=model, notify=notify)
    with RunResources(plan) as resources, resources.prepare(0) as prepared:
        yield prepared


class RunResources:
    """Prepares the scales of a run one after the other, with its engine or its cluster.

    Parameters
    ----------
    plan
        The plan. Its images are released once their targets are computed, its model once the
        engine has the weights.
    """

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._stack = ExitStack()
        self._engine: tuple[Engine, Preprocessing] | None = None
        self._cluster: Cluster | None = None
        self._model: Model | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()  # the cluster, if there is one

    @contextmanager
    def prepare(
        self, number: int, start: Array | None = None, *, history: int | None = None
    ) -> Iterator[Prepared]:
        """Compute the targets of a scale and compose its objective.

        Parameters
        ----------
        number
            The scale; each can be prepared once, in ascending order.
        start
            The x (3, h, v) to start from, of another size; None starts as the options say.
        history
            How many pairs L-BFGS-B's history has; None is the plan's choice.

        Yields
        ------
        Prepared
            The scale. Its temporary files and what is stored on workers end with the block.

        Raises
        ------
        RuntimeMissingError, ModelError, OptionError
            If the engine is not installed, or does not accept the model; if there is no room on
            disk for what does not fit into memory; if there is no cluster.
        """
        with ExitStack() as stack:
            prepared = self._prepare(stack, number, start, history)
            del start  # it would stay in memory until the end of the block
            yield prepared

    def _prepare(
        self, stack: ExitStack, number: int, start: Array | None, history: int | None
    ) -> Prepared:
        """Prepare a scale; what must be closed at its end goes to the stack."""
        scale, images = self._plan.scales[number], self._plan.inputs.take_images(number)
        finishing = finishing_of(images, scale.options)
        images = in_colours(images, scale.options)
        if history is not None:
            options = replace(scale.options, history=history)
            scale = replace(scale, options=options, layout=replace(scale.layout, history=history))
        if start is not None:
            images = replace(images, custom=image_of_iterate(start, images.canvas, scale.options))
        prepared = self._unprotected(stack, scale, images, finishing)
        protection = protection_of(images)
        if protection is None:
            return prepared
        evaluate = protection.around(prepared.loss_and_gradient)
        return replace(prepared, loss_and_gradient=evaluate, protection=protection)

    def _unprotected(
        self, stack: ExitStack, scale: ScalePlan, images: ScaleImages, finishing: Finishing
    ) -> Prepared:
        """Prepare a scale that protects no part of the image."""
        if scale.options.on_cluster:
            return self._on_cluster(stack, scale, images, finishing)
        engine, preprocessing = self._opened(scale.spec)
        if scale.spec.edge is None:
            return self._whole(scale, images, finishing, engine, preprocessing)
        return self._in_tiles(stack, scale, images, finishing, engine, preprocessing)

    def _opened(self, spec: ObjectiveSpec) -> tuple[Engine, Preprocessing]:
        """Return the engine, and the preprocessing of its model, which is released."""
        if self._engine is None:
            model = self._plan.inputs.take_model()
            engine = open_engine(spec, model, self._plan.inputs.cache)
            self._engine = engine, model.preprocessing
        return self._engine

    def _whole(
        self,
        scale: ScalePlan,
        images: ScaleImages,
        finishing: Finishing,
        engine: Engine,
        preprocessing: Preprocessing,
    ) -> Prepared:
        by_scipy = scale.options.minimises_by == "scipy"
        dtype = np.float64 if by_scipy else np.float32
        start = start_of(scale, images, dtype)
        terms = terms_whole(engine, preprocessing, scale.spec, images, dtype)
        objective = engine.objective(scale.spec, preprocessing, terms)
        loss_and_gradient: LossAndGradient = objective.loss_and_gradient
        if engine.compiled is not None:
            loss_and_gradient = engine.compiled(objective, *start.shape[1:])
        elif engine.device is not None and by_scipy:
            loss_and_gradient = partial(_from_host, objective, engine.device)
        elif engine.device is not None:
            start = engine.device.to_device(start)
        return self._prepared(
            scale,
            finishing,
            objective,
            loss_and_gradient,
            read_start=lambda: start,
            pairs=partial(_pairs, scale),
        )

    def _in_tiles(
        self,
        stack: ExitStack,
        scale: ScalePlan,
        images: ScaleImages,
        finishing: Finishing,
        engine: Engine,
        preprocessing: Preprocessing,
    ) -> Prepared:
        spec = scale.spec
        assert spec.edge is not None  # noqa: S101 - it has tiles
        tiling = Tiling(engine.network, spec.height, spec.width, spec.edge)
        spill = stack.enter_context(SpillStore(memory=spec.spill_memory))
        terms = terms_in_tiles(engine, preprocessing, spec, images, spill)
        objective = engine.objective(spec, preprocessing, terms)
        stored = on_disk(scale.layout, tiling, recalls=engine.recall is not None)
        tiled = TiledObjective(
            objective=objective,
            tiling=tiling,
            targets=stored_targets(terms, spill),
            # Without room for the results of pass 1, pass 2 computes them again.
            recall=engine.recall if stored <= scratch_space() else None,
            spill=spill,
            place=None if engine.device is None else engine.device.to_device,
        )
        return self._tiled(
            stack, scale, images, finishing, objective, tiled.loss_and_gradient, spill
        )

    def _on_cluster(
        self, stack: ExitStack, scale: ScalePlan, images: ScaleImages, finishing: Finishing
    ) -> Prepared:
        from gramstyle.cluster.objective import cluster_objective  # for runs on a cluster only
        from gramstyle.cluster.opening import open_cluster

        options = scale.options
        if self._cluster is None:
            self._model = self._plan.inputs.take_model()
            self._cluster = self._stack.enter_context(
                open_cluster(
                    scheduler=options.scheduler, workers=options.workers, threads=options.threads
                )
            )
        assert self._model is not None  # noqa: S101 - set with the cluster
        spec = replace(scale.spec, threads=self._cluster.threads)
        network = spec.network(self._model)
        samples, guides = samples_of(images, network, spec), guides_of(images, network, spec)
        there = cluster_objective(self._cluster, spec, self._model, samples, guides)
        stack.callback(there.close)
        spill = stack.enter_context(SpillStore(memory=scale.layout.spill_memory))
        return self._tiled(
            stack, scale, images, finishing, there.objective, there.loss_and_gradient, spill
        )

    def _tiled(
        self,
        stack: ExitStack,
        scale: ScalePlan,
        images: ScaleImages,
        finishing: Finishing,
        objective: Objective,
        loss_and_gradient: LossAndGradient,
        spill: SpillStore,
    ) -> Prepared:
        """Put the start into the spill store, and the history into memory or a file."""
        start = start_of(scale, images, np.float32)
        shape, layout = start.shape, scale.layout
        spill.put("start", [start])
        del start

        def read_start() -> Array:
            start: Array = np.empty(shape, np.float32)
            spill.take("start", [start])
            return start

        def pairs() -> Pairs:
            if layout.history_in_memory:
                return _pairs(scale)
            return stack.enter_context(PairsOnDisk(layout.history, folder=scratch_folder()))

        return self._prepared(
            scale, finishing, objective, loss_and_gradient, read_start=read_start, pairs=pairs
        )

    def _prepared(
        self,
        scale: ScalePlan,
        finishing: Finishing,
        objective: Objective,
        loss_and_gradient: LossAndGradient,
        *,
        read_start: Callable[[], Array],
        pairs: Callable[[], Pairs],
    ) -> Prepared:
        return Prepared(
            objective=objective,
            loss_and_gradient=loss_and_gradient,
            scale=scale,
            read_start=read_start,
            pairs=pairs,
            settings=self._plan.settings,
            finishing=finishing,
        )


def _pairs(scale: ScalePlan) -> Pairs:
    """Return an empty history in the memory where the optimiser runs."""
    if scale.options.device == "cuda":
        return PairsInMemory(scale.layout.history)
    return pairs_on_host(scale.layout.history, threads=scale.spec.thread_count)


def _from_host(objective: Objective, device: Device, x: Array) -> Evaluation:
    """Evaluate on a GPU for an optimiser that runs on the host."""
    evaluation = objective.loss_and_gradient(device.to_device(x))
    return replace(evaluation, gradient=device.to_host(evaluation.gradient))
