"""Tiles: loss and gradient are the whole image's, to rounding."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import tiny_convolutions
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.core.evaluation import Sums
from gramstyle.core.kernels import PlainKernels, Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.network import Network, Pool
from gramstyle.core.objective import Objective
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.term import Reference
from gramstyle.core.terms import without_targets
from gramstyle.core.wrapping import check_wraps
from gramstyle.engines.cuda.kernels import DeviceKernels
from gramstyle.engines.registry import ENGINES, Engine, open_engine
from gramstyle.engines.strips import StripKernels
from gramstyle.errors import ImageError, NonFiniteError, OptionError
from gramstyle.model import Model
from gramstyle.model.architecture import VGGS
from gramstyle.system.temporary import scratch_folder
from gramstyle.tiling import SpillStore, TiledObjective, Tiling
from gramstyle.tiling.areas import reach
from gramstyle.tiling.budget import (
    FIXED,
    PAIR,
    START,
    TARGETS,
    VECTORS,
    Layout,
    choose_layout,
    on_disk,
)
from gramstyle.tiling.objective import add_tiled_targets, stored_targets, tree_sum
from objectives import ContentTarget, Weights, composed, recomposed, spec_of, style_targets

CONTENT = "conv4_2"
PREPROCESSING = Preprocessing("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
WEIGHTS = Weights(1e-3, 1.0, dict.fromkeys(STYLE_LAYERS, 0.2))

# Height, width, edge: odd sizes, one row of tiles, tiles smaller than the halo, one tile.
SHAPES = [(100, 117, 48), (16, 300, 32), (161, 97, 16), (97, 33, 1000), (203, 190, 80)]


def network(kind: Pooling) -> Network:
    layers, convolutions = [], iter(tiny_convolutions())
    for number, filters in enumerate(VGGS["VGG-19"].blocks, start=1):
        layers += [next(convolutions) for _ in filters]
        layers.append(Pool(f"pool{number}", kind))
    return Network(tuple(layers)).until(["conv5_1"]).astype(np.float64)


def both(
    net: Network,
    images: tuple[Array, Array],
    edge: int,
    *,
    engine: Engine | None = None,
    spill: SpillStore | None = None,
    tv: float = 0.0,
    wraps: bool = False,
) -> tuple[Objective, TiledObjective]:
    """The whole image's objective, and the tiles'; targets computed each in its own way."""
    p, a = images
    if engine is None:
        engine = Engine(net, net.forward, PlainKernels())
    style = style_targets(
        engine.forward(PREPROCESSING.forward(a)), STYLE_LAYERS, kernels=engine.kernels
    )
    P = engine.forward(PREPROCESSING.forward(p))[CONTENT].copy(order="K")
    whole = composed(
        network=engine.network,
        preprocessing=PREPROCESSING,
        content=ContentTarget(CONTENT, P),
        style=style,
        weights=WEIGHTS,
        tv=tv,
        wraps=wraps,
        forward=engine.forward,
        kernels=engine.kernels,
        backward=engine.backward,
    )
    return whole, in_tiles(whole, images, edge, engine=engine, spill=spill)


def in_tiles(
    whole: Objective,
    images: tuple[Array, Array],
    edge: int,
    *,
    engine: Engine,
    spill: SpillStore | None = None,
) -> TiledObjective:
    """The same objective in tiles, with targets from the tiles of the images."""
    terms, targets = without_targets(whole.terms), SpillStore(memory=2000)
    tilings = [Tiling(engine.network, *image.shape[1:], edge) for image in images]
    references: tuple[Reference, Reference] = ("content", "style")
    for reference, pixels, tiling in zip(references, images, tilings, strict=True):
        terms = add_tiled_targets(engine, PREPROCESSING, terms, reference, pixels, tiling, targets)
    return TiledObjective(
        objective=replace(whole, terms=terms),
        tiling=tilings[0],
        targets=stored_targets(terms, targets),
        recall=engine.recall,
        spill=spill,
    )


def opened(name: str, model: Model, kind: Pooling) -> tuple[Network, Engine]:
    """The network and the engine for the content and style layers."""
    spec = spec_of(model, engine=name, content=CONTENT, style=WEIGHTS.w, pooling=kind, threads=2)
    return spec.network(model), open_engine(spec, model)


def images(rng: np.random.Generator, H: int, W: int) -> tuple[Array, tuple[Array, Array]]:
    x, p = (rng.uniform(0, 255, (3, H, W)) for _ in range(2))
    return x, (p, rng.uniform(0, 255, (3, 90, 70)))


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize(("H", "W", "edge"), SHAPES)
def test_in_float64_tiles_equal_the_whole_to_rounding(
    kind: Pooling, H: int, W: int, edge: int, rng: np.random.Generator
) -> None:
    x, targets = images(rng, H, W)
    whole, tiled = both(network(kind), targets, edge)
    expected, found = whole.loss_and_gradient(x), tiled.loss_and_gradient(x)
    # 1e-12: sums of up to 30,000 terms in another order, each to 1e-16.
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert found.terms["content"] == pytest.approx(expected.terms["content"], rel=1e-12)
    for layer in STYLE_LAYERS:
        assert found.layers["style"][layer] == pytest.approx(
            expected.layers["style"][layer], rel=1e-12
        )
    difference = np.linalg.norm(found.gradient - expected.gradient)
    assert difference < 1e-12 * np.linalg.norm(expected.gradient)


@pytest.mark.parametrize(("H", "W", "edge"), [(100, 117, 48), (97, 33, 1000)])
def test_in_float64_total_variation_in_tiles_equals_the_whole_to_rounding(
    H: int, W: int, edge: int, rng: np.random.Generator
) -> None:
    x, targets = images(rng, H, W)
    whole, tiled = both(network("avg"), targets, edge, tv=0.05)
    expected, found = whole.loss_and_gradient(x), tiled.loss_and_gradient(x)
    without = replace(whole, weights={**whole.weights, "tv": 0.0}).loss_and_gradient(x)
    # It counts: more than a thousandth of the loss, and of the gradient.
    assert expected.loss - without.loss > 1e-3 * expected.loss
    difference = np.linalg.norm(expected.gradient - without.gradient)
    assert difference > 1e-3 * np.linalg.norm(expected.gradient)
    # As above.
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert found.terms == pytest.approx(expected.terms, rel=1e-12)
    difference = np.linalg.norm(found.gradient - expected.gradient)
    assert difference < 1e-12 * np.linalg.norm(expected.gradient)


# Windows that wrap at one edge, at both, around a corner, and windows of a whole edge.
WRAPPING = [(224, 240, 48), (96, 256, 32), (64, 80, 32)]


@pytest.mark.parametrize(
    ("padding", "H", "W", "edge"),
    [
        *(("circular", *shape) for shape in WRAPPING),
        ("replicate", 131, 150, 48),
        ("reflect", 131, 150, 48),
        ("reflect", 37, 200, 48),
    ],
)
def test_with_each_padding_tiles_equal_the_whole_to_rounding(
    padding: Padding, H: int, W: int, edge: int, rng: np.random.Generator
) -> None:
    x, p = (rng.uniform(0, 255, (3, H, W)) for _ in range(2))
    a = rng.uniform(0, 255, (3, 96, 64))
    net = network("avg").padded_by(padding)
    whole, tiled = both(net, (p, a), edge, tv=0.05, wraps=padding == "circular")
    expected, found = whole.loss_and_gradient(x), tiled.loss_and_gradient(x)
    # 1e-12: as above.
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert found.terms == pytest.approx(expected.terms, rel=1e-12)
    difference = np.linalg.norm(found.gradient - expected.gradient)
    assert difference < 1e-12 * np.linalg.norm(expected.gradient)


@pytest.mark.parametrize("name", ["numpy", "winograd"])
def test_a_fast_engine_s_tiles_that_wrap_equal_its_whole_image(
    tiny_model: Model, name: str, rng: np.random.Generator
) -> None:
    x, targets = rng.uniform(0, 255, (3, 224, 240)), rng.uniform(0, 255, (2, 3, 224, 240))
    spec = spec_of(
        tiny_model, engine=name, content=CONTENT, style=WEIGHTS.w, padding="circular", threads=2
    )
    engine = open_engine(spec, tiny_model)
    whole, tiled = both(
        spec.network(tiny_model), targets, 64, engine=engine, spill=SpillStore(memory=100_000)
    )
    expected = whole.loss_and_gradient(x)
    gradient = expected.gradient.copy()
    found = tiled.loss_and_gradient(x)
    # As above, without flips.
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert np.linalg.norm(found.gradient - gradient) < 2e-3 * np.linalg.norm(gradient)


def test_an_image_that_does_not_wrap_cannot_be_tiled_and_the_next_size_that_can_is_named() -> None:
    wrapping = network("avg").padded_by("circular")
    with pytest.raises(
        ImageError, match=r"130×128 pixels does not wrap at layer .* multiples of 16 .* 144×128$"
    ):
        Tiling(wrapping, 128, 130, 48)
    check_wraps(wrapping, 128, 144)


def test_across_the_borders_of_tiles_the_gradient_differs_no_more_than_elsewhere(
    rng: np.random.Generator,
) -> None:
    x, targets = images(rng, 128, 144)
    whole, tiled = both(network("max"), targets, 48)
    expected = whole.loss_and_gradient(x).gradient
    difference = np.abs(tiled.loss_and_gradient(x).gradient - expected)
    at_border = np.zeros(x.shape[1:], bool)
    for tile in tiled.tiling:
        rows, columns = tile.core
        at_border[rows.start] = at_border[:, columns.start] = True
    # Rounding alone: 1e-12 of the largest entry.
    assert difference[:, at_border].max() < 1e-12 * np.abs(expected).max()


def test_a_halo_one_stride_too_small_is_seen(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, targets = images(rng, 160, 176)
    monkeypatch.setattr(Tiling, "halo", 48)
    whole, tiled = both(network("avg"), targets, 32)
    expected, found = whole.loss_and_gradient(x).gradient, tiled.loss_and_gradient(x).gradient
    assert np.linalg.norm(found - expected) > 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("name", ["numpy", "winograd"])
def test_a_fast_engine_s_tiles_equal_its_whole_image(
    tiny_model: Model, name: str, kind: Pooling, rng: np.random.Generator
) -> None:
    H, W = 133, 150
    x, targets = images(rng, H, W)
    net, engine = opened(name, tiny_model, kind)
    whole, tiled = both(net, targets, 64, engine=engine, spill=SpillStore(memory=100_000))
    expected = whole.loss_and_gradient(x)
    gradient = expected.gradient.copy()
    found = tiled.loss_and_gradient(x)
    # Windows of another size are summed in another order: to 1e-6 in float32, of which G − A, a
    # difference, makes a multiple. For the gradient a few ReLUs and maxima flip besides.
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert np.linalg.norm(found.gradient - gradient) < 2e-3 * np.linalg.norm(gradient)


def test_stored_responses_give_the_same_bits_as_responses_that_are_computed_again(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    x, targets = images(rng, 133, 150)
    net, engine = opened("winograd", tiny_model, "max")
    assert engine.recall is not None
    _, again = both(net, targets, 48, engine=replace(engine, recall=None))
    expected = again.loss_and_gradient(x)
    for memory in (0, 200_000, 10**9):  # all in a file, some of it, none
        _, stored = both(net, targets, 48, engine=engine, spill=SpillStore(memory=memory))
        for _ in range(2):  # the second time over what is there
            found = stored.loss_and_gradient(x)
            assert found.loss == expected.loss
            assert np.array_equal(found.gradient, expected.gradient)


@pytest.mark.parametrize("method", ["put", "take"])
def test_an_error_of_the_spill_thread_reaches_the_caller(
    method: str, tiny_model: Model, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, targets = images(rng, 133, 150)
    net, engine = opened("winograd", tiny_model, "max")
    _, tiled = both(net, targets, 64, engine=engine, spill=SpillStore(memory=10**9))

    def full(*_: object) -> None:
        raise OptionError("the disk is full")

    plainly = getattr(SpillStore, method)

    def of_tiles(store: SpillStore, key: object, arrays: Any) -> None:
        (plainly if isinstance(key, tuple) else full)(store, key, arrays)

    monkeypatch.setattr(SpillStore, method, of_tiles)
    with pytest.raises(OptionError, match="the disk is full"):
        tiled.loss_and_gradient(x)


@pytest.mark.parametrize("left_out", [{"style": {}}, {"content": None}], ids=["style", "content"])
def test_style_or_content_alone_can_be_tiled(
    left_out: dict[str, Any], rng: np.random.Generator
) -> None:
    x, targets = images(rng, 70, 90)
    whole, _ = both(network("avg"), targets, 32)
    alone = recomposed(whole, **left_out, forward=None)
    net = alone.network.until(alone.layers)  # without style it ends earlier
    parts = in_tiles(alone, targets, 32, engine=Engine(net, net.forward, PlainKernels()))
    expected, found = alone.loss_and_gradient(x), parts.loss_and_gradient(x)
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    # As above.
    np.testing.assert_allclose(
        found.gradient, expected.gradient, rtol=0, atol=1e-12 * np.abs(expected.gradient).max()
    )


def test_a_tile_whose_responses_are_not_finite_names_the_layer(rng: np.random.Generator) -> None:
    x, targets = images(rng, 64, 64)
    _, tiled = both(network("avg"), targets, 32)
    x[1, 40, 40] = np.inf
    with np.errstate(invalid="ignore"), pytest.raises(NonFiniteError, match="layer conv1_1"):
        tiled.loss_and_gradient(x)


@pytest.mark.parametrize("make", [PlainKernels, lambda: StripKernels(2), DeviceKernels])
def test_an_owned_area_counts_alone(make, rng: np.random.Generator) -> None:  # type: ignore[no-untyped-def]
    F = np.maximum(rng.standard_normal((5, 20, 30)), 0).astype(np.float32)
    dF = rng.standard_normal(F.shape).astype(np.float32)
    A, M, owned = np.eye(5), 999, (slice(3, 17), slice(0, 11))
    here = F[:, 3:17, :11].astype(np.float64)
    P = rng.standard_normal(here.shape).astype(np.float32)
    kernels = make()
    G = np.einsum("ihv,jhv->ij", here, here)
    # 1e-4: float32 sums of 150 terms.
    np.testing.assert_allclose(kernels.gram(F, owned), G, rtol=1e-4, atol=1e-4)
    style = np.zeros(F.shape)
    style[:, 3:17, :11] = 1e5 * np.einsum("ij,jhv->ihv", G - A, here) / (25 * M**2)
    content = np.zeros(F.shape)
    content[:, 3:17, :11] = 2.0 * (here - P)
    for before in (None, dF):
        expected = 0 if before is None else before
        copy = None if before is None else before.copy()
        found = kernels.add_style_gradient(copy, F, G, A, M, 1e5, owned)
        open_ = F > 0  # the mask is left to the ReLU
        np.testing.assert_allclose(found * open_, (expected + style) * open_, rtol=1e-4, atol=1e-4)
        copy = None if before is None else before.copy()
        found = kernels.add_content_gradient(copy, F, P, 2.0, owned)
        np.testing.assert_allclose(
            found * open_, (expected + content) * open_, rtol=1e-4, atol=1e-4
        )


# Areas


@pytest.mark.parametrize(("H", "W", "edge"), SHAPES)
def test_every_position_of_every_layer_belongs_to_one_tile(H: int, W: int, edge: int) -> None:
    net = network("max")
    tiles = Tiling(net, H, W, edge)
    for name, (_, h, v) in net.shapes(H, W).items():
        owners = np.zeros((h, v), int)
        below = net.layers[: net.names.index(name) + 1]
        stride = 2 ** sum(isinstance(layer, Pool) for layer in below)
        for tile in tiles:
            top, left = (window.start // stride for window in tile.window)
            rows, columns = tile.owned[name]
            owners[
                top + rows.start : top + rows.stop, left + columns.start : left + columns.stop
            ] += 1
        assert (owners == 1).all()


def test_conv5_1_sees_seventy_pixels_around_and_windows_take_eighty() -> None:
    net = network("max")
    assert reach(net) == 70
    assert Tiling(net, 500, 500, 100).halo == 80
    assert Tiling(net.until(["conv1_1"]), 500, 500, 100).halo == 1


def test_cores_share_the_image_evenly_and_a_tile_is_found_by_its_index() -> None:
    tiles = Tiling(network("max"), 300, 1000, 256)
    assert len(tiles) == len(list(tiles)) == 8
    assert [tiles[i] for i in range(8)] == list(tiles)
    widths = {tile.core[1].stop - tile.core[1].start for tile in tiles}
    assert widths <= {240, 248, 256, 264, 280}
    windows = [
        (t.window[0].stop - t.window[0].start) * (t.window[1].stop - t.window[1].start)
        for t in tiles
    ]
    assert tiles.window_pixels() == sum(windows)
    assert max(windows) <= np.prod(tiles.largest_window())


def test_a_tile_too_small_for_the_network_is_refused_with_the_smallest_that_will_do() -> None:
    with pytest.raises(OptionError, match=r"tiles of 15 pixels .* conv5_1.* at least 16"):
        Tiling(network("max"), 100, 100, 15)
    with pytest.raises(ImageError, match="too small"):
        Tiling(network("max"), 8, 100, 16)


# Sums, spill files, budget


def test_sums_are_added_in_an_order_that_depends_on_their_number_alone() -> None:
    class Named(str):
        def __add__(self, other: str) -> "Named":
            return Named(f"({self}{other})".replace("'", ""))

    total = tree_sum(Sums((Named(letter),)) for letter in "abcdefg")
    assert total.parts == ("(((ab)(cd))((ef)g))",)
    assert tree_sum(Sums((float(number),)) for number in range(6)).parts == (15.0,)


def test_a_spill_store_returns_the_last_arrays_from_memory_and_from_a_file(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    store = SpillStore(memory=1000, folder=tmp_path)
    kept: Mapping[int, list[Array]] = {
        key: [rng.standard_normal(50), rng.integers(0, 9, 100).astype(np.uint8)] for key in range(5)
    }
    for _ in range(2):
        for key, arrays in kept.items():
            for array in arrays:
                array += 1
            store.put(key, arrays)
        for key in (3, 0, 4, 1, 2):
            found = [np.empty_like(array) for array in kept[key]]
            store.take(key, found)
            assert all(map(np.array_equal, found, kept[key]))
    store.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")  # noqa: PTH110
def test_a_full_disk_is_one_line_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "wb", buffering=0))  # noqa: PTH123, SIM115
    store = SpillStore(memory=0, folder=tmp_path)
    with pytest.raises(OptionError, match=r"in .*the disk is full.*TMPDIR") as error:
        store.put(1, [np.zeros(100_000)])
    assert str(tmp_path) in str(error.value)
    store.close()


def test_large_temporary_files_go_where_tmpdir_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert scratch_folder() == tmp_path
    monkeypatch.delenv("TMPDIR")
    if sys.platform == "linux":
        assert scratch_folder() == Path("/var/tmp")  # noqa: S108 - as it says


AMPLE = 10**12


def test_a_small_image_is_computed_whole_and_a_large_one_in_the_largest_tiles_that_fit() -> None:
    net = network("max")
    assert (
        choose_layout(
            net, 512, 512, engine="winograd", memory=2 * 10**9, history=10, disk=AMPLE
        ).edge
        is None
    )
    wide = choose_layout(
        net, 3072, 4096, engine="winograd", memory=6 * 10**9, history=10, disk=AMPLE
    )
    narrow = choose_layout(
        net, 3072, 4096, engine="winograd", memory=3 * 10**9, history=10, disk=AMPLE
    )
    assert wide.edge is not None
    assert narrow.edge is not None
    assert 1000 < narrow.edge < wide.edge <= 2048
    assert wide.history_in_memory is False or PAIR * 10 * 3072 * 4096 < 3 * 10**9


def test_all_parts_of_a_layout_are_within_its_budget() -> None:
    net = network("max")
    for memory in (2 * 10**9, 3 * 10**9, 8 * 10**9, 20 * 10**9):
        fitted = choose_layout(
            net, 3072, 4096, engine="winograd", memory=memory, history=10, disk=AMPLE
        )
        pixels, tiles = 3072 * 4096, Tiling(net, 3072, 4096, fitted.edge or 4096)
        pairs = PAIR * pixels * 10 * fitted.history_in_memory
        window = ENGINES["winograd"].bytes_per_pixel * int(np.prod(tiles.largest_window()))
        assert FIXED + VECTORS * pixels + pairs + window + fitted.spill_memory <= memory
        if fitted.history_in_memory and fitted.spill_memory > 10**10:
            assert on_disk(fitted, tiles, recalls=True) == 0


def test_a_budget_that_cannot_be_met_names_the_smallest_that_can() -> None:
    net = network("max")
    arguments = {"engine": "winograd", "history": 10, "disk": AMPLE}
    with pytest.raises(OptionError, match=r"1\.0GB .*4096×3072.*--memory .* 1\.\dGB") as error:
        choose_layout(net, 3072, 4096, memory=10**9, **arguments)  # type: ignore[arg-type]
    named = float(str(error.value).rsplit(" ", 1)[1].removesuffix("GB"))
    assert choose_layout(net, 3072, 4096, memory=int(named * 1e9), **arguments).edge is not None  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="engine onnx cannot compute tiles"):
        choose_layout(net, 3072, 4096, memory=10**9, engine="onnx", history=10, disk=AMPLE)


def test_the_history_is_as_long_as_memory_or_disk_have_room_for() -> None:
    net, pixels = network("max"), 3072 * 4096

    def fitted(memory: int, disk: int) -> Layout:
        return choose_layout(
            net, 3072, 4096, engine="winograd", memory=memory, history=10, disk=disk
        )

    assert (fitted(3 * 10**9, AMPLE).history, fitted(3 * 10**9, AMPLE).history_in_memory) == (
        10,
        False,
    )
    room = (PAIR * 7 + TARGETS + START) * pixels
    some = fitted(3 * 10**9, room)
    assert (some.history, some.history_in_memory) == (7, False)
    assert on_disk(some, Tiling(net, 3072, 4096, some.edge or 0), recalls=False) <= room
    # 24 GB hold the image whole, 8 GB in tiles with all pairs beside them.
    there = fitted(8 * 10**9, 0)
    assert (there.history, there.history_in_memory) == (10, True)
    with pytest.raises(
        OptionError, match=r"room for 2 pairs .* needs at least 3; make 1\.0GB free"
    ):
        fitted(3 * 10**9, room - 5 * PAIR * pixels)


def test_a_scheduler_in_the_process_counts() -> None:
    arguments: dict[str, Any] = {"engine": "winograd", "history": 10, "disk": AMPLE, "edge": 1024}
    fits = [
        choose_layout(network("max"), 3072, 4096, memory=4 * 10**9, scheduler=there, **arguments)
        for there in (False, True)
    ]
    assert fits[0].spill_memory - fits[1].spill_memory == 32 * 3072 * 4096
