"""Is everything as it must be after the storm? Rules over pictures, each a function.

A rule yields a finding for everything that is not so. Rules know no database and no process: the
tests plant each defect and see it named.
"""

from __future__ import annotations

from tests.faults import rules_of_ends as ends
from tests.faults import rules_of_evidence as evidence
from tests.faults import rules_of_owners as owners
from tests.faults.scene import Finding, Rule, Scene

RULES: tuple[Rule, ...] = (
    ends.open_work,
    ends.open_processes,
    ends.failed_processes,
    ends.sides_agree,
    ends.agreements_agree,
    ends.signatures_verify,
    ends.explained_by_nodes,
    evidence.unanchored,
    evidence.evidence_of_agreements,
    evidence.evidence_of_orders,
    evidence.uses_counted,
    evidence.rows_came_once,
    evidence.consents_told,
    evidence.anchored_once,
    owners.asked_came_out,
    owners.nothing_unasked,
    owners.leftovers,
    owners.logs_quiet,
)


def judge(scene: Scene) -> list[Finding]:
    """What every rule finds."""
    return [finding for rule in RULES for finding in rule(scene)]


def unfinished(scene: Scene) -> list[Finding]:
    """What is still under way: everything must come to an end, or wait for a person."""
    return [
        *ends.open_processes(scene),
        *ends.open_work(scene),
        *evidence.unanchored(scene),
        # A spool goes a moment after the commit that ends its computation.
        *owners.leftovers(scene),
    ]
