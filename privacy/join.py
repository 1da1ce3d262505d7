"""Sums over the people two parties have in common, at any size and by group, for the consumer.

The sets are compared in buckets (`privacy.exchange`). The guest has the values: it attaches to each
of its masked points one ciphertext, under the consumer's key, of what `privacy.join_values` counts
of that identifier. The gate sees which points match, and adds their ciphertexts up unread. When all
buckets are done it decides what may be told, and sends that to the consumer, re-randomised.

    1. to 5.              as `privacy.exchange` has them
    6. gate -> consumer   result    a flag for each group, a ciphertext of the whole, and one of
                                    each group that is not withheld; or that all of it is withheld
    7. gate -> guest      verdict   whether it was told, where the guest is not the consumer

The groups are one party's column. The guest's go with its points; the gate's go with its own, and
come back to it with them under both keys, their order destroyed.

Source: Ion et al., "On Deploying Secure Computing: Private Intersection-Sum-with-Cardinality",
EuroS&P 2020 (ePrint 2019/723), section 4, with the values under the key of the consumer, who never
sees an identifier or a single ciphertext of them. It holds for semi-honest parties; what it does
not exclude is said in `leakage`, and in docs/protocols/private-join.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from privacy.buckets import Elements, lay_out
from privacy.computation import CONSUMER, Inputs, Kind, Parameters, RoleContext
from privacy.disclosure import MIN_COHORT, receive_verdict
from privacy.errors import InputRejected, Withheld
from privacy.exchange import Compared, gate, guest
from privacy.join_sides import Join
from privacy.join_values import MAX_IDENTIFIERS, SETTINGS, decide, question_of, told
from privacy.role import JsonValue, Outcome, Role, Steps

LEFT, RIGHT, PROVIDER = "left", "right", "provider"
# The gate's result, once decided: sent again after a crash, so that noise is drawn only once.
ANSWER_FILE = "answer"


def _gate(join: Join) -> Role:
    """Compare, add up what is common, decide what is told."""
    context = join.context
    sent_groups: list[bytes] = []

    def attach(elements: Elements, identifiers: Sequence[str]) -> Steps[list[bytes]]:
        yield from ()
        if join.question.groups_of != join.gate:
            return [b""] * len(identifiers)
        sent_groups[:] = join.group_bytes(elements, identifiers)
        return list(sent_groups)

    def take(compared: Compared) -> Steps[None]:
        join.keep(compared.number, (yield from join.add_common(compared, sent_groups)))

    tell = [(CONSUMER, "result")] if join.guest != CONSUMER else []
    met = yield from gate(context, join.guest, join.shape(), take, attach=attach, tell=tell)
    totals = join.kept(met.of)
    answer = context.spool.get(ANSWER_FILE)
    if answer is None:
        answer = yield from join.answer(totals)
        context.spool.put(ANSWER_FILE, answer)
    yield from join.disclose(answer)
    return Outcome({"count": sum(total.count for total in totals)}, met.own.report())


def _compare_as_guest(join: Join) -> Steps[Mapping[str, int]]:
    own = yield from lay_out(join.context)
    yield from join.verify_values(own)
    shape = join.shape()
    yield from guest(join.context, join.gate, shape, take_nothing, attach=join.attach_values)
    return own.report()


def take_nothing(_: Compared) -> Steps[None]:
    """Keep nothing of a bucket."""
    yield from ()


def _guest(join: Join) -> Role:
    """Compare with encrypted values."""
    report = yield from _compare_as_guest(join)
    yield from receive_verdict(join.gate, "verdict", 0)
    return Outcome(None, report)


def _consumer(join: Join) -> Role:
    """Read the result."""
    return Outcome((yield from join.result()))


def _consumer_as_guest(join: Join) -> Role:
    """Compare with the own encrypted values, and read the result."""
    report = yield from _compare_as_guest(join)
    return Outcome((yield from join.result()), report)


def _start(context: RoleContext) -> Role:
    roles = {LEFT: _gate, RIGHT: _guest, CONSUMER: _consumer}
    return roles[context.role](Join.of(context, LEFT, RIGHT))


def _start_own(context: RoleContext) -> Role:
    roles = {PROVIDER: _gate, CONSUMER: _consumer_as_guest}
    return roles[context.role](Join.of(context, PROVIDER, CONSUMER))


# --- In the clear --------------------------------------------------------------------------------


def totals_by_identifier(identifiers: Sequence[str], values: Sequence[int]) -> dict[str, int]:
    """Add up the values of every identifier."""
    totals: dict[str, int] = {}
    for identifier, value in zip(identifiers, values, strict=True):
        totals[identifier] = totals.get(identifier, 0) + value
    return totals


def _groups_by_identifier(rows: Inputs) -> dict[str, str]:
    groups: dict[str, str] = {}
    for identifier, group in zip(rows.identifiers, rows.groups, strict=True):
        if groups.setdefault(identifier, group) != group:
            raise InputRejected("column group: an identifier is in more than one group")
    return groups


def join_in_clear(
    gate_party: str, guest_party: str
) -> Callable[[Mapping[str, Inputs], Parameters], JsonValue]:
    """Return what computes the result of these two parties in the clear, without noise."""

    def compute(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
        question = replace(question_of(parameters, gate_party, guest_party), epsilon=None)
        values = totals_by_identifier(inputs[guest_party].identifiers, inputs[guest_party].values)
        if question.moments > 1:
            for value in values.values():
                question.verify_value(value)
        common = values.keys() & set(inputs[gate_party].identifiers)
        groups = _groups_by_identifier(inputs[question.groups_of]) if question.groups_of else {}
        cells = [
            [values[x] for x in common if not question.groups or groups[x] == group]
            for group in question.groups or ("",)
        ]
        moments = [
            (len(cell), sum(cell), sum(value**2 for value in cell))[: question.moments]
            for cell in cells
        ]
        whole = tuple(sum(each) for each in zip(*moments, strict=True))
        withheld = decide(question, [cell[0] for cell in moments], whole[0])
        if withheld is None:
            raise Withheld(MIN_COHORT)
        shown = [cell for cell, hidden in zip(moments, withheld, strict=False) if not hidden]
        return told(question, [whole, *(shown if question.groups else ())], withheld)

    return compute


# --- Kinds ---------------------------------------------------------------------------------------

RESULT = (
    '{"count": n, "sum": "12.50", "mean": "…", "variance": "…"}, as `statistics` asks, over '
    "identifiers, each with the sum of its rows; decimal numbers as text, the mean and the "
    "(sample) variance with 6 digits more than the values, null where there are too few"
)
_GROUPED_RESULT = (
    RESULT + '; with groups {…, "groups": {g: {the same}, …}, "withheld": [g, …]} besides'
)
_SIZES = "How many distinct identifiers the other has"
_GATE_LEARNS = (
    f"{_SIZES}, how many are common, with groups how many of each group, even when that is "
    "withheld, but not which, and no value. Where the groups are those of {guest}, how many of its "
    "identifiers are in each. {Gate} alone applies the minimum cohort, to the whole and to each "
    "group, and adds the noise where the order has an epsilon. "
)
_GUEST_LEARNS = (
    f"{_SIZES}, where the groups are those of {{gate}} how many are in each, and whether the "
    "result was let go. "
)


def statistics_learnt(*, grouped: bool) -> str:
    """Say what a consumer learns who is told statistics."""
    of = "Of the whole and of each group that is shown: the" if grouped else "The"
    withheld = (
        "And which groups are withheld, not why: groups below the minimum cohort, and further ones "
        "where these could otherwise be computed. Or only that all of it is withheld. "
        if grouped
        else "Or only that it is withheld. "
    )
    return (
        f"{of} count, and as the order asks the sum (for a mean too) and the sum of squares (for a "
        f"variance), with noise where the order has an epsilon. {withheld}"
    )


def _gate_learns(gate_party: str, guest_party: str) -> str:
    return _GATE_LEARNS.format(Gate=gate_party.capitalize(), guest=guest_party)


def check_settings_of(gate_party: str, guest_party: str) -> Callable[[Parameters], None]:
    """Return what checks the parameters of a kind with these two parties."""

    def check(parameters: Parameters) -> None:
        question_of(parameters, gate_party, guest_party)

    return check


PRIVATE_SUM_2 = Kind(
    name="private-sum/2",
    title="Sum, mean and variance of one provider's value over the people it has in common with "
    "another, also by group",
    title_zh="两个提供方共有的人或物,其中一方数值的总和、均值与方差,可分组",
    leakage={
        LEFT: _gate_learns(LEFT, RIGHT) + "If left and the consumer share what they have, they can "
        "decrypt every single value of right, without knowing whose it is.",
        RIGHT: _GUEST_LEARNS.format(gate=LEFT) + "It relies on left for the minimum cohort.",
        CONSUMER: statistics_learnt(grouped=True)
        + "If right and the consumer share what they have, right can "
        "choose its values so that the sum tells which of its people are common.",
    },
    result={LEFT: '{"count": n}', RIGHT: "nothing", CONSUMER: _GROUPED_RESULT},
    columns={LEFT: ("identifier",), RIGHT: ("identifier", "value"), CONSUMER: ()},
    optional={LEFT: ("group",), RIGHT: ("group",)},
    providers=(2, 2),
    needs_key=True,
    max_rows=MAX_IDENTIFIERS,
    party_names=lambda _: (LEFT, RIGHT),
    start_role=_start,
    compute_in_clear=join_in_clear(LEFT, RIGHT),
    settings=SETTINGS,
    check_settings=check_settings_of(LEFT, RIGHT),
    resumable=True,
    adds_noise=True,
)

PRIVATE_SUM_OWN = Kind(
    name="private-sum-own/1",
    title="Sum, mean and variance of the consumer's own values over the people that a provider has "
    "too, also by group",
    title_zh="消费方自有数值在提供方也有的人或物上的总和、均值与方差,可分组",
    leakage={
        PROVIDER: _gate_learns(PROVIDER, CONSUMER) + "Every value is encrypted under the key of "
        "the consumer.",
        CONSUMER: f"{_SIZES}, where the groups are those of provider how many are in each. "
        + statistics_learnt(grouped=True)
        + "It may bring identifiers that it only guessed, and choose its values so that the sum "
        "tells which of them are common, unless the order has an epsilon: the minimum cohort "
        "limits that and does not exclude it.",
    },
    result={PROVIDER: '{"count": n}', CONSUMER: _GROUPED_RESULT},
    columns={PROVIDER: ("identifier",), CONSUMER: ("identifier", "value")},
    optional={PROVIDER: ("group",), CONSUMER: ("group",)},
    providers=(1, 1),
    needs_key=True,
    max_rows=MAX_IDENTIFIERS,
    party_names=lambda _: (PROVIDER,),
    start_role=_start_own,
    compute_in_clear=join_in_clear(PROVIDER, CONSUMER),
    settings=SETTINGS,
    check_settings=check_settings_of(PROVIDER, CONSUMER),
    resumable=True,
    adds_noise=True,
)
