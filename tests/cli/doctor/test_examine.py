"""The examination of an installation: it names what is broken, and survives it."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from gramstyle.cli.doctor import Finding, Report, examine, installation, machine, places
from gramstyle.cli.doctor.asking import Answer, ask
from gramstyle.cli.doctor.finding import guarded
from gramstyle.cli.doctor.requirements import EXTRAS, Requirement, core, of_extra
from gramstyle.engines.registry import ENGINES


@pytest.fixture(scope="module")
def report(tiny_model_path: Path) -> Report:
    """The examination of this installation, with a small network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
        patch.setenv("HTTPS_PROXY", "http://user:secret@example.org")
        return examine()


def named(findings: tuple[Finding, ...] | list[Finding], name: str) -> Finding:
    (found,) = (each for each in findings if each.name == name)
    return found


def test_nothing_is_broken_in_this_installation(report: Report) -> None:
    assert not report.broken


def test_it_names_every_package_engine_and_limit(report: Report, tiny_model_path: Path) -> None:
    names = {each.name for each in report.findings}
    assert names >= {each.name for each in core()} | set(ENGINES)
    assert names >= {"python", "threads", "memory budget", "BLAS", "model cache", "temporary files"}
    assert named(report.findings, "file").value == f"{tiny_model_path} (GRAMSTYLE_MODEL)"
    assert "intact" in named(report.findings, "contents").value
    default = [each for each in report.findings if "the default, because" in each.value]
    assert [each.name for each in default] == ["winograd"]


def test_every_problem_has_a_remedy_and_every_finding_is_one_line(report: Report) -> None:
    for each in report.findings:
        assert "\n" not in each.value
        assert each.state == "ok" or each.remedy or "install it with" in each.value


