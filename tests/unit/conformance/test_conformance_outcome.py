"""How the conformance kit's output is read: what counts as conformance, and what does not."""

from __future__ import annotations

from collections import Counter

from contracts.negotiation import NegotiationState
from contracts.party import Party
from contracts.strategy import Situation, Verb
from tests.conformance.cases import (
    SECTIONS,
    SWITCHED_OFF,
    expected_cases,
    named_in_settings,
    offer_id,
    subjects,
)
from tests.conformance.claims_cases import CASES, PRESENTING, expected_claims_cases
from tests.conformance.outcome import closing_line, findings, joined, read_outcome, without
from tests.conformance.script import (
    CONSUMER,
    PROVIDER,
    TRANSFER_CONSUMER,
    TRANSFER_PROVIDER,
    NegotiationScript,
    offer_of,
)

EXPECTED = frozenset({"CN:01-01", "CN:01-02"})


def printed(*lines: str, ended: bool = True) -> str:
    return "\n".join([*lines, "KIT ENDED"] if ended else lines)


def told(result: str, case: str) -> str:
    return f"[2026-11-25T06:56:24.018419383] {result}: {case}"


def test_sixty_five_cases_run_and_the_two_that_the_kit_switched_off_do_not() -> None:
    sizes = Counter(case.partition(":")[0] for case in expected_cases())

    assert sizes == {"MET": 1, "CAT": 3, "CN": 15, "CN_C": 16, "TP": 15, "TP_C": 15}
    assert expected_cases().isdisjoint(SWITCHED_OFF)
    assert sum(map(sum, SECTIONS.values())) == len(expected_cases()) + len(SWITCHED_OFF) == 67


def test_the_script_has_moves_for_cases_of_the_kit_only() -> None:
    for group, script in {
        "CN": PROVIDER,
        "CN_C": CONSUMER,
        "TP": TRANSFER_PROVIDER,
        "TP_C": TRANSFER_CONSUMER,
    }.items():
        assert script.keys() <= set(subjects(group))


def test_the_settings_say_what_every_case_is_about() -> None:
    settings = named_in_settings()

    about = [name for name in settings if name.endswith(("_DATASETID", "_AGREEMENTID"))]
    # All but the one about metadata, which is about nothing further.
    assert len(about) == 67 - 1
    assert settings["CN_C_02_05_DATASETID"] == "ACNC0205"
    assert settings["TP_C_03_06_AGREEMENTID"] == "ATPC0306"
    # These two are fixed in the kit's own code.
    assert settings["CN_01_02_DATASETID"] == "ACN0102"
    assert settings["CN_01_02_OFFERID"] == "CD123:ACN0102:456"


def test_a_second_visit_of_a_state_gets_the_second_move_and_a_third_none() -> None:
    script = NegotiationScript()
    situation = Situation(
        Party.PROVIDER, NegotiationState.REQUESTED, "ACN0102", offer_of("ACN0102"), None
    )

    first, second, third = script(situation), script(situation), script(situation)

    assert first.verb is Verb.OFFER
    assert first.offer is not None
    assert first.offer.id == offer_id("ACN0102")
    assert (second.verb, third.verb) == (Verb.TERMINATE, Verb.NOTHING)


def test_a_run_in_which_every_expected_case_passed_has_no_findings() -> None:
    outcome = read_outcome(
        printed(told("SUCCESSFUL", "CN:01-01"), "Sending offer", told("SUCCESSFUL", "CN:01-02"))
    )

    assert findings(outcome, EXPECTED) == []
    assert closing_line(outcome) == "2 passed, 0 failed"


def test_a_failure_is_told_with_the_kits_own_reason() -> None:
    outcome = read_outcome(
        printed(
            told("SUCCESSFUL", "CN:01-01"),
            told("FAILED", "CN:01-02"),
            "REASON: CN:01-02: Verify contract request",
            "  AssertionError: Unexpected response code: 500",
            "  second line",
        )
    )

    assert closing_line(outcome) == "1 passed, 1 failed"
    assert findings(outcome, EXPECTED) == [
        "FAILED CN:01-02: Verify contract request\n"
        "  AssertionError: Unexpected response code: 500\n"
        "  second line"
    ]


