"""Where a key of a node's identity stands: announced, in use, replaced, retired, withdrawn.

    ANNOUNCED    listed, and signs nothing yet: whoever keeps our document for a while learns of it
    IN_USE       signs everything; exactly one key is
    OVERLAPPING  was replaced, and still authenticates what was under way
    RETIRED      listed for statements only: what it signed verifies, it proves no presence
    WITHDRAWN    not listed: nothing it ever signed counts any more

The table says everything; there is no other place where a state follows from another.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dataspace.errors import InputRejected


class KeyState(StrEnum):
    ANNOUNCED = "announced"
    IN_USE = "in use"
    OVERLAPPING = "overlapping"
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"


class KeyAct(StrEnum):
    """What happens to a key. WITHDRAW is for one that somebody else may have."""

    ANNOUNCE = "announce"
    USE = "use"
    REPLACE = "replace"
    RETIRE = "retire"
    WITHDRAW = "withdraw"


_S, _A = KeyState, KeyAct
NEXT: Final[Mapping[tuple[KeyState | None, KeyAct], KeyState]] = MappingProxyType(
    {
        (None, _A.ANNOUNCE): _S.ANNOUNCED,
        # The first key of a home, and one in place of a compromised key, wait for nobody.
        (None, _A.USE): _S.IN_USE,
        (_S.ANNOUNCED, _A.USE): _S.IN_USE,
        (_S.ANNOUNCED, _A.WITHDRAW): _S.WITHDRAWN,
        (_S.IN_USE, _A.REPLACE): _S.OVERLAPPING,
        (_S.IN_USE, _A.WITHDRAW): _S.WITHDRAWN,
        (_S.OVERLAPPING, _A.RETIRE): _S.RETIRED,
        (_S.OVERLAPPING, _A.WITHDRAW): _S.WITHDRAWN,
        (_S.RETIRED, _A.WITHDRAW): _S.WITHDRAWN,
        # A home restored from a backup has its earlier key again.
        (_S.OVERLAPPING, _A.USE): _S.IN_USE,
        (_S.RETIRED, _A.USE): _S.IN_USE,
    }
)

# Listed in the document at all, and for authentication.
LISTED: Final = frozenset({_S.ANNOUNCED, _S.IN_USE, _S.OVERLAPPING, _S.RETIRED})
AUTHENTICATES: Final = frozenset({_S.ANNOUNCED, _S.IN_USE, _S.OVERLAPPING})


def next_state(state: KeyState | None, act: KeyAct) -> KeyState:
    """Raises InputRejected for what cannot happen to a key that stands there."""
    found = NEXT.get((state, act))
    if found is None:
        raise InputRejected(
            f"a key that is {state.value if state else 'unknown'} cannot be asked to {act.value}",
            remedy="see the keys with: dataspace key list",
        )
    return found
