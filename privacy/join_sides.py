"""One party of a run that sums over the common identifiers: what it attaches, adds up and reads.

The steps of `privacy.join`, by who does them. Ciphertexts are encrypted, checked and added up by
the workers, a piece at a time; what a bucket adds up to is kept in the gate's spool.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from privacy.buckets import Elements, OwnSet
from privacy.computation import CONSUMER, RoleContext
from privacy.disclosure import MIN_COHORT, WITHHELD, receive_verdict, released
from privacy.errors import ProtocolViolation, Withheld
from privacy.exchange import Compared, Shape
from privacy.join_values import (
    MAX_IDENTIFIERS,
    MAX_VALUE_BITS,
    GroupedRows,
    Question,
    decide,
    is_dummy,
    noise_of,
    question_of,
    told,
    verify_possible,
)
from privacy.paillier import (
    Ciphertext,
    FixedBase,
    PublicKey,
    encrypt_piece,
    encryption_pieces,
    parse_ciphertexts,
)
from privacy.role import JsonValue, Progress, Steps, send
from privacy.wire import COUNT_BYTES
from privacy.workers import pieces_of

# A bucket with a ciphertext at each point is 18 MB on the way.
BUCKET_ELEMENTS = 32_768
GROUP_BYTES = 2
# Ciphertexts added up by one worker at a time: some milliseconds, and half a megabyte to send.
ADDED_PIECE = 1024
# The cell of a point that is not common.
NOWHERE = -1


@dataclass(frozen=True)
class AddedPiece:
    """Some ciphertexts of a peer as they came, and for each its cell, or NOWHERE."""

    public_key: PublicKey
    sender: str
    cells: int
    encoded: list[bytes]
    places: list[int]


def add_piece(piece: AddedPiece) -> list[Ciphertext]:
    """A worker's task: check every ciphertext and add up those of each cell.

    All are checked, common or not: whether the run fails must not tell the peer which are common.
    """
    ciphertexts = parse_ciphertexts(piece.public_key, piece.encoded, piece.sender)
    cells: list[list[Ciphertext]] = [[] for _ in range(piece.cells)]
    for ciphertext, place in zip(ciphertexts, piece.places, strict=True):
        if place != NOWHERE:
            cells[place].append(ciphertext)
    return [piece.public_key.add_all(cell) for cell in cells]


def finish_piece(piece: tuple[PublicKey, Ciphertext, int]) -> bytes:
    """A worker's task: add a number to a total, in a ciphertext that cannot be traced to others."""
    public_key, total, number = piece
    # Plain randomness: the consumer owns the key, and must not see through it.
    return public_key.encode(public_key.add(total, public_key.encrypt_plain(number)))


@dataclass(frozen=True)
class Total:
    """A cell at the gate: how many are common, and what they add up to."""

    count: int
    ciphertext: Ciphertext


