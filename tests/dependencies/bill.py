"""The bill of materials: every package of `uv.lock`, its files' digests, its licence.

uv writes CycloneDX 1.5 from the lock; here it becomes the same bytes for the same lock, and gets
what the lock does not know, the licences, from the packages that are installed.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from hashlib import sha256
from importlib.metadata import PackageMetadata, distributions
from typing import Any, Final

NAMESPACE: Final = uuid.UUID("6f0b1c5e-6f0e-5c0a-9d6c-0d6f6d3f7a10")
UNKNOWN: Final = "unknown"
# A licence that asks of the whole program to be under it. The lesser ones ask so of the library
# alone, which everybody may exchange here.
_WHOLE: Final = re.compile(
    r"(?<!L)\b(A?GPL)|(?<!Lesser )GNU (Affero )?General Public", re.IGNORECASE
)
# What is known and wanted, with its reason; a package that is not here must have another licence.
ACCEPTED: Final[Mapping[str, str]] = {
    "phe": "GPL-3.0: keys and ciphertexts of Paillier. Who passes the core on together with it "
    "passes the whole on under GPL-3.0; the sources of this project stay Apache-2.0",
}


@dataclass(frozen=True)
class Component:
    """A package as the bill names it."""

    name: str
    version: str
    licence: str

    @property
    def asks_for_the_whole(self) -> bool:
        return _WHOLE.search(self.licence) is not None


def licences_of_installed() -> dict[str, str]:
    """Licence by normal name, of every package in this environment."""
    return {normal_name(one.name): licence_of(one.metadata) for one in distributions()}


def licence_of(metadata: PackageMetadata | Message) -> str:
    """What a package says of its licence: the expression, else the field, else the classifiers."""
    named: Any = metadata
    expression = named.get("License-Expression")
    if expression:
        return str(expression)
    classified = [
        text.rpartition(" :: ")[2]
        for text in named.get_all("Classifier") or []
        if text.startswith("License :: ")
    ]
    field = str(named.get("License") or "").strip()
    # Some put the whole text there.
    if field and len(field) <= 60 and "\n" not in field:
        return field
    return " AND ".join(classified) or UNKNOWN


def normal_name(name: str) -> str:
    """As the index compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bill_of(
    exported: Mapping[str, Any], lock: bytes, licences: Mapping[str, str]
) -> dict[str, Any]:
    """The exported bill without what differs each time, with licences."""
    metadata = {name: value for name, value in exported["metadata"].items() if name != "timestamp"}
    number = uuid.uuid5(NAMESPACE, sha256(lock).hexdigest())
    components = []
    for one in exported["components"]:
        licence = licences.get(normal_name(one["name"]), UNKNOWN)
        components.append({**one, "licenses": [{"license": {"name": licence}}]})
    components.sort(key=lambda one: (one["name"], one["version"]))
    dependencies = sorted(exported.get("dependencies", []), key=lambda one: str(one["ref"]))
    return {
        **exported,
        "serialNumber": f"urn:uuid:{number}",
        "metadata": metadata,
        "components": components,
        "dependencies": [
            {**one, "dependsOn": sorted(one.get("dependsOn", []))} for one in dependencies
        ],
    }


def components_of(bill: Mapping[str, Any]) -> list[Component]:
    return [
        Component(one["name"], one["version"], one["licenses"][0]["license"]["name"])
        for one in bill["components"]
    ]


def objections(components: Iterable[Component]) -> list[str]:
    """Why these must not be in the core, one sentence each."""
    return [
        f"{one.name} {one.version} is under {one.licence}, which asks so of the whole program"
        for one in components
        if one.asks_for_the_whole and normal_name(one.name) not in ACCEPTED
    ]