def test_a_password_in_the_environment_is_not_shown(report: Report) -> None:
    assert named(report.findings, "HTTPS_PROXY").value.startswith("set ")
    assert "secret" not in json.dumps(report.to_json())


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program prints where packages raise errors, crash, and print when imported."""
    folder = tmp_path_factory.mktemp("damaged")
    for name, text in {
        "scipy": "raise ImportError('no such library: libfortran.so')",
        "rich": "raise ImportError('damaged')",
        "h5py": "import os; os.abort()",
        "threadpoolctl": "print('{}'); raise OSError('\\n\\x1b[2J')",
    }.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(folder), "GRAMSTYLE_MODEL": str(folder)}
    outputs: dict[str, Any] = {}
    for word, command in {"json": ["doctor", "--json"], "other": ["presets"]}.items():
        outputs[word] = subprocess.run(
            [sys.executable, "-P", "-m", "gramstyle", *command],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return outputs


def test_broken_packages_are_named_with_the_commands_that_repair_them(
    damaged: dict[str, Any],
) -> None:
    run = damaged["json"]
    assert run.returncode == 1
    assert run.stderr == ""
    said = json.loads(run.stdout)
    assert not said["healthy"]
    found = {each["name"]: Finding(**each) for each in said["findings"]}
    for name, words in {
        "scipy": "libfortran.so",
        "rich": "ImportError: damaged",
        "threadpoolctl": "OSError",
        "h5py": "SIGABRT",
    }.items():
        assert found[name].state == "broken"
        assert words in found[name].value
        assert f'--force-reinstall "{name}' in str(found[name].remedy)
    assert found["numpy"].state == "ok"
    assert "safetensors" in found["weights"].value


def test_another_command_names_the_doctor_in_one_line(damaged: dict[str, Any]) -> None:
    run = damaged["other"]
    assert run.returncode == 2
    assert run.stderr.startswith("gramstyle: error: ")
    assert run.stderr.endswith("; to see what to repair, run: gramstyle doctor\n")
    assert run.stderr[:-1].isprintable()


def test_a_check_that_fails_is_a_finding() -> None:
    def check() -> list[Finding]:
        raise PermissionError(13, "Permission denied", "a\nb")

    (found,) = guarded("model", check)
    assert (found.section, found.state) == ("model", "broken")
    assert "Permission denied" in found.value
    assert "\n" not in found.value


def test_a_probe_that_ends_python_is_answered_and_the_next_ones_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quits.py").write_text("import os; os._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answers = ask(["import:quits", "import:json", "import:no_such_module"])
    assert answers["import:quits"].problem == "it ended Python with exit code 3"
    assert answers["import:json"].problem == ""
    assert answers["import:no_such_module"].problem.startswith("ModuleNotFoundError")


def test_an_interpreter_that_cannot_be_started_is_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "cannot be started" in ask(["model"])["model"].problem


@pytest.mark.parametrize(
    ("installed", "satisfied"),
    [("2.0", True), ("2.1.3", True), ("2.10", True), ("1.26.4", False), ("3.0rc1", False),
     (None, False), ("2", True), ("2.0.0.dev0", True)],
)  # fmt: skip
def test_a_version_is_compared_with_what_is_required(
    installed: str | None, satisfied: bool
) -> None:
    requirement = Requirement("numpy<3,>=2.0", "numpy", "numpy", installed)
    assert requirement.satisfied is satisfied


def test_a_package_that_is_missing_or_too_old_is_broken_with_its_requirement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = [
        Requirement("numpy>=2.0", "numpy", "numpy", "1.9"),
        Requirement("onnx>=1.21", "onnx", "onnx", None),
    ]
    monkeypatch.setattr(installation, "core", lambda: wanted)
    found = list(installation.packages({}))
    for name, words in {
        "numpy": "1.9, and numpy>=2.0 is required",
        "onnx": "not installed",
    }.items():
        assert named(found, name).state == "broken"
        assert named(found, name).value == words
        assert '"' in str(named(found, name).remedy)


def test_the_extras_of_the_table_exist() -> None:
    for extra in EXTRAS:
        assert of_extra(extra)


def test_two_distributions_of_onnx_runtime_are_broken() -> None:
    both = {"onnxruntime": "1.27", "onnxruntime-gpu": "1.27"}
    (found,) = installation.runtimes(both)
    assert found.state == "broken"
    assert str(found.remedy).startswith("uninstall both, then: ")
    assert not list(installation.runtimes({**both, "onnxruntime-gpu": None}))


def test_gramstyle_without_metadata_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installation, "version", none)
    assert named(list(installation.program()), "gramstyle").state == "broken"


@pytest.mark.parametrize(("default", "state"), [("winograd", "broken"), ("numpy", "note")])
def test_an_engine_that_cannot_run_is_broken_if_it_is_the_default(default: str, state: str) -> None:
    problems = {"numpy": None, "winograd": "Numba cannot be loaded; install it with: pip"}
    answers = {"engines": Answer({"default": default, "problems": problems})}
    assert named(list(installation.engines(answers)), "winograd").state == state


def test_a_model_that_is_damaged_is_broken_and_a_missing_one_is_built_later() -> None:
    damaged = Answer({"path": "x.onnx", "source": "GRAMSTYLE_MODEL", "problem": "x is damaged"})
    found = list(places.model({"model": damaged}))
    assert [each.state for each in found] == ["ok", "broken"]
    assert "gramstyle model export" in str(found[1].remedy)
    (missing,) = places.model({"model": Answer({"cache": "/c"})})
    assert missing.state == "note"


def test_a_cache_that_cannot_be_written_is_a_note_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answers = {
        "model": Answer({"cache": str(tmp_path / "file" / "gramstyle")}),
        "numba": Answer({"cache": None}),
    }
    found = list(places.caches(answers))
    for name, variable in {"model cache": "XDG_CACHE_HOME", "compiled code": "NUMBA_CACHE"}.items():
        assert named(found, name).state == "note"
        assert variable in str(named(found, name).remedy)


def test_the_size_of_a_cache_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1_000_000))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(bytes(500_000))
    answers = {"model": Answer({"cache": str(tmp_path)})}
    assert named(list(places.caches(answers)), "model cache").value.endswith(", 1.5 MB")


@pytest.mark.parametrize("problem", ["", "OptionError: CUDA finds no GPU; install the driver"])
def test_a_gpu_is_named_or_the_reason_why_it_cannot_be_used(problem: str) -> None:
    (found,) = machine.gpu({"gpu": Answer({} if problem else {"name": "H200"}, problem)})
    assert found.state == ("note" if problem else "ok")
    assert ("CUDA finds no GPU" if problem else "H200") in found.value
