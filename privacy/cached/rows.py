"""What has become of a provider's cached set since the last run, and what has to be done now.

Three answers: nothing, for the rows are the same; a change, mixed with rows that stay; or all
afresh. That the rows are the same is told by their content version, where there is none by a digest
of the column, and else by comparing a keyed hash of each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias

from privacy.cached.files import (
    BASE,
    HASH_BYTES,
    IN_BASE,
    IN_RECENT,
    INDEX,
    INDEX_BYTES,
    RECENT,
    SENDER_STATE,
    RowsDigest,
    SenderState,
    Table,
    keyed_hashes,
    load_state,
    load_table,
    save_state,
)
from privacy.computation import RoleContext
from privacy.role import Progress, Steps
from privacy.spool import Cache

HASH_KEY_BYTES = 32


@dataclass(frozen=True)
class Sizes:
    """What both parties go by.

    `mixed`: the fewest rows that move together. `recent_share`: the recent part is at most one in
    so many of all, for it is raised anew with every change; at 16, a million rows take some 60
    changes that cost two seconds each before they are done afresh. `frame`: points in one frame.
    """

    mixed: int = 1024
    recent_share: int = 16
    frame: int = 131_072


SIZES = Sizes()


@dataclass(frozen=True)
class Kept:
    """The provider's cache as it was read, checked, and both parts of its set under both keys."""

    state: SenderState
    base: Table
    recent: Table


@dataclass(frozen=True)
class Source:
    """The rows as they are now."""

    version: str | None
    digest: bytes
    rows: int


@dataclass(frozen=True)
class Same:
    """The set is what it was. `state` may name other rows for it."""

    kept: Kept
    state: SenderState

    @property
    def distinct(self) -> int:
        return self.state.distinct


@dataclass(frozen=True)
class Change:
    """Records of the index: those that stay in the base, that leave it, and that are in the recent
    part besides what is `added` (keyed hash to identifier)."""

    kept: Kept
    source: Source
    staying: Sequence[bytes]
    leaving: Sequence[bytes]
    recent: Sequence[bytes]
    added: Mapping[bytes, str] = field(repr=False)

    @property
    def distinct(self) -> int:
        return len(self.staying) + self.recent_count

    @property
    def recent_count(self) -> int:
        return len(self.recent) + len(self.added)


@dataclass(frozen=True)
class Afresh:
    """All identifiers, by keyed hash under a new key."""

    source: Source
    hash_key: bytes = field(repr=False)
    own: Mapping[bytes, str] = field(repr=False)

    @property
    def distinct(self) -> int:
        return len(self.own)


Plan: TypeAlias = Same | Change | Afresh


def load_kept(cache: Cache) -> Kept | None:
    """Read the provider's cache; None unless it is there whole. The index is left for later."""
    state = load_state(cache, SENDER_STATE, SenderState)
    if state is None:
        return None
    base, recent = load_table(cache, BASE, state.base), load_table(cache, RECENT, state.recent)
    return None if base is None or recent is None else Kept(state, base, recent)


def save_kept(cache: Cache, kept: Kept, index: Table) -> None:
    """Keep all files, the state last: it names the others by their digests."""
    cache.files.put(INDEX, index.content)
    cache.files.put(BASE, kept.base.content)
    cache.files.put(RECENT, kept.recent.content)
    save_state(cache, SENDER_STATE, kept.state)


def plan_of(context: RoleContext, kept: Kept | None, sizes: Sizes) -> Steps[Plan]:
    """Read the own rows as far as needed and say what is to be done."""
    if kept is not None:
        if context.cache.version is not None and context.cache.version == kept.state.version:
            return Same(kept, kept.state)
        # Another version is seldom the same rows; where there is no version, they often are.
        if context.cache.version is None:
            source = yield from _digest(context)
            if source.digest == kept.state.rows_digest:
                return Same(kept, kept.state)
        changed = yield from _compare(context, kept, sizes)
        if changed is not None:
            return changed
    hash_key = context.random_bytes(HASH_KEY_BYTES)
    own: dict[bytes, str] = {}
    digest = RowsDigest()
    for identifiers, hashes in _hashed(context, hash_key, digest):
        own.update(zip(hashes, identifiers, strict=True))
        yield Progress()
    return Afresh(_source(context, digest), hash_key, own)


def _digest(context: RoleContext) -> Steps[Source]:
    digest = RowsDigest()
    for batch in context.rows.batches():
        digest.add(batch.identifiers)
        yield Progress()
    return _source(context, digest)


def _source(context: RoleContext, digest: RowsDigest) -> Source:
    return Source(context.cache.version, digest.digest(), digest.rows)


def _hashed(
    context: RoleContext, hash_key: bytes, digest: RowsDigest
) -> Iterator[tuple[Sequence[str], list[bytes]]]:
    for batch in context.rows.batches():
        digest.add(batch.identifiers)
        yield batch.identifiers, keyed_hashes(hash_key, batch.identifiers)


def _compare(context: RoleContext, kept: Kept, sizes: Sizes) -> Steps[Same | Change | None]:
    """Find what was added and removed; None where it is better, or safer, to do all afresh."""
    index = load_table(context.cache, INDEX, kept.state.index, INDEX_BYTES)
    if index is None:
        return None
    known = {record[:HASH_BYTES]: record for record in index}
    seen: set[bytes] = set()
    added: dict[bytes, str] = {}
    digest = RowsDigest()
    for identifiers, hashes in _hashed(context, kept.state.hash_key, digest):
        for identifier, hashed in zip(identifiers, hashes, strict=True):
            if hashed in known:
                seen.add(hashed)
            else:
                added[hashed] = identifier
        yield Progress()
    source = _source(context, digest)
    if not added and len(seen) == len(known):
        state = replace(
            kept.state, version=source.version, rows_digest=source.digest, rows=source.rows
        )
        return Same(kept, state)
    return _mixed(kept, source, known, seen, added, sizes)


def _mixed(
    kept: Kept,
    source: Source,
    known: Mapping[bytes, bytes],
    seen: set[bytes],
    added: Mapping[bytes, str],
    sizes: Sizes,
) -> Change | None:
    """Fill up with rows that stay what moves, so that nothing moves in a small company.

    Which rows fill up is no secret: the one who must not recognise them in T, the provider, chooses
    them. They are the first by keyed hash.
    """
    base = [hashed for hashed, record in known.items() if record.endswith(IN_BASE)]
    gone = [known[hashed] for hashed in base if hashed not in seen]
    staying = [known[hashed] for hashed in base if hashed in seen]
    recent = [known[hashed] for hashed in seen if known[hashed].endswith(IN_RECENT)]
    missing = max(0, sizes.mixed - len(recent) - len(added))
    fill = max(missing, sizes.mixed - len(gone), 0) if gone or missing else 0
    moved = list(islice(staying, fill))
    change = Change(
        kept,
        source,
        staying[fill:],
        gone + moved,
        recent + [record[: -len(IN_RECENT)] + IN_RECENT for record in moved],
        added,
    )
    if len(change.staying) < sizes.mixed:
        return None
    return change if change.recent_count * sizes.recent_share <= change.distinct else None
