"""What a computation would take is known before it runs, for every kind there is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256

import pytest

from dataspace.computing.estimates import (
    LINK_BYTES_S,
    OVERHEAD_S,
    REFERENCE,
    Estimate,
    estimate,
    measure_costs,
)
from dataspace.computing.plans import Question, plan_of
from dataspace.errors import InputRejected
from privacy.errors import PrivacyError
from privacy.kinds import CONSUMER, KINDS, ConsumerSecrets, Inputs, Kind, Parameters, kind
from privacy.masking import MaskingKey
from privacy.paillier import PrivateKey, generate_keypair
from privacy.role import Outcome, Role, Send, run_in_memory


def needs_groups(found: Kind) -> bool:
    return any("group" in columns for columns in found.columns.values())


def question(name: str, rows: int) -> Question:
    """As few providers as the kind takes, everybody with so many rows."""
    found = kind(name)
    brings = [role for role in found.roles(found.providers[0]) if found.columns_of(role)]
    return Question(
        dict.fromkeys(brings, rows),
        Parameters(5, groups=("a", "b", "c") if needs_groups(found) else ()),
    )


def estimated(name: str, rows: int = 1000, workers: int = 2) -> Estimate:
    return estimate(kind(name), question(name, rows), workers=workers, costs=REFERENCE)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_has_an_estimate_that_grows_with_the_rows(name: str) -> None:
    small, large = estimated(name, 1000), estimated(name, 100_000)
    assert set(small.parties) == set(kind(name).roles(kind(name).providers[0]))
    assert OVERHEAD_S < small.seconds < large.seconds
    for role, party in small.parties.items():
        assert party.learns == kind(name).leakage_of(role)
        assert party.memory_bytes <= large.parties[role].memory_bytes
    sent = sum(party.sent_bytes for party in large.parties.values())
    assert sent == sum(party.received_bytes for party in large.parties.values()) > 0


class Counted:
    """Stands for curve arithmetic: commutes as it does, and counts how often it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.masked = self.raised = 0
        monkeypatch.setattr(MaskingKey, "mask", lambda key, names: self.mask(key, names))
        monkeypatch.setattr(
            MaskingKey, "raise_points", lambda key, points, _: self.raise_points(key, points)
        )

    def mask(self, key: MaskingKey, names: Sequence[str]) -> list[bytes]:
        self.masked += len(names)
        return [self._raised(key, sha256(name.encode()).digest()) for name in names]

    def raise_points(self, key: MaskingKey, points: Sequence[bytes]) -> list[bytes]:
        self.raised += len(points)
        return [self._raised(key, point[1:]) for point in points]

    def _raised(self, key: MaskingKey, x: bytes) -> bytes:
        return b"\2" + bytes(one ^ other for one, other in zip(x, key._scalar, strict=True))


