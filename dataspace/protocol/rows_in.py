"""What comes in a transfer of rows: kept in parts until it is whole, then under its name.

received/PID.csv       the rows of one transfer
received/PID/N.csv     the Nth delivery of a return
received/.PID.partial  what has begun to come
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataspace.errors import Superseded, Unavailable
from dataspace.protocol.rows_out import file_name
from dataspace.protocol.transit import (
    MAX_BYTES,
    Incoming,
    name_whole,
    partial_file,
    partial_path,
    partial_size,
    room,
    sha256_claimed,
)
from dataspace.store.tables import TransferRow

if TYPE_CHECKING:
    from dataspace.node import Node

# Deliveries that were not moved elsewhere; a peer must not fill our disk.
MAX_KEPT = 10_000


@dataclass(frozen=True)
class Delivery:
    """Which delivery of a return some rows are, and when it was due."""

    number: int
    due_at: float


@dataclass(frozen=True)
class Sending:
    """What is said of rows that come: the digest of the whole where it is known, at which byte
    this piece begins, how long the whole is, and which delivery it is.

    `tag` names the state of the rows at whoever has them.
    """

    digest: str | None
    begin_at: int = 0
    size: int | None = None
    delivery: Delivery | None = None
    tag: str | None = None

    def coming(self) -> dict[str, Any] | None:
        """What is remembered of it, so that the rest can follow; None where nothing tells whether
        a later piece is of the same rows."""
        ours = sha256_claimed(self.digest)
        if not ours and self.tag is None:
            return None
        number = None if self.delivery is None else self.delivery.number
        digest = ours[0] if ours else None
        return {"tag": self.tag, "digest": digest, "size": self.size, "delivery": number}


class RowsIn:
    """Takes in the rows of transfers whose consumer this node is."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._directory = node.home.path / "received"

    def there(self, row: TransferRow) -> int:
        """How many bytes have come of the rows that `row.coming` tells of."""
        return partial_size(self._partial(row)) if row.coming else 0

    @contextmanager
    def receiving(self, row: TransferRow, sending: Sending) -> Iterator[Incoming]:
        """The file for a piece of what is coming. Where the block ends well it is named, once all
        of it is there; where it does not, what has come is kept if the rest can follow.

        Raises Superseded for a piece that does not follow what is there, and Unavailable where
        what came has another digest than it was sent with: all of it has to come again.
        """
        part, path = self._partial(row), self.path(row, sending.delivery)
        coming = sending.coming()
        if sending.begin_at == 0:
            self._verify_room(path)
            self._remember(row, coming)
        elif coming != row.coming or sending.begin_at != partial_size(part):
            part.unlink(missing_ok=True)
            raise Superseded("these rows do not follow those that are there")
        try:
            with partial_file(part, begin_at=sending.begin_at) as incoming:
                yield incoming
        except BaseException:
            if coming is None:
                part.unlink(missing_ok=True)
            raise
        if sending.size is not None and incoming.digesting.size < sending.size:
            raise Unavailable("the rows broke off before all had come")
        try:
            incoming.verify(sending.digest)
        except Unavailable:
            part.unlink(missing_ok=True)
            raise
        self._name(part, path)

    def path(self, row: TransferRow, delivery: Delivery | None) -> Path:
        """Where the rows are once they are whole."""
        name = file_name(row)
        if delivery is None:
            return self._directory / f"{name}.csv"
        return self._directory / name / f"{delivery.number}.csv"

    def forget(self, row: TransferRow) -> None:
        """Remove what will not become whole any more."""
        self._partial(row).unlink(missing_ok=True)

    def _partial(self, row: TransferRow) -> Path:
        return partial_path(self._directory, file_name(row))

    def _remember(self, row: TransferRow, coming: dict[str, Any] | None) -> None:
        """Before the first byte: bytes of another state of the rows must not pass for these."""
        self._partial(row).unlink(missing_ok=True)
        with self._node.store.transaction() as tx:
            tx.get_one(TransferRow, row.pid).coming = coming

    def _name(self, part: Path, path: Path) -> None:
        """Give what has come its name, sealed first where this node seals rows."""
        try:
            if self._node.rows.seals:
                with room():
                    self._node.rows.seal_file(part, str(path.relative_to(self._directory.parent)))
            name_whole(part, path)
        except FileNotFoundError as err:
            raise Unavailable("the transfer was ended meanwhile") from err

    def _verify_room(self, path: Path) -> None:
        if path.parent == self._directory or not path.parent.is_dir():
            return
        kept = [one.stat().st_size for one in path.parent.iterdir()]
        if len(kept) >= MAX_KEPT or sum(kept) >= MAX_BYTES:
            raise Unavailable(
                "too many deliveries are kept here",
                remedy="ask the receiver's owner to move earlier ones elsewhere",
            )
