"""tools/torture: a short form of each campaign, and what the campaigns notice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # tools is not installed

from tools.torture.from_tests import ROOT
from tools.torture.mutations import mutant
from tools.torture.sample import Sample, png_sample, safetensors_sample, zip_sample

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")

# Some of the commands; the whole campaign takes all of them.
COMMANDS = ("transfer, resume", "batch", "model export", "transfer, a new image")
KILLED = COMMANDS[:3]
FILLED = COMMANDS[2:]
MUTATED = ("mutants", "chains", "conformance")


def torture(output, *arguments):
    command = [sys.executable, "-m", "tools.torture", "--nice", "0", "--output", str(output)]
    done = subprocess.run(
        [*command, *arguments], check=False, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The JSON of short campaigns, and what they printed."""
    output = tmp_path_factory.mktemp("torture")
    _, printed, progress = torture(
        output,
        *("--only", "kills", "disk", *MUTATED, "--commands", *COMMANDS),
        *("--kills", "1", "--mutants", "800"),
    )
    return json.loads((output / "torture.json").read_text()), printed, progress


def test_a_killed_command_is_continued_and_makes_the_same_bits(short):
    results, printed, _ = short
    assert [(r["name"], r["kills"], r["identical"]) for r in results["kills"]] == [
        (name, 1, 1) for name in KILLED
    ]
    assert not any(r["findings"] for r in results["kills"])
    assert "| batch | 1 | 0 | 1 | 0 |" in printed


def test_a_full_disk_leaves_the_old_file_or_the_new_one(short):
    results, _, progress = short
    if "the disk is not filled: " in progress:
        pytest.skip(progress.partition("the disk is not filled: ")[2].splitlines()[0])
    assert sorted(r["name"] for r in results["disk"]) == sorted(FILLED)
    assert all(r["full"] >= 2 and not r["findings"] for r in results["disk"])


def test_each_reader_reads_mutants_or_refuses_them(short):
    results, *_ = short
    for campaign in MUTATED:
        for result in results[campaign]:
            assert result["accepted"] + result["refused"] > 0, result
            assert not result["findings"]
        assert sum(result["mutants"] for result in results[campaign]) == 800


# What the campaign of mutants notices: each of these readers breaks a promise.
BAD_READERS = """\
import ctypes, json, os, subprocess, sys, time, warnings
from pathlib import Path
from tools.torture import child, readers, trial
from tools.torture.sample import Sample
from gramstyle.errors import GramstyleError, ModelError

kept = []

def fails(path): raise KeyError("x")
def warns(path): warnings.warn("odd")
def writes(path): (path.parent / "new").write_text("x")
def starts(path): subprocess.run(["true"])
def prints(path): os.write(2, b"libsomething: bad")
def has_two_lines(path): raise ModelError("one\\ntwo")
def hides_memory(path):
    try: bytearray(2**40)
    except MemoryError: raise ModelError("damaged") from None
def takes_memory(path): kept.append(bytes(b"x") * (400 * 2**20))
def is_slow(path):
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
def crashes(path): ctypes.string_at(0)
def ends(path): os._exit(0)
def hangs(path): time.sleep(60)
def refuses(path): raise ModelError("damaged; get a fresh copy")
def accepts(path): path.read_bytes()

bad = [fails, warns, writes, starts, prints, has_two_lines, hides_memory, takes_memory, is_slow,
       crashes, ends, hangs, refuses, accepts]
trial.READERS = {each.__name__: each for each in bad}
# `hangs` sleeps for longer; a busy machine may take seconds for the memory of `takes_memory`.
trial.MAX_SECONDS, child.HANG = 0.2, 20.0
found = {}
for each in bad:
    def report(number, result, name=each.__name__):
        found[name] = number, result.outcome
    samples = {each.__name__: [Sample("s", {"s.bin": b"some bytes"})]}
    child.read_mutants(each.__name__, 7, 8, samples, Path(sys.argv[1]), report)
print(json.dumps(found))
"""

NOTICED = {
    "fails": "exception",
    "warns": "warning",
    "writes": "forbidden action",
    "starts": "forbidden action",
    "prints": "printed",
    "has_two_lines": "not one line",
    "hides_memory": "memory",
    "takes_memory": "memory",
    "is_slow": "slow",
    "crashes": "crash",
    "ends": "crash",
    "hangs": "hang",
    "refuses": "refused",
    "accepts": "accepted",
}


