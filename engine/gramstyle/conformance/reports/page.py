"""The report of a run as one HTML page, which loads nothing and runs no script."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from gramstyle.conformance.comparing import Comparison
from gramstyle.conformance.reports.baseline import Changes
from gramstyle.conformance.reports.reporting import RATE, is_timed, rate, summary, verdict
from gramstyle.conformance.running import Report, Result

MEASURES = ("quantity", "verdict", "relative L2", "tolerance", "max abs", "cosine", "ulps")

STYLE = """\
:root { color-scheme: light dark; --page: #ffffff; --line: #c8ccd2; --soft: #f3f5f7;
  --text: #1c2026; --muted: #535b66; --good: #17683a; --bad: #a8121f; --link: #0b57a4; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --line: #3c434d; --soft: #21262d;
  --text: #e6e9ed; --muted: #a8b0bb; --good: #6fd394; --bad: #ff9097; --link: #8abfff; } }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; color: var(--text);
  background: var(--page); font: 1rem/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.5rem; } h3 { margin: 1.75rem 0 .25rem; }
a { color: var(--link); } p { margin: .5rem 0; max-width: 50rem; overflow-wrap: anywhere; }
.summary { font-size: 1.25rem; } .muted { color: var(--muted); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .375rem;
  margin: .75rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .5rem .75rem; color: var(--muted); }
th, td { padding: .3rem .75rem; text-align: left; } th, .number { white-space: nowrap; }
thead th { background: var(--soft); } tbody tr { border-top: 1px solid var(--line); }
th[scope=row] { font-weight: 500; } .number { text-align: right; }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 700; }
details { margin: .5rem 0; } summary { cursor: pointer; }
"""


def as_html(report: Report, *, subject: str, changes: Changes | None = None) -> bytes:
    """Return the report as an HTML page.

    Parameters
    ----------
    report
        The report to write.
    subject
        What was tested, and with which versions, in one line.
    changes
        How the report differs from a baseline, if there is one.
    """
    body = [
        "<h1>Conformance</h1>",
        f"<p>{escape(subject)}</p>",
        f'<p class="summary">{_verdict(not report.failed)}: {escape(summary(report))}</p>',
        *([_p(report.explanation)] if report.explanation else []),
        *(_changes(changes) if changes is not None else []),
        *_overview(report),
        *_failures(report),
        *_passes(report),
    ]
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Conformance: {escape(summary(report))}</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
{chr(10).join(body)}
</main>
</body>
</html>
""".encode()


def _overview(report: Report) -> Iterator[str]:
    """Yield a table with the worst quantity of each case."""
    rates = [RATE] if is_timed(report) else []
    header = ["case", "verdict", "worst quantity", "relative L2", "tolerance", *rates]
    rows = []
    for result in report.results:
        worst = result.worst
        cells = [
            f'<a href="#{_anchor(result)}">{escape(result.case)}</a>',
            _verdict(result.passed),
        ]
        if worst is None:
            cells += ["", "", ""]
        else:
            cells += [escape(worst.quantity), f"{worst.relative:.1e}", f"{worst.tolerance:g}"]
        if rates:
            cells.append(rate(result))
        rows.append(cells)
    yield "<h2>Cases</h2>"
    yield from _table("The worst quantity of each case", header, rows)


def _failures(report: Report) -> Iterator[str]:
    if report.failed:
        yield "<h2>Failed cases</h2>"
    for result in report.failed:
        yield f'<section id="{_anchor(result)}"><h3>{escape(result.case)}</h3>'
        yield f'<p class="muted">{escape(result.pins)}</p>'
        yield from map(_p, filter(None, (result.problem, result.where, result.explanation)))
        yield from _quantities(result)
        yield "</section>"


def _passes(report: Report) -> Iterator[str]:
    passed = [result for result in report.results if result.passed]
    if passed:
        yield "<h2>Passed cases</h2>"
    for result in passed:
        yield f"<details><summary>{escape(result.case)}: "
        yield f'<span class="muted">{escape(result.pins)}</span></summary>'
        # A browser opens the details for a link to something in them.
        yield f'<div id="{_anchor(result)}">'
        yield from _quantities(result)
        yield "</div></details>"


def _quantities(result: Result) -> Iterator[str]:
    if result.comparisons:
        rows = [_measures(each) for each in result.comparisons]
        yield from _table(f"All quantities of {result.case}", MEASURES, rows)


def _measures(each: Comparison) -> list[str]:
    problem = f": {escape(each.problem)}" if each.problem else ""
    return [
        escape(each.quantity),
        _verdict(each.passed) + problem,
        f"{each.relative:.1e}",
        f"{each.tolerance:g}",
        f"{each.largest:.1e}",
        f"{each.cosine:.6f}",
        f"{each.ulps:.3g}",
    ]


def _changes(changes: Changes) -> Iterator[str]:
    """Yield what differs from the baseline."""
    yield "<h2>Since the baseline</h2>"
    kinds = (
        ('<span class="failed">worse</span>', changes.worse),
        ('<span class="passed">better</span>', changes.better),
        ("new", changes.new),
    )
    rows = [
        [escape(name), kind, escape(sentence)]
        for kind, cases in kinds
        for name, sentence in cases.items()
    ]
    rows += [[escape(name), "not run", ""] for name in changes.missing]
    if rows:
        yield from _table("What differs", ("case", "change", "what"), rows)
    else:
        yield "<p>Nothing differs.</p>"


def _table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table that scrolls on a narrow screen; the first cell of a row names it."""
    numbers = {"relative L2", "tolerance", "max abs", "cosine", "ulps", RATE}
    classes = [' class="number"' if name in numbers else "" for name in header]
    yield f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table>'
    yield f"<caption>{escape(caption)}</caption>"
    names = zip(header, classes, strict=True)
    cells = "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in names)
    yield f"<thead><tr>{cells}</tr></thead><tbody>"
    for first, *others in rows:
        rest = "".join(f"<td{k}>{cell}</td>" for cell, k in zip(others, classes[1:], strict=True))
        yield f'<tr><th scope="row">{first}</th>{rest}</tr>'
    yield "</tbody></table></div>"


def _verdict(passed: bool) -> str:
    return f'<span class="{"passed" if passed else "failed"}">{verdict(passed)}</span>'


def _p(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _anchor(result: Result) -> str:
    return f"case-{escape(result.case.replace(' ', '-'))}"
