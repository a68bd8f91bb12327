"""Recipes: options in a TOML file, and the recipe of a result, which renders it again."""

import json
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle import GramstyleError, OptionError, Options, Recipe, read_recipe, recipe_of, transfer
from gramstyle.images import Image, from_pil, write_image
from gramstyle.run.options import MACHINE
from gramstyle.run.options.values import FROM_FILES, IMAGE_OPTIONS, OPTIONS
from gramstyle.run.presets import PRESETS
from gramstyle.run.recipes.reading import MOST_BYTES
from gramstyle.run.recipes.recipe import VERSION
from gramstyle.run.recipes.toml_text import toml_text
from gramstyle.run.records.log import RunLog

BRIEF = Options(size=32, iterations=3, engine="numpy", threads=1)


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, rng: np.random.Generator, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with images; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    for name in ("photo.png", "a.png", "b.png"):
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def recipe_with(text: str) -> Recipe:
    Path("r.toml").write_text(text, encoding="utf-8")
    return read_recipe(Path("r.toml"))


def test_a_recipe_has_images_a_preset_and_options(folder: Path) -> None:
    recipe = recipe_with(
        'version = 1\npreset = "fast"\ncontent = "photo.png"\nstyle = ["a.png", "b.png"]\n'
        'style_blend = [3, 1]\ntv = 2\ninit = "b.png"\ncontent_layers = ["conv3_1"]\n'
    )
    assert recipe.content == folder / "photo.png"
    assert recipe.styles == (folder / "a.png", folder / "b.png")
    assert recipe.options() == Options(
        size=256,
        iterations=50,
        style_blend=(3, 1),
        tv=2.0,
        init=str(folder / "b.png"),
        content_layers=("conv3_1",),
    )


def test_given_options_come_before_the_recipe_and_the_recipe_before_its_preset() -> None:
    recipe = recipe_with('preset = "fast"\nsize = 96\nalpha = 0.5')
    assert recipe.options().size == 96
    assert recipe.options(size=512).size == 512
    assert recipe.options().iterations == 50
    stronger = recipe.options(content_strength=2.0)
    assert (stronger.alpha, stronger.content_strength) == (None, 2.0)


def test_a_given_preset_replaces_the_one_of_the_recipe_and_not_its_options() -> None:
    options = recipe_with('preset = "fast"\nsize = 96').options(preset="fine")
    assert (options.size, options.iterations) == (96, PRESETS["fine"].values["iterations"])


def test_a_given_device_replaces_an_engine_of_the_recipe_that_does_not_run_on_it() -> None:
    on_gpu = recipe_with('engine = "cupy"\ntf32 = true')
    assert on_gpu.options(device="cpu").engine is None
    assert on_gpu.options(device="CUDA").engine == "cupy"
    with pytest.raises(OptionError, match="give --device cuda"):
        on_gpu.options()
    on_cpu = recipe_with('engine = "winograd"')
    assert on_cpu.options(device="cpu").engine == "winograd"
    assert on_cpu.options(device="cuda").runs_on == "cupy"
    assert on_cpu.options(device="cuda", engine="onnx").engine == "onnx"


def test_every_option_except_those_of_the_machine_may_be_in_a_recipe() -> None:
    defaults = Options()
    for field in fields(Options):
        value = getattr(defaults, field.name)
        if field.name in MACHINE or value is None:
            continue
        recipe = recipe_with(toml_text({field.name: value}))
        assert recipe.options() == defaults


WRONG = {
    'sise = 32': "unknown key 'sise'; did you mean size?",
    'threads = 2': "threads is not an option of a recipe",
    'memory = "2GB"': "give --memory on the command line",
    'preset = "fist"': "did you mean fast?",
    "preset = 3": "there is no preset 3",
    "version = 2": "version 2, and this gramstyle reads version 1; update gramstyle",
    "version = 0": "version must be a whole number from 1 upwards",
    "version = true": "version must be",
    'version = "1"': "version must be",
    'size = "big"': "size must be a whole number",
    "size = [1]": "size must be a whole number",
    "tv = nan": "tv must be a number from 0 upwards",
    "content = 3": "content must be text",
    'content = ""': "content is not a path",
    'style = "a\\u0000b"': "style is not a path",
    "style = []": "style must have from 1 to 64 images, not 0",
    "style = [[1]]": "style must be text",
    "init = 3": "init must be text",
    "alpha = 1\ncontent_strength = 2": "give alpha or content_strength",
    "grid = {}": "unknown key 'grid'",
    "size": "r.toml is not TOML",
    "a.b.c.d.e.f.g.h.i.j = 1": "r.toml is not a recipe",
    "size = " + "[" * 5000: "r.toml is not",
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG.items())
def test_a_wrong_recipe_is_refused_in_one_line_that_names_it(text: str, words: str) -> None:
    with pytest.raises(GramstyleError) as refused:
        recipe_with(text)
    message = str(refused.value)
    assert words in message
    assert "r.toml" in message
    assert "\n" not in message


