"""Somebody at the owner's side whose key or token was verified."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from dataspace.access.permissions import Role

# Who holds the key in the home's own directory: whoever holds the machine.
HOME_KEY = "home key"
HOME_PERSON = "owner"


@dataclass(frozen=True)
class Principal:
    """A verified caller of the owner's side.

    `person` is who it is, whichever key they hold; `credential` is what they came with: the home's
    key, `key ID`, or `token ISSUER`.
    """

    person: str
    credential: str
    roles: frozenset[Role]


HOME = Principal(HOME_PERSON, HOME_KEY, frozenset({Role.OWNER}))


def same_person(one: str, other: str) -> bool:
    """Whether two names are one person's: a second pair of eyes needs a second person.

    Compared as Unicode compares identifiers (NFKC, case folded, spaces at the ends left out), so
    that another spelling of one's own name is no second person.
    """
    return folded(one) == folded(other)


def folded(person: str) -> str:
    """The form in which names of persons are compared."""
    return unicodedata.normalize("NFKC", person).strip().casefold()
