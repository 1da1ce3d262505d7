"""What is asked about the people two parties have in common: statistics, slots, groups, noise.

The value of an identifier is the sum over its rows. Three moments can be summed over the common
identifiers: 1 for each (their count), the values, and the squares of the values. One plaintext
holds those that are asked for side by side, each in a signed slot of its own.

No total ever leaves its slot. Let v be `value_bits` and N the most identifiers of one run.

1. Who encrypts refuses an identifier whose value is not below 2^v on both sides of 0, so that an
   identifier adds at most 1, 2^v - 1 or (2^v - 1)^2: its bound.
2. A total of N identifiers lies within N bounds on both sides of 0. Noise, where it is asked for,
   lies within 2^63 + 1 units (OpenDP draws 64-bit numbers; for the unit see `noise_of`).
3. A slot of w bits holds -2^(w-1) to 2^(w-1) - 1, and w is such that 2^(w-1) is more than both of
   these together. The lowest slot is read first and taken off, so none borrows from the next.
4. The widths add up to at most 389 bits; a plaintext of the smallest key has 2046.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from privacy.computation import MAX_IDENTIFIER_CHARACTERS, Inputs, Parameters, Rows
from privacy.disclosure import is_small_group, reaches_cohort
from privacy.errors import InputRejected, ProtocolViolation
from privacy.noise import UNIT_BITS, cohort_threshold, noisy_sum, share_of, verify_epsilon
from privacy.paillier import RandomBytes
from privacy.role import JsonValue
from privacy.tables import DEFAULT_STATISTICS, MAX_DECIMALS, MOMENTS, told_of

MAX_IDENTIFIERS = 2_000_000
# 2^21 rows of values below 2^63 add up to less than 2^84, so nothing is ever refused by default.
MAX_VALUE_BITS = 84
# Every group costs a ciphertext in the result and one for each bucket in the gate's spool.
MAX_GROUPS = 64
# The noise of OpenDP, in units.
_NOISE_BITS = 64
SETTINGS = ("statistics", "valueBits", "decimals", "groupsOf")


@dataclass(frozen=True)
class Question:
    """What an order asks, read out of its parameters.

    `decimals` of 2 says that the value 1250 means 12.50. `groups_of` is the party that has the
    column of groups, None where there are no `groups`. `epsilon` is the privacy loss of each of the
    numbers that are told, None for no noise.
    """

    min_cohort: int
    groups: tuple[str, ...] = ()
    groups_of: str | None = None
    statistics: tuple[str, ...] = DEFAULT_STATISTICS
    value_bits: int = MAX_VALUE_BITS
    decimals: int = 0
    epsilon: Decimal | None = None

    @property
    def cells(self) -> int:
        """How many totals are kept apart: one for each group, or one."""
        return len(self.groups) or 1

    @property
    def moments(self) -> int:
        """How many moments are summed: 1 the count, 2 the values too, 3 their squares too."""
        return max(MOMENTS[name] for name in self.statistics)

    @property
    def bounds(self) -> tuple[int, ...]:
        """The most that one identifier adds to each of these sums, or takes away."""
        largest = (1 << self.value_bits) - 1
        return (1, largest, largest**2)[: self.moments]

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits of each slot, the lowest first."""
        return tuple(
            2 + max((MAX_IDENTIFIERS * bound).bit_length(), self._noise_bits(bound))
            for bound in self.bounds
        )

    def _noise_bits(self, bound: int) -> int:
        return 0 if self.epsilon is None else _unit(bound).bit_length() + _NOISE_BITS

    def encode(self, moments: Sequence[int]) -> int:
        """Put one number in each slot."""
        plaintext, shift = 0, 0
        for number, width in zip(moments, self.widths, strict=True):
            plaintext += number << shift
            shift += width
        return plaintext

    def of_value(self, value: int) -> int:
        """Return the plaintext of one identifier with this value."""
        return self.encode((1, value, value * value)[: self.moments])

    def decode(self, plaintext: int, sender: str) -> tuple[int, ...]:
        """Read what the slots hold; ProtocolViolation where there is more than they can."""
        numbers = []
        for width in self.widths:
            half = 1 << (width - 1)
            number = (plaintext + half) % (2 * half) - half
            numbers.append(number)
            plaintext = (plaintext - number) >> width
        if plaintext:
            raise ProtocolViolation(f"{sender} sent a total that is not packed as agreed")
        return tuple(numbers)

    def verify_value(self, value: int) -> None:
        """Raise InputRejected, without the value, where that of an identifier is out of bounds."""
        if abs(value) >> self.value_bits:
            raise InputRejected(
                "column value: the rows of an identifier do not add up to less than the declared "
                f"bound of 2**{self.value_bits} (valueBits)"
            )