def test_files_that_are_no_recipes_are_refused_in_one_line(folder: Path) -> None:
    (folder / "large.toml").write_bytes(b"#" * (MOST_BYTES + 1))
    (folder / "binary.toml").write_bytes(bytes(range(256)))
    for name, words in {
        "large.toml": "larger than 100,000 bytes",
        "binary.toml": "not text in UTF-8",
        "photo.png": "not text in UTF-8",
        "missing.toml": "No such file",
        ".": "it is not a file",
        "a\0b": "check the path",
        "/dev/zero": "it is not a file",
    }.items():
        with pytest.raises(GramstyleError, match=words) as refused:
            read_recipe(Path(name))
        assert "\n" not in str(refused.value)


VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(
        st.characters(exclude_categories=["Cs"]), max_size=20
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(FROM_FILES), VALUES, max_size=4))
def test_python_reads_the_toml_that_is_written(table: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text(table, comments=["a\x1b\nb = 3"])) == table


@pytest.mark.parametrize(
    "options",
    [
        BRIEF,
        replace(BRIEF, size=64, scales=2),
        replace(BRIEF, init="b.png", content_strength=2.0, style_scale=(1, 2)),
        replace(BRIEF, init="noise", seed=2**100, alpha=1e-5, tv=1e-3, optimiser="own"),
        replace(BRIEF, convention="author", tile=16, tolerance=0.1),
    ],
)
def test_the_recipe_of_a_result_renders_its_pixels_and_its_settings_again(options: Options) -> None:
    styles = ["a.png", "b.png"] if options.tile is None else "a.png"
    first = transfer("photo.png", styles, options)
    write_image("out.png", from_pil(first.image), settings=first.record.settings.to_json())
    Path("r.toml").write_text(recipe_of("out.png").to_toml(), encoding="utf-8")
    recipe = read_recipe(Path("r.toml"))
    assert recipe.content is not None
    again = transfer(recipe.content, recipe.styles, recipe.options(threads=1))
    assert again.image.tobytes() == first.image.tobytes()
    assert json.dumps(again.record.settings.to_json()) == json.dumps(
        first.record.settings.to_json()
    )


def settings_of(**more: Any) -> dict[str, Any]:
    return {
        "program": "gramstyle 0.1.0",
        "given": {"size": 32},
        "content": {"name": "photo.png"},
        "style": {"name": "a.png"},
        **more,
    }


def stored(settings: dict[str, Any], name: str = "out.png") -> Path:
    write_image(Path(name), Image(pixels=np.zeros((2, 3, 3), np.float32)), settings=settings)
    return Path(name)


@pytest.mark.parametrize(
    ("earlier", "given", "meant"),
    [
        ("lbfgsb", {}, "scipy"),  # then the default on a CPU
        ("lbfgsb", {"optimiser": "lbfgsb"}, "scipy"),
        ("lbfgsb-device", {"optimiser": "lbfgsb-device"}, "own"),
        ("lbfgsb-device", {"tile": 512}, "own"),
        ("own", {}, None),
        ("scipy", {"optimiser": "scipy"}, "scipy"),
    ],
)
def test_the_recipe_of_a_result_names_the_optimiser_that_made_it(
    earlier: str, given: dict[str, Any], meant: str | None
) -> None:
    found = recipe_of(stored(settings_of(optimiser=earlier, given=given)))
    assert found.options().optimiser == meant


def test_a_recipe_with_an_earlier_name_of_an_optimiser_means_the_same_one() -> None:
    for earlier, meant in (("lbfgsb", "scipy"), ("lbfgsb-device", "own")):
        Path("r.toml").write_text(f'optimiser = "{earlier}"', encoding="utf-8")
        assert read_recipe(Path("r.toml")).options().optimiser == meant
        with pytest.raises(OptionError, match="optimiser must be own or scipy"):
            Options(optimiser=earlier)  # type: ignore[arg-type]