def test_each_broken_promise_is_noticed_and_the_mutant_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BAD_READERS, str(tmp_path)],
        check=True, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert json.loads(done.stdout) == {name: [7, outcome] for name, outcome in NOTICED.items()}


# Readers of weights that give another network, or name no file.
WRONG_READERS = """\
import json, sys
from pathlib import Path
from tools.torture import chains, readers, trial
from tools.torture.guard import Guard
from gramstyle.errors import ModelError

samples = chains.samples(Path(sys.argv[1]))["chain safetensors"]
files = samples[0].files
work = Path(sys.argv[1], "work")
work.mkdir()

def read(change):
    trial.READERS = {"chain safetensors": change}
    trials = trial.Trials({}, work, Guard(), lambda: "")
    return trials.read("chain safetensors", files).outcome

def other_bias(path):
    found = [(W, b.copy()) for W, b in chains.independent.network(path)]
    found[1][1][0] *= 1.001
    chains.check_network(path, found)

def same(path): chains.check_network(path, chains.independent.network(path))
def names_nothing(path): raise ModelError("damaged; get a fresh copy")
def no_remedy(path): raise ModelError(f"{path} is damaged")
def remedy(path): raise ModelError(f"{path} is damaged; get a fresh copy")

print(json.dumps([read(each) for each in (other_bias, same, names_nothing, no_remedy, remedy)]))
"""


def test_another_network_and_a_refusal_without_a_remedy_are_noticed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WRONG_READERS, str(tmp_path)],
        check=True, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert json.loads(done.stdout) == [
        "exception", "accepted", "names no file", "says not what to do", "refused",
    ]  # fmt: skip


SAMPLES = [
    Sample("bytes", {"a.bin": bytes(range(256))}),
    Sample("text", {"a.toml": b'[[jobs]]\ncontent = "x"\nsize = 48\nlayers = ["a", "b"]\n'}),
]


def test_a_mutant_depends_on_its_reader_and_number_only():
    first = [mutant("image", number, SAMPLES)[1] for number in range(200)]
    assert first == [mutant("image", number, SAMPLES)[1] for number in range(200)]
    assert first != [mutant("onnx", number, SAMPLES)[1] for number in range(200)]
    names = {name for files in first for name in files}
    assert names == {"a.bin", "a.toml"}
    originals = [sample.files for sample in SAMPLES]
    assert first[:2] == originals
    assert sum(files in originals for files in first) < 20
    assert len({tuple(files.values()) for files in first}) > 150


def test_a_mutated_part_has_the_right_length_and_checksum(tmp_path):
    import zipfile

    import numpy as np
    import PIL.Image
    from safetensors.numpy import load_file, save

    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    png = png_sample("a.png", (tmp_path / "a.png").read_bytes())
    assert png.assemble(png.parts) == png.files
    (tmp_path / "b.png").write_bytes(
        png.assemble((*png.parts[:-1], b"teXtmore", png.parts[-1]))["a.png"]
    )
    PIL.Image.open(tmp_path / "b.png").load()

    tensors = safetensors_sample("a", save({"a": np.zeros(2)}))
    longer = tensors.assemble((tensors.parts[0].replace(b'"a"', b'"longer"'),))
    (tmp_path / "c").write_bytes(longer["a"])
    assert list(load_file(tmp_path / "c")) == ["longer"]

    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("data.pkl", b"first")
        archive.writestr("data/0", b"second")
    packed = zip_sample("d.zip", (tmp_path / "d.zip").read_bytes())
    (tmp_path / "e.zip").write_bytes(packed.assemble((b"mutated",))["d.zip"])
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        assert archive.testzip() is None
        assert archive.read("data.pkl") == b"mutated"
        assert archive.read("data/0") == b"second"


def test_a_mutant_is_repeated_by_its_reader_and_number(tmp_path):
    code, printed, _ = torture(tmp_path, "--repeat", "toml", "0", "--keep", str(tmp_path / "kept"))
    assert code == 0
    assert printed.startswith("a mutant of jobs ")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["jobs.toml"]