def is_dummy(identifier: str) -> bool:
    """Tell whether an element stands for no row: it is longer than the identifier of one can be."""
    return len(identifier) > MAX_IDENTIFIER_CHARACTERS


def question_of(parameters: Parameters, gate: str, guest: str) -> Question:
    """Read what an order asks of these two parties.

    Raises InputRejected, naming the setting, for one that cannot be used.
    """
    settings = parameters.settings
    question = Question(
        parameters.min_cohort,
        parameters.groups,
        _groups_of(parameters, gate, guest),
        _statistics(settings.get("statistics", DEFAULT_STATISTICS)),
        _integer(settings.get("valueBits", MAX_VALUE_BITS), "valueBits", 1, MAX_VALUE_BITS),
        _integer(settings.get("decimals", 0), "decimals", 0, MAX_DECIMALS),
        _epsilon(parameters),
    )
    if question.epsilon is not None and question.moments > 1 and "valueBits" not in settings:
        raise InputRejected(
            "parameters: noise grows with the bound of the values, so an order with an epsilon is "
            "to declare valueBits"
        )
    return question


def _integer(value: JsonValue, name: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InputRejected(f"parameters: {name} is to be an integer from {least} to {most}")
    return value


def _statistics(given: JsonValue) -> tuple[str, ...]:
    names = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    if not names or any(not isinstance(name, str) or name not in MOMENTS for name in names):
        raise InputRejected(f"parameters: statistics is to be a list of {', '.join(MOMENTS)}")
    return tuple(name for name in MOMENTS if name in names)


def _groups_of(parameters: Parameters, gate: str, guest: str) -> str | None:
    party = parameters.settings.get("groupsOf")
    if not parameters.groups:
        if party is not None:
            raise InputRejected("parameters: groupsOf names a party, but there are no groups")
        return None
    if party != gate and party != guest:
        raise InputRejected(f"parameters: groupsOf is to be {gate!r} or {guest!r}")
    if len(parameters.groups) > MAX_GROUPS:
        raise InputRejected(f"parameters: at most {MAX_GROUPS} groups in this computation")
    return gate if party == gate else guest


def _epsilon(parameters: Parameters) -> Decimal | None:
    """The share of each number that is told about one person: its own group's and the whole's."""
    if parameters.epsilon is None:
        return None
    verify_epsilon(parameters.epsilon)
    names = _statistics(parameters.settings.get("statistics", DEFAULT_STATISTICS))
    numbers = max(MOMENTS[name] for name in names) * (2 if parameters.groups else 1)
    share = share_of(parameters.epsilon, numbers)
    verify_epsilon(share)
    return share


@dataclass(frozen=True)
class GroupedRows:
    """Rows of a party that are to have groups, or are not to have any."""

    rows: Rows
    grouped: bool

    def batches(self) -> Iterator[Inputs]:
        """Yield the batches. Raises InputRejected at the first that is not as it should be."""
        for batch in self.rows.batches():
            if self.grouped and len(batch.groups) != len(batch.identifiers):
                raise InputRejected("column group: the order takes the groups of this party")
            if batch.groups and not self.grouped:
                raise InputRejected("column group: the order does not take this party's groups")
            yield batch


# --- What may be told ----------------------------------------------------------------------------


def withheld_groups(counts: Sequence[int], min_cohort: int) -> list[bool]:
    """Tell which groups are withheld where the total over all is told.

    Those with members, but fewer than `min_cohort`; and as long as the total less the groups that
    are shown would tell of one group alone, or of fewer than `min_cohort` together, the smallest
    group with members that is still shown.
    """
    withheld = [is_small_group(count, min_cohort) for count in counts]
    while any(withheld):
        together = [count for count, hidden in zip(counts, withheld, strict=True) if hidden]
        shown = [i for i, count in enumerate(counts) if count and not withheld[i]]
        if not shown or (len(together) > 1 and reaches_cohort(sum(together), min_cohort)):
            break
        withheld[min(shown, key=lambda i: counts[i])] = True
    return withheld


def _unit(bound: int) -> int:
    """Of what `noisy_sum` makes multiples, for a bound of more than 32 bits."""
    return 1 << max(0, bound.bit_length() - UNIT_BITS)


def noise_of(question: Question, random_bytes: RandomBytes) -> tuple[int, ...]:
    """Draw noise for the moments of one cell.

    For a bound of more than 32 bits `noisy_sum` rounds to a unit and then adds multiples of it. A
    total that is encrypted cannot be rounded, and its low digits must not show. So a uniform number
    below the unit is added besides: the low digits are then uniform whatever the total was, and
    given them the sum is the total rounded up to the next number with such digits. That moves by at
    most bound // unit + 1 units for one person, for which `noisy_sum` makes its noise.
    """
    if question.epsilon is None:
        return (0,) * question.moments
    return tuple(_noise(bound, question.epsilon, random_bytes) for bound in question.bounds)


def _noise(bound: int, epsilon: Decimal, random_bytes: RandomBytes) -> int:
    unit = _unit(bound)
    # The unit is a power of two, so the remainder is uniform; half of it takes out the bias.
    size = unit.bit_length() // 8 + 1
    uniform = int.from_bytes(random_bytes(size), "big") % unit
    return noisy_sum(0, bound, epsilon) + uniform - unit // 2


def threshold_of(question: Question) -> int | None:
    """The count from which on a whole may be told, noisy where there is noise; None for any."""
    if question.min_cohort == 0:
        return None
    if question.epsilon is None:
        return question.min_cohort
    return cohort_threshold(question.min_cohort, question.epsilon)


def decide(question: Question, counts: Sequence[int], whole: int) -> list[bool] | None:
    """Tell which groups are withheld, None for everything.

    `counts` of the cells and `whole` of all together are noisy where there is noise, and then every
    group below the threshold is withheld, an empty one too, while none has to be withheld for
    another's sake: what could be computed from the others has their noise in it.
    """
    threshold = threshold_of(question)
    if threshold is not None and whole < threshold:
        return None
    if not question.groups:
        return []
    if question.epsilon is None:
        return withheld_groups(counts, question.min_cohort)
    return [threshold is not None and count < threshold for count in counts]


# --- What is told --------------------------------------------------------------------------------


def told(
    question: Question, totals: Sequence[Sequence[int]], withheld: Sequence[bool]
) -> dict[str, JsonValue]:
    """Write the result: `totals` are the moments of the whole, then of each group shown."""
    whole = _statistics_of(question, totals[0])
    if not question.groups:
        return whole
    shown = [g for g, hidden in zip(question.groups, withheld, strict=True) if not hidden]
    groups = {
        group: _statistics_of(question, moments)
        for group, moments in zip(shown, totals[1:], strict=True)
    }
    hidden = [g for g, hidden in zip(question.groups, withheld, strict=True) if hidden]
    return {**whole, "groups": groups, "withheld": hidden}


def _statistics_of(question: Question, moments: Sequence[int]) -> dict[str, JsonValue]:
    told = told_of(question.statistics, question.decimals, moments)
    # Only noise takes a count below zero, and to say so tells nothing more.
    return told | {"count": max(0, moments[0])}


def verify_possible(
    question: Question, totals: Sequence[Sequence[int]], withheld: Sequence[bool], sender: str
) -> None:
    """Raise ProtocolViolation for totals that no rows can have, or that had to be withheld.

    With noise only the cohorts can be checked, which are then noisy as well.
    """
    threshold = threshold_of(question)
    for place, moments in enumerate(totals):
        if question.epsilon is None:
            _verify_moments(question, moments, sender)
        count = moments[0]
        # An empty group names nobody; with noise none is known to be empty.
        empty_group = place > 0 and count == 0 and question.epsilon is None
        if threshold is not None and count < threshold and not empty_group:
            raise ProtocolViolation(f"{sender} released a cohort below the agreed minimum")
    if question.epsilon is None and question.groups:
        rest = [a - sum(b) for a, *b in zip(*totals, strict=True)]
        _verify_moments(question, rest, sender)
        if any(withheld):
            if not reaches_cohort(rest[0], question.min_cohort) or sum(withheld) == 1:
                raise ProtocolViolation(f"{sender} released totals that tell of a withheld group")
        elif any(rest):
            raise ProtocolViolation(f"{sender} sent groups that do not add up to their total")


def _verify_moments(question: Question, moments: Sequence[int], sender: str) -> None:
    count = moments[0]
    possible = 0 <= count <= MAX_IDENTIFIERS and all(
        abs(each) <= bound * count for each, bound in zip(moments, question.bounds, strict=True)
    )
    # The square of a sum is at most the count times the sum of squares (Cauchy and Schwarz).
    if not possible or (len(moments) == 3 and moments[1] ** 2 > count * moments[2]):
        raise ProtocolViolation(f"{sender} sent a total that no rows can have")