def test_a_recipe_has_names_without_folders_and_nothing_of_the_machine(folder: Path) -> None:
    result = transfer(folder / "photo.png", folder / "a.png", replace(BRIEF, init=folder / "b.png"))
    text = recipe_of(stored(result.record.settings.to_json())).to_toml()
    assert str(folder) not in text
    table = tomllib.loads(text)
    assert (table["content"], table["style"], table["init"]) == ("photo.png", "a.png", "b.png")
    assert not table.keys() & {*MACHINE}


@pytest.mark.parametrize("name", ["out.jpg", "out.webp", "out.tif", "out.avif"])
def test_every_format_of_a_result_holds_its_recipe(name: str) -> None:
    assert recipe_of(stored(settings_of(), name)).options().size == 32


def test_the_log_of_a_run_holds_the_recipe_of_its_result(folder: Path) -> None:
    record = transfer("photo.png", "a.png", BRIEF).record
    with RunLog(folder / "run.jsonl") as log:
        log.start(record.settings.to_json())
        log.end(record.summary)
    assert recipe_of("run.jsonl") == recipe_of(stored(record.settings.to_json()))


def test_images_that_no_file_holds_are_named_in_a_comment(rng: np.random.Generator) -> None:
    array = rng.integers(0, 256, (24, 32, 3), np.uint8)
    result = transfer(array, ["a.png", array], replace(BRIEF, init=array))
    text = recipe_of(stored(result.record.settings.to_json())).to_toml()
    assert not tomllib.loads(text).keys() & {"content", "style", "init"}
    for role in ("content", "style image 2", "init"):
        assert f"# Not read from a file that can be named here: {role}." in text


REFUSED = {
    "no settings of gramstyle": (None, "does not contain the settings"),
    "no given options": ({"size": 32}, "did not store the given options"),
    "given options that are no table": (settings_of(given=[1]), "did not store the given"),
    "a reconstruction": (settings_of(style=None), "not the result of a transfer"),
    "no images": (settings_of(style=[]), "not the result of a transfer"),
    "an option of a later version": (settings_of(given={"new": 1}), "no option 'new'"),
    "an option of the machine": (settings_of(given={"threads": 1}), "no option 'threads'"),
    "a wrong value": (settings_of(given={"size": "big"}), "size must be a whole number"),
    "contradicting values": (
        settings_of(given={"alpha": 1, "content_strength": 2}),
        "give alpha or content_strength",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_result_without_a_usable_recipe_is_refused_in_one_line(what: str) -> None:
    settings, words = REFUSED[what]
    path = Path("photo.png") if settings is None else stored(settings)
    with pytest.raises(OptionError) as refused:
        recipe_of(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/x.png", "a/b", "", "..", "a\0", "\udcff"])
def test_a_name_in_the_settings_that_is_no_file_name_is_left_out(name: str) -> None:
    recipe = recipe_of(stored(settings_of(content={"name": name}, given={"init": name})))
    assert recipe.content is None
    assert "init" not in recipe.values


def test_control_codes_in_hostile_settings_do_not_reach_the_recipe() -> None:
    evil = "\x1b]0;\x07\nthreads = 9\x7f"
    settings = settings_of(program=evil, content={"name": evil}, threads=evil)
    text = recipe_of(stored(settings)).to_toml()
    assert all(character.isprintable() or character == "\n" for character in text)
    assert tomllib.loads(text)["content"] == evil
    assert "threads" not in tomllib.loads(text)


@pytest.mark.parametrize("text", ["", "{", "{}\n", '{"event": "end"}\n', "\0", "[" * 100])
def test_a_file_that_is_neither_an_image_nor_a_log_is_refused(text: str) -> None:
    Path("x.jsonl").write_text(text)
    with pytest.raises(GramstyleError) as refused:
        recipe_of("x.jsonl")
    assert "\n" not in str(refused.value)


def test_the_version_of_the_format_is_the_one_that_is_written() -> None:
    assert tomllib.loads(Recipe(values={}).to_toml()) == {"version": VERSION}


def test_the_start_is_an_option_with_an_image_and_a_size_is_not() -> None:
    assert "init" in IMAGE_OPTIONS
    assert "size" not in IMAGE_OPTIONS
    assert set(FROM_FILES) | set(MACHINE) == set(OPTIONS)