def watched(me: str, role: Role, moved: Counter[tuple[str, str]]) -> Role:
    """The same role, with what it sends added up."""
    answer: bytes | None = None
    while True:
        try:
            step = role.send(answer)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        if isinstance(step, Send):
            moved[me, step.to] += len(step.payload)
        answer = yield step


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_keypair(2048)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_run_takes_what_was_planned(
    name: str, key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = question(name, 200)
    parameters = replace(asked.parameters, public_key=key.public_key.to_hex())
    parties = kind(name).roles(len(asked.providers))
    counted, moved = Counted(monkeypatch), Counter[tuple[str, str]]()
    rows = Inputs(tuple(map(str, range(200))), tuple(range(200)), ("a", "b", "c", "c") * 50)
    run_in_memory(
        {
            party: watched(
                party,
                kind(name).start(
                    party,
                    parties,
                    brought(name, party, rows),
                    parameters,
                    ConsumerSecrets(key) if party == CONSUMER and kind(name).needs_key else None,
                ),
                moved,
            )
            for party in parties
        }
    )
    plan = plan_of(name, asked)
    assert counted.masked == sum(work.masked for work in plan.parties.values())
    assert counted.raised == sum(work.raised for work in plan.parties.values())
    for link in {*moved, *plan.moved}:
        # Counts, verdicts and flags are not planned.
        assert plan.moved.get(link, 0) == pytest.approx(moved[link], rel=0.02, abs=300), link


def brought(name: str, party: str, rows: Inputs) -> Inputs:
    columns = kind(name).columns_of(party)
    return Inputs(
        rows.identifiers if "identifier" in columns else (),
        rows.values if "value" in columns else (),
        rows.groups if "group" in columns else (),
    )


def test_a_kind_that_nobody_planned_is_refused_by_name() -> None:
    with pytest.raises(InputRejected, match="no estimate for 'psi/9'"):
        plan_of("psi/9", Question({}, Parameters(5)))


def test_the_figures_are_those_of_the_protocol() -> None:
    asked = Question({"sender": 100_000, CONSUMER: 100_000}, Parameters(5))
    found = estimate(kind("psi/2"), asked, workers=2, costs=REFERENCE)
    # Two sets of 100,000: each masks one and raises the other, on two processors.
    assert found.computing_s == pytest.approx(100_000 * ((97e-6 + 70e-6) / 2 + 10e-6))
    # 40 bits and 2 x 17 of the size make ten bytes of a compared point.
    assert found.parties[CONSUMER].sent_bytes == 100_000 * (33 + 10)
    # The sender answers with a bit for each point it was sent.
    assert found.parties["sender"].sent_bytes == 100_000 * 33 + 100_000 // 8
    assert found.moving_s == pytest.approx(100_000 * (76 + 1 / 8) / LINK_BYTES_S)


def test_more_workers_here_make_only_this_partys_part_faster() -> None:
    one, eight = estimated("psi/2", 100_000, workers=1), estimated("psi/2", 100_000, workers=8)
    assert eight.parties[CONSUMER].seconds < one.parties[CONSUMER].seconds / 3
    assert eight.parties["sender"].seconds == one.parties["sender"].seconds


def test_memory_stays_flat_where_sets_are_compared_in_buckets() -> None:
    one, ten = (
        estimated("psi/2", rows).parties["sender"].memory_bytes for rows in (1_000_000, 10_000_000)
    )
    assert ten < 1.3 * one < 1.5e9


def test_a_kept_set_is_paid_for_once() -> None:
    first = plan_of("psi-cached/1", Question({"sender": 1_000_000, CONSUMER: 1000}, Parameters(5)))
    assert first.again is not None
    for role in ("sender", CONSUMER):
        once, again = first.parties[role], first.again.parties[role]
        assert again.masked + again.raised == 1000
        assert once.masked + once.raised == 1_001_000


def test_the_budget_is_what_was_asked_for() -> None:
    parameters = Parameters(
        5, groups=("a", "b"), epsilon=Decimal("0.25"), settings={"statistics": ("count",)}
    )
    asked = Question({"provider-1": 10, "provider-2": 10}, parameters)
    found = estimate(kind("aggregate/2"), asked, workers=2, costs=REFERENCE)
    assert found.epsilon == Decimal("0.25")
    refused = Question({"sender": 9, CONSUMER: 9}, Parameters(5, epsilon=Decimal("0.25")))
    with pytest.raises(PrivacyError, match="adds no noise"):
        estimate(kind("psi/2"), refused, workers=2, costs=REFERENCE)


def test_more_rows_than_the_kind_takes_are_refused() -> None:
    with pytest.raises(InputRejected, match="at most 200000 rows, got 200001"):
        estimated("private-sum/1", 200_001)


def test_a_party_without_a_number_of_rows_is_named() -> None:
    with pytest.raises(InputRejected, match="the rows of consumer are not given"):
        estimate(kind("psi/2"), Question({"sender": 5}, Parameters(5)), workers=2, costs=REFERENCE)


def test_this_machine_is_measured_within_reason() -> None:
    costs = measure_costs()
    assert 5e-6 < costs.raised < costs.masked < 5e-3
    assert 1e-5 < costs.encrypted < 1e-1
    assert REFERENCE.decrypted / REFERENCE.encrypted == pytest.approx(
        costs.decrypted / costs.encrypted
    )
