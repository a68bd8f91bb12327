"""docs/architecture.md: the table of rooms against the package and import-linter's contract."""

import re
import tomllib

from documented import ROOT, text_of

PAGE = text_of("docs/architecture.md")
ROOMS = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
FOLDERS = re.findall(r"^\| `(\w+/\w+)` \|", PAGE, re.MULTILINE)


def test_the_table_has_a_row_for_each_room_of_the_package() -> None:
    entries = (ROOT / "engine" / "gramstyle").iterdir()
    rooms = {path.stem for path in entries if not path.name.startswith("__")} - {"py"}
    assert sorted(ROOMS) == sorted(rooms)


def test_the_table_has_the_order_that_import_linter_checks() -> None:
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    checked = [name.removeprefix("gramstyle.") for each in layers for name in each.split(" | ")]
    assert checked == ROOMS


def test_the_table_of_folders_has_a_row_for_each_folder_of_its_rooms() -> None:
    package = ROOT / "engine" / "gramstyle"
    rooms = {folder.partition("/")[0] for folder in FOLDERS}
    inside = (path.parent for room in rooms for path in (package / room).glob("*/__init__.py"))
    assert sorted(FOLDERS) == sorted(path.relative_to(package).as_posix() for path in inside)
