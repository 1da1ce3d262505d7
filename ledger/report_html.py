"""An audit report as one HTML file for people: to read, print and keep.

The file asks nothing of the network and runs no script. All that comes from logs is escaped, for
their owners write it. Findings keep their English sentence in every language: it is the evidence as
the auditor stated it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ledger.report import Check, Finding, LogSummary, Report
from ledger.report_words import WORDS, Language, Words

# Texts of logs are shown to people who act on them: characters that reorder or hide what stands
# around them are shown as their number instead.
_UNSEEN_RANGES = (
    range(0x20),
    range(0x7F, 0xA0),
    range(0x61C, 0x61D),
    range(0x200B, 0x2010),
    range(0x2028, 0x202F),
    range(0x2060, 0x2070),
    range(0xFEFF, 0xFF00),
)
_UNSEEN = {code: f"\\u{code:04x}" for codes in _UNSEEN_RANGES for code in codes}

_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .25rem } h2 { font-size: 1.15rem; margin-top: 2rem }
.verdict { padding: .6rem .9rem; border-left: .4rem solid; font-weight: 600 }
.clean { border-color: #1b7f3b; background: #eef8f1 }
.found { border-color: #b3261e; background: #fdeeed }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { border: 1px solid #bbb; padding: .35rem .5rem; text-align: left; vertical-align: top }
th { background: #f2f2f2 } td.number { text-align: right; font-variant-numeric: tabular-nums }
td { overflow-wrap: anywhere } code { font-size: .85em; color: #555 }
tr { break-inside: avoid } thead { display: table-header-group }
@media print { body { margin: 0; max-width: none; font-size: 10pt } .scroll { overflow: visible } }
"""


def render(report: Report, *, language: Language) -> str:
    """The report as a whole HTML document, to be stored as UTF-8."""
    words = WORDS[language]
    verdict = (
        f'<p class="verdict clean">{words.clean}</p>'
        if report.ok
        else f'<p class="verdict found">{words.found.format(count=len(report.findings))}</p>'
    )
    sections = [
        f"<h1>{words.title}</h1>",
        verdict,
        _findings(report.findings, words),
        f"<h2>{words.logs}</h2>",
        _table(words.log_columns, (_log_row(log, words) for log in report.logs)),
        f"<h2>{words.checks_title}</h2>",
        _table(words.check_columns, (_check_row(check, words) for check in report.checks)),
        f"<h2>{words.limits_title}</h2>",
        f"<ul>{''.join(f'<li>{limit}</li>' for limit in words.limits)}</ul>",
    ]
    return (
        f'<!doctype html>\n<html lang="{words.code}">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{words.title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def _findings(findings: Sequence[Finding], words: Words) -> str:
    if not findings:
        return ""
    rows = (_finding_row(number, one, words) for number, one in enumerate(findings, start=1))
    return f"<h2>{words.findings_title}</h2>\n{_table(words.finding_columns, rows)}"


def _finding_row(number: int, finding: Finding, words: Words) -> str:
    # A judge may bring findings of its own, whose code then has to speak for itself.
    meaning = words.findings.get(finding.code, "")
    entry = words.no_entry if finding.index is None else str(finding.index)
    return (
        f'<td class="number">{number}</td>'
        f"<td>{meaning} <code>{_safe(finding.code)}</code></td>"
        f"<td>{_safe(finding.origin)}</td><td>{entry}</td><td>{_safe(finding.sentence)}</td>"
    )


def _log_row(log: LogSummary, words: Words) -> str:
    notes = [words.revoked] if log.revoked else []
    if log.size > 0 and not log.entries_shown:
        notes.append(words.hidden)
    figures = (
        log.size,
        log.entries_read,
        log.entries_opened,
        log.entries_erased,
        log.anchors,
        log.anchored_size,
        log.unanchored,
        log.resumed_from,
    )
    return (
        f"<td>{_safe(log.origin)}{''.join(f' <strong>({note})</strong>' for note in notes)}</td>"
        f"<td>{_safe(log.owner)}</td>"
        + "".join(f'<td class="number">{figure}</td>' for figure in figures)
        + f"<td>{_safe(', '.join(log.witnesses)) or '–'}</td>"
    )


def _check_row(check: Check, words: Words) -> str:
    if check.done >= check.total:
        state = words.complete
    else:
        state = words.partial if check.done else words.not_done
    return (
        f"<td>{words.checks[check.code]}</td>"
        f'<td class="number">{check.done}</td><td class="number">{check.total}</td><td>{state}</td>'
    )


def _table(columns: Iterable[str], rows: Iterable[str]) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n'
        "</table></div>"
    )


def _safe(text: str) -> str:
    """Text of others as HTML text, with nothing in it that is not seen."""
    return escape(text.translate(_UNSEEN).encode("utf-8", "backslashreplace").decode())