def test_an_aborted_case_and_one_that_failed_once_of_two_times_have_failed() -> None:
    outcome = read_outcome(
        printed(
            told("ABORTED", "CN:01-01"),
            told("FAILED", "CN:01-02"),
            told("SUCCESSFUL", "CN:01-02"),
        )
    )

    assert outcome.failed == EXPECTED
    assert findings(outcome, EXPECTED) == ["FAILED CN:01-01", "FAILED CN:01-02"]


def test_a_case_that_did_not_run_or_was_not_expected_is_a_finding_though_none_failed() -> None:
    outcome = read_outcome(printed(told("SUCCESSFUL", "CN:01-01"), told("SUCCESSFUL", "XX:09-09")))

    assert not outcome.failed
    assert findings(outcome, EXPECTED) == ["DID NOT RUN CN:01-02", "NOT EXPECTED XX:09-09"]


def test_cases_that_could_not_begin_are_told_by_their_class() -> None:
    outcome = read_outcome(
        printed("REASON: ContractNegotiationProvider01Test", "  Address already in use")
    )

    assert findings(outcome, EXPECTED) == [
        "FAILED ContractNegotiationProvider01Test\n  Address already in use",
        "DID NOT RUN CN:01-01 CN:01-02",
    ]


def test_a_kit_that_broke_off_is_a_finding_though_every_case_had_passed() -> None:
    lines = [told("SUCCESSFUL", "CN:01-01"), told("SUCCESSFUL", "CN:01-02"), "out of memory"]

    found = findings(read_outcome(printed(*lines, ended=False)), EXPECTED)

    assert len(found) == 1
    assert found[0].startswith("THE KIT BROKE OFF\n")
    assert found[0].endswith("  out of memory")


def test_eighty_five_cases_of_the_claims_kit_run_in_four_sections() -> None:
    sizes = {section: len(expected_claims_cases(section)) for section in CASES}
    assert sizes == {
        "presentation.verifier": 20,
        "presentation.cs": 16,
        "issuance.cs": 24,
        "issuance.issuer": 25,
    }


def test_sections_of_the_claims_kit_count_together_and_none_hides_anothers_failure() -> None:
    first = read_outcome(printed("SUCCESSFUL: presentation.cs:cs_05_02_endpointDiscovery"))
    second = read_outcome(
        printed(
            "SUCCESSFUL: issuance.issuer:is_6_7_issuerMetadata",
            "FAILED: issuance.issuer:is_6_4_1_credentialRequest",
            "REASON: issuance.issuer:is_6_4_1_credentialRequest",
            "  expected a CredentialMessage",
            ended=False,
        )
    )
    both = joined([first, second])
    assert closing_line(both) == "2 passed, 1 failed"
    found = "\n".join(findings(both, frozenset({"presentation.cs:cs_05_02_endpointDiscovery"})))
    assert "FAILED issuance.issuer:is_6_4_1_credentialRequest" in found
    assert "expected a CredentialMessage" in found
    assert "NOT EXPECTED issuance.issuer:is_6_4_1_credentialRequest" in found
    assert "BROKE OFF" in found


def test_a_case_that_the_kit_fails_against_itself_is_the_only_one_left_out() -> None:
    unfit = f"{PRESENTING}:cs_05_04_01_02_invalidScopeEscalationRequest"
    other = f"{PRESENTING}:cs_05_02_endpointDiscovery"
    outcome = read_outcome(printed(f"FAILED: {unfit}", f"FAILED: {other}"))
    left = without(outcome, frozenset({unfit}))
    assert left.failed == {other}
    assert findings(left, frozenset({other})) == [f"FAILED {other}"]