@dataclass
class Join:
    """One party of a run: what is asked, and of whom."""

    context: RoleContext
    gate: str
    guest: str
    question: Question
    public_key: PublicKey
    _base: FixedBase | None = field(default=None, repr=False)

    @classmethod
    def of(cls, context: RoleContext, gate_party: str, guest_party: str) -> "Join":
        """Take part as the context says."""
        question = question_of(context.parameters, gate_party, guest_party)
        rows = GroupedRows(context.rows, context.role == question.groups_of)
        rowed = replace(context, rows=rows)
        return cls(rowed, gate_party, guest_party, question, context.public_key())

    def shape(self) -> Shape:
        """How the two sets are compared."""
        of_guest = GROUP_BYTES if self.question.groups_of == self.guest else 0
        return Shape(
            guest_extra=of_guest + self.public_key.ciphertext_bytes,
            gate_extra=GROUP_BYTES if self.question.groups_of == self.gate else 0,
            bucket_elements=BUCKET_ELEMENTS,
            max_identifiers=MAX_IDENTIFIERS,
        )

    def group_bytes(self, elements: Elements, identifiers: Sequence[str]) -> list[bytes]:
        """The group numbers of own identifiers; strangers are in any group."""
        groups, random_bytes = len(self.question.groups), self.context.random_bytes
        numbers = (
            elements[identifier][1]
            if identifier in elements
            else int.from_bytes(random_bytes(8), "big") % groups
            for identifier in identifiers
        )
        return [number.to_bytes(GROUP_BYTES, "big") for number in numbers]

    def group_number(self, encoded: bytes, sender: str) -> int:
        """Read a group number of a peer."""
        number = int.from_bytes(encoded, "big")
        if number >= len(self.question.groups):
            raise ProtocolViolation(
                f"{sender} sent a group number above the {len(self.question.groups)} of the order"
            )
        return number

    # --- at the guest ---

    def verify_values(self, own: OwnSet) -> Steps[None]:
        """Raise InputRejected, before anything is sent, where a value is out of its bound."""
        if self.question.value_bits == MAX_VALUE_BITS or self.question.moments == 1:
            return
        for part in range(own.parts):
            for value, _ in own.bucket(part, own.parts).values():
                self.question.verify_value(value)
            yield Progress()

    def attach_values(self, elements: Elements, identifiers: Sequence[str]) -> Steps[list[bytes]]:
        """Encrypt what is counted of each own identifier; nothing for strangers and dummies."""
        question = self.question
        plaintexts = [
            question.of_value(elements[identifier][0])
            if identifier in elements and not is_dummy(identifier)
            else 0
            for identifier in identifiers
        ]
        ciphertexts = yield from self.encrypt(plaintexts)
        encoded = [self.public_key.encode(ciphertext) for ciphertext in ciphertexts]
        if question.groups_of != self.guest:
            return encoded
        groups = self.group_bytes(elements, identifiers)
        return [group + each for group, each in zip(groups, encoded, strict=True)]

    def encrypt(self, plaintexts: Sequence[int]) -> Steps[list[Ciphertext]]:
        """Encrypt by all workers, under one fixed base for the whole run."""
        workers, random_bytes = self.context.workers, self.context.random_bytes
        if self._base is None and len(plaintexts) >= BUCKET_ELEMENTS // 2:
            expected = -(-BUCKET_ELEMENTS // workers.count)
            self._base = FixedBase.draw(self.public_key.n, random_bytes, count=expected)
        pieces = encryption_pieces(
            self.public_key,
            plaintexts,
            base=self._base,
            workers=workers.count,
            random_bytes=random_bytes,
        )
        ciphertexts: list[Ciphertext] = []
        for done in workers.map(encrypt_piece, pieces):
            ciphertexts += done
            yield Progress()
        return ciphertexts

    # --- at the gate ---

    def add_common(self, compared: Compared, sent_groups: Sequence[bytes]) -> Steps[list[Total]]:
        """Add up what a bucket has in common, by cell."""
        places = self._places(compared, sent_groups)
        common = compared.common()
        at = [
            place if point in common else NOWHERE
            for point, place in zip(compared.theirs, places, strict=True)
        ]
        start = GROUP_BYTES if self.question.groups_of == self.guest else 0
        encoded = [extra[start:] for extra in compared.theirs_extra]
        cells = self.question.cells
        pieces = (
            AddedPiece(self.public_key, self.guest, cells, list(some), list(theirs))
            for some, theirs in zip(
                pieces_of(encoded, ADDED_PIECE), pieces_of(at, ADDED_PIECE), strict=True
            )
        )
        totals = [Ciphertext(1)] * cells
        for done in self.context.workers.map(add_piece, pieces):
            totals = list(map(self.public_key.add, totals, done))
            yield Progress()
        counts = Counter(at)
        return [Total(counts[cell], total) for cell, total in enumerate(totals)]

    def _places(self, compared: Compared, sent_groups: Sequence[bytes]) -> list[int]:
        """The cell of each of the guest's points, of those that are not common any."""
        question = self.question
        if question.groups_of == self.guest:
            return [
                self.group_number(extra[:GROUP_BYTES], self.guest)
                for extra in compared.theirs_extra
            ]
        if question.groups_of != self.gate:
            return [0] * len(compared.theirs)
        if Counter(compared.own_extra) != Counter(sent_groups):
            raise ProtocolViolation(
                f"{self.guest} did not send our group numbers back as they were"
            )
        groups = dict(zip(compared.own_raised, compared.own_extra, strict=True))
        return [
            self.group_number(groups[point], self.guest) if point in groups else NOWHERE
            for point in compared.theirs
        ]

    def keep(self, number: int, totals: Sequence[Total]) -> None:
        """Keep the totals of one bucket in the spool."""
        content = b"".join(
            total.count.to_bytes(COUNT_BYTES, "big") + self.public_key.encode(total.ciphertext)
            for total in totals
        )
        self.context.spool.put(f"totals-{number}", content)

    def kept(self, of: int) -> list[Total]:
        """Add up what was kept of all buckets."""
        width = COUNT_BYTES + self.public_key.ciphertext_bytes
        sums = [Total(0, Ciphertext(1))] * self.question.cells
        for number in range(of):
            content = self.context.spool.get(f"totals-{number}") or b""
            for cell, total in enumerate(sums):
                record = content[cell * width : (cell + 1) * width]
                ciphertext = Ciphertext(int.from_bytes(record[COUNT_BYTES:], "big"))
                sums[cell] = Total(
                    total.count + int.from_bytes(record[:COUNT_BYTES], "big"),
                    self.public_key.add(total.ciphertext, ciphertext),
                )
        return sums

    def whole(self, totals: Sequence[Total]) -> Total:
        """All cells together."""
        ciphertext = self.public_key.add_all(total.ciphertext for total in totals)
        return Total(sum(total.count for total in totals), ciphertext)

    def answer(self, totals: Sequence[Total]) -> Steps[bytes]:
        """Decide what is told and write it for the consumer."""
        question = self.question
        asked = [self.whole(totals), *(totals if question.groups else ())]
        noise = [noise_of(question, self.context.random_bytes) for _ in asked]
        noisy = [total.count + drawn[0] for total, drawn in zip(asked, noise, strict=True)]
        withheld = decide(question, noisy[1:], noisy[0])
        if withheld is None:
            return WITHHELD
        shown = [0, *(cell + 1 for cell, hidden in enumerate(withheld) if not hidden)]
        finished = yield from self.finish(
            [(asked[place].ciphertext, question.encode(noise[place])) for place in shown]
        )
        return released(bytes(withheld) + b"".join(finished))

    def finish(self, totals: Sequence[tuple[Ciphertext, int]]) -> Steps[list[bytes]]:
        """Make totals ready for the consumer, each with its noise."""
        pieces = [(self.public_key, total, number) for total, number in totals]
        finished = []
        for done in self.context.workers.map(finish_piece, pieces):
            finished.append(done)
            yield Progress()
        return finished

    def disclose(self, answer: bytes) -> Steps[None]:
        """Send the result, or that it is withheld, and end with Withheld in that case."""
        yield from send(CONSUMER, "result", answer)
        if self.guest != CONSUMER:
            yield from send(self.guest, "verdict", answer[:1])
        if answer == WITHHELD:
            raise Withheld(MIN_COHORT)

    # --- at the consumer ---

    def result(self) -> Steps[JsonValue]:
        """Receive what is told, check it, decrypt it."""
        private_key, question = self.context.private_key(), self.question
        width, flags = self.public_key.ciphertext_bytes, len(question.groups)
        body = yield from receive_verdict(self.gate, "result", flags + (1 + flags) * width)
        if len(body) < flags or any(flag > 1 for flag in body[:flags]):
            raise ProtocolViolation(f"{self.gate} sent no list of {flags} flags, each 0 or 1")
        withheld = [flag == 1 for flag in body[:flags]]
        shown = 1 + flags - sum(withheld)
        if len(body) != flags + shown * width:
            raise ProtocolViolation(
                f"{self.gate} sent {len(body)} bytes, {shown} ciphertexts of {width} expected"
            )
        encoded = [body[at : at + width] for at in range(flags, len(body), width)]
        totals = []
        for ciphertext in parse_ciphertexts(self.public_key, encoded, self.gate):
            totals.append(question.decode(private_key.decrypt(ciphertext), self.gate))
            yield Progress()
        verify_possible(question, totals, withheld, self.gate)
        return told(question, totals, withheld)
