"""What a kind of computation is: its parties, their inputs, who learns what, and how it starts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from itertools import chain
from secrets import token_bytes
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias

from privacy.disclosure import verify_min_cohort_parameter
from privacy.errors import InputRejected
from privacy.paillier import PrivateKey, PublicKey, RandomBytes
from privacy.role import JsonValue, Role
from privacy.spool import Cache, MemorySpool, Spool
from privacy.workers import InThisThread, Workers

if TYPE_CHECKING:
    from privacy.engine import PsiEngine

CONSUMER = "consumer"

# |value| of one row stays below this: a signed 64-bit column fits except its very lowest number.
VALUE_BOUND = 2**63
# A longer identifier is a mistake in the choice of the column.
MAX_IDENTIFIER_CHARACTERS = 1024
# Groups cost one ciphertext each in every frame of an aggregate.
MAX_GROUPS = 4096
MAX_GROUP_CHARACTERS = 256


@dataclass(frozen=True)
class Inputs:
    """The rows one party brings, by column; the columns a role uses have equal lengths.

    `across` is a second column of groups, for a table of two. As `Rows` they are one batch.
    """

    identifiers: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    across: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # Rows never enter a log or a traceback.
        return (
            f"Inputs({len(self.identifiers)} identifiers, {len(self.values)} values, "
            f"{len(self.groups)} groups)"
        )

    def batches(self) -> "Iterator[Inputs]":
        """Yield all rows at once."""
        yield self


class Rows(Protocol):
    """Rows that are read as they are needed, and again after a crash."""

    def batches(self) -> Iterator[Inputs]:
        """Yield the rows in order, some thousands at a time. Raises what the reader raises."""


@dataclass(frozen=True)
class CheckedRows:
    """Rows whose every batch is checked as it is read."""

    rows: Rows
    columns: tuple[str, ...]
    groups: tuple[str, ...]
    max_rows: int

    def batches(self) -> Iterator[Inputs]:
        count = 0
        for batch in self.rows.batches():
            verify_rows(batch, self.columns, self.groups, self.max_rows)
            count += max(len(batch.identifiers), len(batch.values), len(batch.groups))
            if count > self.max_rows:
                raise InputRejected(f"at most {self.max_rows} rows expected in one run")
            yield batch


@dataclass(frozen=True)
class Parameters:
    """What all parties agreed on, from the order: known to everyone.

    `public_key` is the consumer's Paillier modulus in hexadecimal, for kinds that need one;
    `groups` is the public list of groups of an aggregate; `epsilon` the privacy loss the result is
    to have, None for no noise; `settings` are the kind's own, checked by `Kind.verify_parameters`.
    """

    min_cohort: int
    public_key: str | None = None
    groups: tuple[str, ...] = ()
    epsilon: Decimal | None = None
    settings: Mapping[str, JsonValue] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class ConsumerSecrets:
    """What only the consumer holds during a run."""

    private_key: PrivateKey


@dataclass(frozen=True)
class RoleContext:
    """Everything a role starts from, checked."""

    role: str
    parties: tuple[str, ...]
    rows: Rows
    parameters: Parameters
    secrets: ConsumerSecrets | None
    random_bytes: RandomBytes
    workers: Workers = field(default_factory=InThisThread)
    spool: Spool = field(default_factory=MemorySpool)
    cache: Cache = field(default_factory=Cache)
    engine: "PsiEngine | None" = None
    present: tuple[str, ...] | None = None

    @cached_property
    def inputs(self) -> Inputs:
        """All rows at once, in memory, for kinds that bound their number."""
        if isinstance(self.rows, Inputs):
            return self.rows
        batches = list(self.rows.batches())
        return Inputs(
            tuple(chain.from_iterable(batch.identifiers for batch in batches)),
            tuple(chain.from_iterable(batch.values for batch in batches)),
            tuple(chain.from_iterable(batch.groups for batch in batches)),
            tuple(chain.from_iterable(batch.across for batch in batches)),
        )

    @property
    def providers(self) -> tuple[str, ...]:
        """All parties but the consumer, in canonical order."""
        return tuple(party for party in self.parties if party != CONSUMER)

    def public_key(self) -> PublicKey:
        """The consumer's key out of the parameters, parsed as a peer's."""
        if self.parameters.public_key is None:
            raise InputRejected("parameters: this computation needs the consumer's public key")
        return PublicKey.parse(self.parameters.public_key)

    def private_key(self) -> PrivateKey:
        """The consumer's key pair; InputRejected if it is not the one of the parameters."""
        if self.secrets is None:
            raise InputRejected("the consumer of this computation needs its private key")
        if self.secrets.private_key.public_key != self.public_key():
            raise InputRejected("the consumer's private key does not belong to the public key")
        return self.secrets.private_key


