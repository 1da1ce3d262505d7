"""Wrong messages made of right ones, the same ones for the same seed."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

Body = dict[str, Any]

PROCESS_TYPES = (
    "ContractRequestMessage",
    "ContractOfferMessage",
    "ContractAgreementMessage",
    "ContractNegotiationTerminationMessage",
    "TransferStartMessage",
    "TransferCompletionMessage",
    "TransferError",
)
STRANGE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**60,
    1e308,
    "",
    " ",
    "\x00\x1b\r\n",
    "\ud800",
    "\u202e用途\U0001f512",
    "x" * 5000,
    "urn:uuid:another",
    "did:web:elsewhere.example",
    "http://127.0.0.1:10/dsp",
    "../../etc/passwd",
    "9999-12-31T23:59:59-14:00",
    "1e999999999",
    [],
    {},
    [None],
    [[]] * 50,
    {"@id": 1},
    {"@value": {}},
    {"and": []},
)
ODD_NAMES = ("", "@graph", "ds:order", "$ref", "odrl:target", "__proto__", "a" * 3000)


def mutated(rng: random.Random, body: Body) -> bytes:
    """The message with one to three changes, in what it says or in how it is written."""
    if rng.random() < 0.2:
        return spoiled(rng, body)
    changed = copy.deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(changed))
        if places:
            _change(rng, *rng.choice(places))
    return json.dumps(changed).encode()


def spoiled(rng: random.Random, body: Body) -> bytes:
    """The message written as nobody may write one."""
    text = json.dumps(body)
    whole = text.encode()
    middle = rng.randrange(1, len(text) - 1)
    name = rng.choice(list(body))
    return rng.choice(
        (
            whole[:middle],
            whole + b"}",
            whole[:middle] + b"\xff" + whole[middle:],
            text.encode("utf-16"),
            b"\xef\xbb\xbf" + whole,
            whole[:-1] + f", {json.dumps(name)}: {json.dumps(body[name])}}}".encode(),
            whole[:-1] + b', "x": ' + b"[" * 200 + b"]" * 200 + b"}",
            whole[:-1] + b', "x": ' + b'{"a":' * 60_000,
            whole[:-1] + b', "x": NaN}',
            whole[:-1] + b', "x": 1e999}',
            whole[:-1] + b', "x": ' + b"9" * 5000 + b"}",
            b"[" + whole + b"]",
            json.dumps(text).encode(),
        )
    )


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every member and element of a JSON value, as container and key."""
    keys: Any = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _change(rng: random.Random, place: Any, key: Any) -> None:
    how = rng.randrange(7)
    if how == 0:
        del place[key]
    elif how == 1 and isinstance(place, dict):
        place[rng.choice((*ODD_NAMES, str(key).upper(), str(key).lstrip("@")))] = place.pop(key)
    elif how == 2 and isinstance(place, dict):
        place[rng.choice((*ODD_NAMES, f"{key}x"))] = copy.deepcopy(rng.choice(STRANGE))
    elif how == 3:
        place[key] = [place[key]]
    elif how == 4:
        place[key] = {"@id": place[key]}
    elif how == 5 and key == "@type":
        place[key] = rng.choice(PROCESS_TYPES)
    else:
        place[key] = copy.deepcopy(rng.choice(STRANGE))
