"""The bill of materials is the same for the same lock, and licences that bind the whole show."""

from __future__ import annotations

from email.message import Message
from typing import Any

import pytest

from tests.dependencies.bill import Component, bill_of, components_of, licence_of, objections

LOCK = b"version = 1"


def exported(number: str, time: str, *, names: tuple[str, ...] = ("b", "a")) -> dict[str, Any]:
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{number}",
        "metadata": {"timestamp": time, "component": {"name": "it"}},
        "components": [{"name": name, "version": "1"} for name in names],
        "dependencies": [{"ref": name, "dependsOn": list(names)} for name in names],
    }


def test_the_same_lock_gives_the_same_bill_whenever_it_is_asked() -> None:
    first = bill_of(exported("1", "today"), LOCK, {"a": "MIT"})
    again = bill_of(exported("2", "tomorrow", names=("a", "b")), LOCK, {"a": "MIT"})
    assert first == again
    assert first["serialNumber"] != bill_of(exported("1", "today"), b"other", {})["serialNumber"]


def test_every_component_has_its_licence_or_says_that_it_is_unknown() -> None:
    made = bill_of(exported("1", "now", names=("Some_Name", "b")), LOCK, {"some-name": "MIT"})
    assert components_of(made) == [
        Component("Some_Name", "1", "MIT"),
        Component("b", "1", "unknown"),
    ]


@pytest.mark.parametrize(
    ("licence", "whole"),
    [
        ("GPL-3.0-only", True),
        ("GPLv3", True),
        ("AGPL-3.0-or-later", True),
        ("MIT AND GPL-2.0", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("GNU Affero General Public License v3", True),
        ("LGPL-3.0-or-later", False),
        ("GNU Lesser General Public License v2 or later (LGPLv2+)", False),
        ("Apache-2.0", False),
        ("MPL-2.0", False),
    ],
)
def test_a_licence_that_asks_for_the_whole_program_is_told_from_one_for_a_library(
    licence: str, whole: bool
) -> None:
    component = Component("x", "1", licence)
    assert component.asks_for_the_whole is whole
    assert bool(objections([component])) is whole


def test_what_is_known_and_wanted_is_no_objection() -> None:
    assert objections([Component("phe", "1.5.0", "GPLv3")]) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"License-Expression": "MIT", "License": "x"}, "MIT"),
        ({"License": "BSD"}, "BSD"),
        ({"License": "long text\nof it", "Classifier": "License :: OSI Approved :: MIT"}, "MIT"),
        ({}, "unknown"),
    ],
)
def test_the_licence_is_what_the_package_says_in_its_shortest_form(
    given: dict[str, str], told: str
) -> None:
    metadata = Message()
    for name, value in given.items():
        metadata[name] = value
    assert licence_of(metadata) == told
