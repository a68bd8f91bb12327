"""All pages: their links and commands, and the tables that the code determines."""

import contextlib
import re
import shlex

import pytest

import gramstyle
from documented import ROOT, text_of
from gramstyle.cli.program import command_parser
from gramstyle.core.conventions import CONTENT_LAYER, STYLE_LAYERS
from gramstyle.engines.registry import ENGINES
from gramstyle.images import EXTENSIONS, MAX_PIXELS, SUFFIXES
from gramstyle.run.options import Options
from gramstyle.run.presets import PRESETS

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "models/README.md")
)

# Blocks of code and their commands, and commands in running text, which may lack their arguments;
# … stands for some of them.
BLOCKS = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINES = re.compile(r"^(?:\.venv/bin/)?gramstyle (.+)$", re.MULTILINE)
NAMED = re.compile(r"`gramstyle ([^`…|]+)`")
INCOMPLETE = "(?:are|is) required|choice: '[A-Z]+'|expected one argument"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_local_link_and_image_leads_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", text_of(document)):
        if "://" not in target:
            assert ((ROOT / document).parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_on_the_pages_is_one_that_the_program_takes(
    document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = text_of(document)
    blocks = "\n".join(BLOCKS.findall(text))
    for commands, excuse in ((LINES.findall(blocks), "nothing"), (NAMED.findall(text), INCOMPLETE)):
        for command in commands:
            with contextlib.suppress(SystemExit):
                command_parser().parse_args(shlex.split(command, comments=True))
            error = capsys.readouterr().err
            assert not error or re.search(excuse, error), f"gramstyle {command}: {error}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_on_the_pages_exists(document: str) -> None:
    targets = re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE)
    text = text_of(document)
    blocks = "\n".join(BLOCKS.findall(text))
    for target in re.findall(r"`make ([a-z-]+)", text) + re.findall(r"(?m)^make ([a-z-]+)", blocks):
        assert target in targets


def table(document: str, header: str) -> list[list[str]]:
    """The rows of the table with this header, without backticks."""
    (rows,) = re.findall(
        rf"^\| {re.escape(header)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text_of(document), re.MULTILINE
    )
    return [
        [cell.strip().replace("`", "") for cell in row.strip("|").split("|")]
        for row in rows.splitlines()
    ]


def test_the_defaults_on_the_page_are_those_of_the_code() -> None:
    options = Options()
    for option, said in table("docs/defaults.md", "option"):
        name = option.removeprefix("--").replace("-", "_")
        chosen = {
            "init": options.start,
            "pooling": options.pools,
            "padding": options.pads,
            "style_scale": options.style_scales[0],
            "content_layers": (CONTENT_LAYER,),
            "style_layers": STYLE_LAYERS,
        }
        default = chosen.get(name, vars(options)[name])
        if default is None:  # computed: from the size, or from the number of layers
            assert re.match(r"\d+ / \(|1 each$|none$", said)
        else:
            assert said == (", ".join(default) if isinstance(default, tuple) else str(default))


def test_the_page_of_engines_has_a_row_for_each() -> None:
    assert sorted(row[0] for row in table("docs/engines.md", "`--engine`")) == sorted(ENGINES)


def test_the_page_of_recipes_has_a_row_for_each_preset() -> None:
    presets = [[each.name, each.description] for each in PRESETS.values()]
    assert table("docs/recipes.md", "preset") == presets


def test_the_page_of_image_formats_has_every_extension_and_the_limit() -> None:
    text = text_of("docs/image-formats.md")
    (read,) = re.findall(r"^(?:`\.\w+` ?)+$", text, re.MULTILINE)
    assert read.replace("`", "").split() == sorted(SUFFIXES)
    written = {
        extension: format_name
        for extensions, format_name, _ in table("docs/image-formats.md", "extension")
        for extension in extensions.split(", ")
    }
    assert written == EXTENSIONS
    assert f"{MAX_PIXELS:,} pixels" in text


def test_the_api_reference_has_every_public_name() -> None:
    named = re.findall(r"^::: gramstyle\.(\w+)$", text_of("docs/api/gramstyle.md"), re.MULTILINE)
    assert sorted(named) == sorted(gramstyle.__all__)


def test_the_gallery_shows_every_image_that_its_command_makes_and_no_other() -> None:
    shown = set(re.findall(r"\(images/(gallery/.+?)\)", text_of("docs/gallery.md")))
    made = {path.relative_to(ROOT / "docs/images").as_posix()
            for path in (ROOT / "docs/images/gallery").iterdir()}  # fmt: skip
    assert shown == made
