"""The printed report: all of the evidence, in two languages, and nothing a log can smuggle in."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import ledger
from ledger.audit import audit
from ledger.report import CHECKS, Check, Finding, LogSummary, Report
from ledger.report_html import render
from ledger.report_words import CHINESE, ENGLISH, WORDS, Language

from .space import Space

LANGUAGES = pytest.mark.parametrize("language", ["en", "zh"])


class Page(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def tampered() -> Report:
    space = Space()
    space.water.sealed[1] = space.water.replace_body(1, decision="deny")
    return space.audit()


@LANGUAGES
def test_every_finding_is_shown_with_origin_index_and_sentence(
    tampered: Report, language: Language
) -> None:
    page = Page(render(tampered, language=language))
    for finding in tampered.findings:
        assert finding.sentence in page.text
        assert finding.code in page.text
        assert finding.origin in page.text
    assert page.tags.count("tr") == 3 + len(tampered.findings) + len(tampered.logs) + len(CHECKS)
    assert str(len(tampered.findings)) in page.text


def test_the_two_languages_say_the_same_in_their_words(tampered: Report) -> None:
    english, chinese = (render(tampered, language=language) for language in ("en", "zh"))
    assert '<html lang="en">' in english
    assert '<html lang="zh-CN">' in chinese
    assert "An entry&#x27;s content was altered" not in english
    assert "An entry's content was altered" in english
    assert "条目内容被篡改" in chinese
    assert "条目内容被篡改" not in english


@LANGUAGES
def test_what_was_not_checked_is_said(tampered: Report, language: Language) -> None:
    words = WORDS[language]
    text = Page(render(tampered, language=language)).text
    for code in CHECKS:
        assert words.checks[code] in text
    assert text.count(words.not_done) == 3
    assert words.partial in text
    for limit in words.limits:
        assert limit in text


@LANGUAGES
def test_a_clean_report_says_so(language: Language) -> None:
    html = render(Space().audit(), language=language)
    assert WORDS[language].clean in html
    assert WORDS[language].findings_title not in html


@LANGUAGES
def test_nothing_is_asked_of_the_network_and_no_script_runs(
    tampered: Report, language: Language
) -> None:
    html = render(tampered, language=language)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form", "a"} & set(page.tags)
    assert not {name for name, _ in page.attributes} & {"src", "href", "onload", "style"}
    assert "url(" not in html
    assert "@import" not in html


HOSTILE = "<script>alert(1)</script>\"'&\u202e\u200b\x00\ud800</td>"


@LANGUAGES
def test_what_logs_say_is_escaped_wherever_it_stands(language: Language) -> None:
    log = LogSummary(HOSTILE, HOSTILE, True, 1, 1, 0, 0, 1, False, 0, 0, 0, (HOSTILE,))
    report = Report((log,), (Finding(HOSTILE, HOSTILE, 0, HOSTILE),), (Check("logs-read", 0, 1),))
    html = render(report, language=language)
    assert "script" not in Page(html).tags
    assert Page(html).text.count("<script>alert(1)</script>\"'&\\u202e\\u200b\\u0000") == 6
    assert WORDS[language].revoked in html
    assert WORDS[language].hidden in html
    html.encode()


def test_every_code_an_audit_can_report_has_its_words_in_both_languages() -> None:
    package = Path(ledger.__file__).parent
    codes = set()
    for name in ("audit", "examination", "records", "crossmatch"):
        source = (package / f"{name}.py").read_text()
        codes |= set(re.findall(r'(?:Finding|report)\(\s*"([a-z]+(?:-[a-z]+)+)"', source))
    # The node's judge of uses reports through the same auditor.
    judge = (package.parent / "dataspace" / "judging.py").read_text()
    codes |= set(re.findall(r'"((?:use|decision|budget)-[a-z-]+)"', judge))
    assert len(codes) > 20
    assert codes == set(ENGLISH.findings) == set(CHINESE.findings)
    assert set(CHECKS) == set(ENGLISH.checks) == set(CHINESE.checks)
    for words in (ENGLISH, CHINESE):
        assert (len(words.log_columns), len(words.finding_columns)) == (11, 5)


def test_every_row_has_as_many_cells_as_its_table_has_columns(tampered: Report) -> None:
    html = render(tampered, language="en")
    for table in re.findall(r"<table>.*?</table>", html, re.DOTALL):
        columns = table.count("<th ")
        rows = re.findall(r"<tr>(<td.*?)</tr>", table, re.DOTALL)
        assert rows
        assert all(len(re.findall("<td[ >]", row)) == columns for row in rows)


def test_a_code_of_the_judges_own_speaks_for_itself(tampered: Report) -> None:
    finding = Finding("budget-overspent", "o", 3, "The budget was spent twice.")
    html = render(replace(tampered, findings=(finding,)), language="zh")
    assert "budget-overspent" in html
    assert "The budget was spent twice." in html


def test_the_report_of_a_real_audit_is_of_moderate_size() -> None:
    space = Space()
    assert len(render(audit(space, {}), language="en")) < 20_000