StartRole: TypeAlias = Callable[[RoleContext], Role]
ComputeInClear: TypeAlias = Callable[[Mapping[str, Inputs], Parameters], JsonValue]
VerifySettings: TypeAlias = Callable[[Parameters], None]


def any_settings(parameters: Parameters) -> None:
    """Accept what settings there are."""


@dataclass(frozen=True)
class Kind:
    """One kind of computation.

    `leakage` and `columns` go by role; "provider" stands for every provider where they are alike.
    `result` describes the value of each party's `Outcome`, in words. `optional` are columns, by
    role, that it may bring besides; `settings` the names of parameters an order of it may have.
    `resumable`: after a crash of a party the run goes on from what the spools hold. `caches`: runs
    under one agreement share a cache. `adds_noise`: an order of it may have an epsilon. `partial`:
    it can do without some providers. `start_role`, `compute_in_clear` and `check_settings` are the
    protocol's own; use `start`, `reference` and `verify_parameters`, which check first.
    """

    name: str
    title: str
    title_zh: str
    leakage: Mapping[str, str]
    result: Mapping[str, str]
    columns: Mapping[str, tuple[str, ...]]
    providers: tuple[int, int]
    needs_key: bool
    max_rows: int
    party_names: Callable[[int], tuple[str, ...]]
    start_role: StartRole
    compute_in_clear: ComputeInClear
    settings: tuple[str, ...] = ()
    check_settings: VerifySettings = any_settings
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    resumable: bool = False
    caches: bool = False
    adds_noise: bool = False
    partial: bool = False

    def roles(self, providers: int) -> tuple[str, ...]:
        """Return the names of all parties in canonical order, the consumer last."""
        least, most = self.providers
        if not least <= providers <= most:
            raise InputRejected(
                f"{self.name} takes {least} to {most} providers, not {providers}"
                if least != most
                else f"{self.name} takes exactly {least} providers, not {providers}"
            )
        return (*self.party_names(providers), CONSUMER)

    def leakage_of(self, role: str) -> str:
        """Return what the party in `role` learns."""
        return self.leakage.get(role) or self.leakage["provider"]

    def columns_of(self, role: str) -> tuple[str, ...]:
        """Return the columns the party in `role` must bring: "identifier", "value", "group"."""
        return self.columns[role] if role in self.columns else self.columns["provider"]

    def optional_columns_of(self, role: str) -> tuple[str, ...]:
        """Return the columns the party in `role` may bring besides."""
        return self.optional[role] if role in self.optional else self.optional.get("provider", ())

    def start(
        self,
        role: str,
        parties: tuple[str, ...],
        inputs: Rows,
        parameters: Parameters,
        secrets: ConsumerSecrets | None,
        *,
        random_bytes: RandomBytes = token_bytes,
        workers: Workers | None = None,
        spool: Spool | None = None,
        cache: Cache | None = None,
        engine: "PsiEngine | None" = None,
        present: tuple[str, ...] | None = None,
    ) -> Role:
        """Check everything this party brings and return its role, not yet begun.

        `secrets` is for the consumer of a kind that needs a key, None for everyone else. Rows given
        whole are checked at once, others as they are read. Without `workers`, `spool` and `cache`
        the role works in the calling thread and in memory; `engine` is an external one for two
        sets, where the node has it; `present` tells the consumer of a partial kind who is there.
        Raises InputRejected, or ProtocolViolation for a
        bad public key of the consumer.
        """
        expected = self.roles(len(parties) - 1)
        if parties != expected:
            raise InputRejected(f"{self.name}: the parties {expected} expected, got {parties}")
        if role not in parties:
            raise InputRejected(f"{self.name} has no role {role!r} among {parties}")
        self.verify_parameters(parameters)
        context = RoleContext(
            role,
            parties,
            self._checked(role, inputs, parameters),
            parameters,
            secrets,
            random_bytes,
            workers or InThisThread(),
            spool or MemorySpool(),
            cache or Cache(),
            engine,
            present,
        )
        if self.needs_key:
            context.public_key()
        if self.needs_key and role == CONSUMER:
            context.private_key()
        return self.start_role(context)

    def reference(self, inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
        """Compute in the clear what the consumer should get; raises Withheld likewise.

        `inputs` holds every provider and, where it brings rows, the consumer. No key is needed.
        """
        parties = self.roles(sum(party != CONSUMER for party in inputs))
        if not set(inputs) <= set(parties):
            raise InputRejected(
                f"{self.name}: the parties {parties} expected, got {sorted(inputs)}"
            )
        complete = {party: inputs.get(party, Inputs()) for party in parties}
        self.verify_parameters(parameters)
        for party, rows in complete.items():
            self._checked(party, rows, parameters)
        return self.compute_in_clear(complete, parameters)

    def verify_parameters(self, parameters: Parameters) -> None:
        """Raise InputRejected unless `parameters` can be used."""
        verify_min_cohort_parameter(parameters.min_cohort)
        if parameters.groups or any("group" in columns for columns in self.columns.values()):
            verify_group_list(parameters.groups)
        for name in parameters.settings:
            if name not in self.settings:
                known = f"it has {', '.join(self.settings)}" if self.settings else "it has none"
                raise InputRejected(
                    f"parameters: {self.name} has no setting {name[:80]!r}; {known}"
                )
        if parameters.epsilon is not None and not self.adds_noise:
            raise InputRejected(f"epsilon: {self.name} adds no noise")
        self.check_settings(parameters)

    def _checked(self, role: str, rows: Rows, parameters: Parameters) -> Rows:
        """Check rows that are here, and see to it that others are as they are read."""
        columns = self.columns_of(role)
        if not isinstance(rows, Inputs):
            return CheckedRows(rows, columns, parameters.groups, self.max_rows)
        verify_rows(rows, columns, parameters.groups, self.max_rows)
        return rows


def verify_group_list(groups: tuple[str, ...]) -> None:
    """Raise InputRejected unless there are 1 to 4096 groups, all different and of sane length."""
    if not 1 <= len(groups) <= MAX_GROUPS:
        raise InputRejected(f"parameters: 1 to {MAX_GROUPS} groups expected, got {len(groups)}")
    if len(set(groups)) != len(groups):
        raise InputRejected("parameters: the list of groups names one twice")
    if any(not 1 <= len(group) <= MAX_GROUP_CHARACTERS for group in groups):
        raise InputRejected(f"parameters: group names of 1 to {MAX_GROUP_CHARACTERS} characters")


def verify_rows(
    rows: Inputs, columns: tuple[str, ...], groups: tuple[str, ...], max_rows: int
) -> None:
    """Raise InputRejected unless the needed `columns` can be used. No message shows a cell."""
    given = {
        "identifier": rows.identifiers,
        "value": rows.values,
        "group": rows.groups,
        "across": rows.across,
    }
    # What a role may bring besides has either no rows or as many.
    lengths = {name: len(given[name]) for name in given if name in columns or given[name]}
    if len(set(lengths.values())) > 1:
        raise InputRejected(f"the columns differ in length: {lengths}")
    if any(length > max_rows for length in lengths.values()):
        raise InputRejected(f"at most {max_rows} rows expected in one run, got {lengths}")
    if "identifier" in columns:
        _verify_identifiers(rows.identifiers)
    if "value" in columns:
        _verify_values(rows.values)
    if rows.groups:
        known = set(groups)
        foreign = sum(group not in known for group in rows.groups)
        if foreign:
            raise InputRejected(
                f"column group: {foreign} rows belong to no group of the public list"
            )


def _verify_identifiers(identifiers: tuple[str, ...]) -> None:
    lengths = set(map(len, identifiers))
    fits = not lengths or 1 <= min(lengths) <= max(lengths) <= MAX_IDENTIFIER_CHARACTERS
    if fits and all(map(str.isascii, identifiers)):
        return
    bad = sum(
        not 1 <= len(identifier) <= MAX_IDENTIFIER_CHARACTERS
        or not (identifier.isascii() or _is_unicode(identifier))
        for identifier in identifiers
    )
    if bad:
        raise InputRejected(
            f"column identifier: {bad} rows are empty, longer than {MAX_IDENTIFIER_CHARACTERS} "
            "characters or not valid Unicode"
        )


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _verify_values(values: tuple[int, ...]) -> None:
    bad = sum(type(value) is not int or abs(value) >= VALUE_BOUND for value in values)
    if bad:
        raise InputRejected(
            f"column value: {bad} rows are not integers of absolute value below 2**63"
        )
