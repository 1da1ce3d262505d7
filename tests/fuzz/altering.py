"""Wrong inputs made of right ones, the same ones for the same seed.

A form knows how its inputs are put together, so that most alterations get past the first check and
meet the ones behind it: a member of a JSON tree is replaced and the token signed again, a line of a
note is doubled, a length in a frame is set to its highest.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tests.nodes.mutations import STRANGE, mutated

Alter: TypeAlias = Callable[[random.Random, bytes], bytes]

# Alterations are no larger than what a route would take in; parsers with a bound of their own are
# also given what is just above it.
MAX_BYTES = 2 * 1024 * 1024
NUMBERS = (b"\0", b"\x7f", b"\x80", b"\xff", b"\xff" * 4, b"\0\0\0\x80", b"\x80" * 9)
WORDS = (
    "",
    "0",
    "-1",
    "00",
    "1e999",
    "9" * 40,
    "9" * 5000,
    "18446744073709551616",
    "\x00",
    "\ufeff",
    "\u2028",
    "\u202e",
    "=" * 10,
    "A" * 3000,
    "—",
    "— a b",
    '"',
    "'",
    ",",
    "../../etc/passwd",
    "%00%2e%2e",
    "&a *a",
    "!!python/object/apply:os.system ['true']",
    "{{7*7}}",
)


def octets(rng: random.Random, example: bytes) -> bytes:
    """Bytes flipped, cut, put in, doubled, or set to what a length field has at its limits."""
    changed = bytearray(example)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(changed))
        how = rng.randrange(7)
        if how == 0 and changed:
            changed[at % len(changed)] ^= 1 << rng.randrange(8)
        elif how == 1:
            del changed[at:]
        elif how == 2:
            changed[at:at] = rng.randbytes(rng.randint(1, 40))
        elif how == 3:
            changed[at:at] = changed[max(0, at - rng.randint(1, 200)) : at]
        elif how == 4:
            number = rng.choice(NUMBERS)
            changed[at : at + len(number)] = number
        elif how == 5:
            del changed[at : at + rng.randint(1, 60)]
        else:
            changed[at:at] = rng.choice(WORDS).encode()
    return bytes(changed[:MAX_BYTES])


def lines(rng: random.Random, example: bytes) -> bytes:
    """Lines lost, doubled, exchanged, or with a word replaced; sometimes the bytes underneath."""
    if rng.random() < 0.15:
        return octets(rng, example)
    found = example.decode("utf-8", "surrogateescape").split("\n")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(found))
        how = rng.randrange(7)
        if how == 0:
            del found[at : at + 1]
        elif how == 1:
            found[at:at] = [found[at]] * rng.choice((1, 2, 70, 3000))
        elif how == 2:
            other = rng.randrange(len(found))
            found[at], found[other] = found[other], found[at]
        elif how == 3:
            found.insert(at, rng.choice(WORDS))
        elif how == 4:
            found[at] = found[at] + rng.choice((" ", "\r", "\t", *WORDS))
        else:
            words = found[at].split(" ")
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            found[at] = " ".join(words)
        if not found:
            found = [""]
    return "\n".join(found).encode("utf-8", "surrogateescape")[:MAX_BYTES]


def tree(rng: random.Random, example: bytes) -> bytes:
    """A JSON object with members replaced, renamed, lost, or written as nobody may write them."""
    return mutated(rng, json.loads(example))[:MAX_BYTES]


def cells(rng: random.Random, example: bytes) -> bytes:
    """A table of text with cells, separators and quotes replaced."""
    if rng.random() < 0.3:
        return lines(rng, example)
    rows = [row.split(",") for row in example.decode().split("\n")]
    for _ in range(rng.randint(1, 4)):
        row = rng.choice(rows)
        at = rng.randrange(len(row))
        if rng.random() < 0.3:
            row.insert(at, rng.choice(WORDS))
        else:
            row[at] = rng.choice((*WORDS, f'"{row[at]}', f'{row[at]}"', '""', "１２", "2026-02-30"))
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogateescape")


def signed(sign: Callable[[dict[str, Any]], str]) -> Alter:
    """Tokens whose content is altered and then signed as it should be; sometimes only their text.

    An example is the JSON content.
    """

    def alter(rng: random.Random, example: bytes) -> bytes:
        content = json.loads(example)
        if rng.random() < 0.25:
            return octets(rng, sign(content).encode())
        for _ in range(rng.randint(1, 2)):
            content = _replaced(rng, content)
        try:
            return sign(content).encode()
        except (TypeError, ValueError, UnicodeError, RecursionError):
            # Nobody can sign that, so the next best thing is to send it unsigned.
            return json.dumps(content, default=str).encode("utf-8", "replace")

    return alter


def _replaced(rng: random.Random, content: dict[str, Any]) -> dict[str, Any]:
    """The content with one member, at any depth, replaced by something strange or left out."""
    copied: dict[str, Any] = json.loads(json.dumps(content))
    holder: Any = copied
    while True:
        keys: Sequence[Any] = list(holder) if isinstance(holder, dict) else range(len(holder))
        if not keys:
            return copied
        key = rng.choice(keys)
        if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.7:
            holder = holder[key]
            continue
        if isinstance(holder, dict) and rng.random() < 0.25:
            del holder[key]
        else:
            holder[key] = rng.choice((*STRANGE, holder[key], [holder[key]]))
        return copied
