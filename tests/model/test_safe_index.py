"""Indexes of safetensors files, and the guards of the files that they name."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gramstyle.core.arrays import Array
from gramstyle.model.formats import open_weights
from gramstyle.model.sources import safe_index
from hostile_files import LITTLE_MEMORY, error_line, peak_memory
from weight_files import chain, torchvision_names, write_safe_index


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_safe_index(folder / "model.safetensors.index.json", torchvision_names(chain()), shards=3)
    return folder / "model.safetensors.index.json"


def read(path: Path) -> dict[str, Array]:
    with open_weights(path) as opened:
        return {name: tensor.load() for name, tensor in opened.tensors.items()}


def refusal(path: Path) -> str:
    return error_line(lambda: read(path)).replace(str(path), "FILE")


def rewritten(path: Path, edit: Callable[[dict[str, object]], None]) -> Path:
    """Edit the index's weight_map."""
    index = json.loads(path.read_text())
    edit(index["weight_map"])
    path.write_text(json.dumps(index))
    return path


def check(path: Path) -> None:
    expected, found = torchvision_names(chain()), read(path)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_tensors_of_all_files_are_read(path: Path) -> None:
    check(path)


def test_only_tensors_in_the_index_are_read(path: Path) -> None:
    found = read(rewritten(path, lambda places: places.pop("features.0.bias")))
    assert len(found) == 31
    assert "features.0.bias" not in found


def test_an_index_in_a_cache_of_links_is_read(path: Path, tmp_path: Path) -> None:
    # The cache of the Hugging Face Hub: snapshots/HASH/NAME is a link to ../../blobs/HASH.
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for file in path.parent.iterdir():
        (snapshot / file.name).symlink_to(os.path.relpath(file, snapshot))
    check(snapshot / path.name)


def test_a_link_within_the_folder_is_followed(path: Path) -> None:
    shard = path.with_name("model-00001-of-00003.safetensors")
    shard.rename(path.with_name("elsewhere.safetensors"))
    shard.symlink_to("elsewhere.safetensors")
    check(path)


def test_a_link_out_of_the_folder_is_refused_with_the_remedy(path: Path, tmp_path: Path) -> None:
    shard = path.with_name("model-00001-of-00003.safetensors")
    shard.rename(tmp_path / "secret.safetensors")
    shard.symlink_to(tmp_path / "secret.safetensors")
    assert "replace the link with a copy of the file" in refusal(path)


def test_a_linked_subfolder_that_leads_out_is_refused(path: Path, tmp_path: Path) -> None:
    save_file({"features.0.bias": np.ones(2, np.float32)}, tmp_path / "secret.safetensors")
    (path.parent / "sub").symlink_to(tmp_path)
    edited = rewritten(path, lambda p: p.update({"features.0.bias": "sub/secret.safetensors"}))
    assert "found a link to another one" in refusal(edited)


@pytest.mark.parametrize(
    "name",
    [
        *("../x.safetensors", "/x.safetensors", "a/../../x.safetensors", "..\\x.safetensors"),
        *("C:x.safetensors", "C:/x.safetensors", "//host/x.safetensors", "a\0b.safetensors"),
        *("\x1b[31m.safetensors", "x" * 300 + ".safetensors"),
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(
    name: str, path: Path, tmp_path: Path
) -> None:
    save_file({"features.0.bias": np.ones(2, np.float32)}, tmp_path / "x.safetensors")
    edited = rewritten(path, lambda places: places.update({"features.0.bias": name}))
    assert "expected the name of a file in the same folder, found" in refusal(edited)


def test_a_missing_file_is_named(path: Path) -> None:
    path.with_name("model-00002-of-00003.safetensors").unlink()
    assert "expected the file 'model-00002-of-00003.safetensors'" in refusal(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(path: Path) -> None:
    shard = path.with_name("model-00002-of-00003.safetensors")
    shard.unlink()
    os.mkfifo(shard)
    assert "found none" in refusal(path)


def test_a_tensor_in_another_file_than_the_index_says_is_refused(path: Path) -> None:
    shard = "model-00003-of-00003.safetensors"
    message = refusal(rewritten(path, lambda p: p.update({"features.0.weight": shard})))
    assert f"expected 'features.0.weight' in '{shard}', as the index says, found none" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", 'without "weight_map"'),
        ('{"weight_map": {}}', 'without "weight_map"'),
        ('{"weight_map": ["a"]}', 'without "weight_map"'),
        ('{"weight_map": {"a": 3}}', "found that of '3'"),
        ('{"weight_map": {"a": "pytorch_model.bin"}}', "save the weights in one file instead"),
        ('{"weight_map": {"/layers/conv2d/vars": ["shard_00000.weights.h5"]}}', "in one file"),
        ('{"weight_map": ', "(JSONDecodeError); get a fresh copy"),
        ("{" + '"a":{' * 10_000, "get a fresh copy"),
        ('{"class_name": "Functional"}', 'without "weight_map"'),
    ],
)
def test_another_index_is_refused_in_one_line(text: str, words: str, path: Path) -> None:
    path.write_text(text)
    assert words in refusal(path)


def test_a_large_index_is_not_read(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(3 * 1024 * 1024)
    assert "expected an index of at most" in refusal(path)
    assert peak_memory(lambda: refusal(path)) < LITTLE_MEMORY


def test_the_headers_of_all_files_together_are_limited(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_index, "MAX_HEADER", 2500)
    assert "expected headers of at most 2500 bytes in all" in refusal(path)
