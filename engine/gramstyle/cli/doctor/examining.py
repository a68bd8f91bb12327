"""The examination as a whole: every check, in the order in which it is shown."""

from collections.abc import Callable, Iterable
from functools import partial

from gramstyle.cli.doctor import installation, machine, places
from gramstyle.cli.doctor.asking import ask
from gramstyle.cli.doctor.finding import Finding, Report, guarded


def examine() -> Report:
    """Examine the installation, the machine and the model. Nothing is built or downloaded.

    Returns
    -------
    Report
        The findings. No state of the installation raises an error.

    Examples
    --------
    >>> from gramstyle.cli.doctor import examine
    >>> report = examine()
    >>> [finding.name for finding in report.findings][0]
    'gramstyle'
    """
    try:
        imports = installation.to_import()
    except Exception:  # the metadata are damaged, which `packages` reports
        imports = []
    gpu = ["gpu"] if "import:cupy" in imports else []
    answers = ask([*imports, "engines", "budget", "model", "blas", "numba", *gpu])
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("program", installation.program),
        ("packages", partial(installation.packages, answers)),
        ("packages", lambda: installation.runtimes(installation.installed_runtimes())),
        ("engines", partial(installation.engines, answers)),
        ("model", partial(places.model, answers)),
        ("machine", partial(machine.resources, answers)),
        ("machine", partial(machine.blas, answers)),
        ("machine", partial(machine.gpu, answers)),
        ("files", partial(places.caches, answers)),
        ("environment", machine.variables),
    ]
    return Report(tuple(each for section, check in checks for each in guarded(section, check)))
