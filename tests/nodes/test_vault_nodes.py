"""A vault at a trustee's node, through a whole space: consent, computation, trace, withdrawal,
erasure."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from connectors.identifiers import canonicalise
from connectors.people import born_by_resident_id, standing
from connectors.source import open_source
from connectors.vault_import import import_records
from connectors.vault_making import create_vault
from dataspace.demo import truth
from dataspace.statements import verify_statements

from .conftest import PURPOSE, RESIDENT_ID, City, terms


def grown(person: str) -> bool:
    born: date = born_by_resident_id(canonicalise("resident-id/1", person))
    return not standing(born, None, datetime.now(UTC)).minor


def test_people_in_a_vault_consent_are_told_withdraw_and_are_erased(
    city: City, tmp_path: Path, http: httpx2.Client
) -> None:
    trustee, institute = city.node("health-trust"), city.node("institute").did
    patients = truth.people(truth.rows(city.data / "health.csv"), "resident_id", "resident-id/1")
    people = sorted(person for person in patients if grown(person))[:4]
    ann, bob, silent, _ = people
    vault = create_vault(tmp_path / "vault", subject="resident_id")
    import_records(vault, open_source(str(city.data / "health.csv")), datetime.now(UTC))
    own = tmp_path / "own.csv"
    own.write_text("\n".join(["resident_id", *people]) + "\n", encoding="utf-8")
    trustee.client.publish(
        "vaulted", f"vault:{vault.folder}", [RESIDENT_ID], terms=terms(min_cohort=1)
    )
    agreement = city.consumer.negotiate(trustee.url, "vaulted")
    asked = "/api/datasets/vaulted/people/enrolment"
    codes = {
        who: trustee.client.call("POST", asked, {"subject": who})["access_code"]
        for who in (ann, bob, silent)
    }

    def me(who: str, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {codes[who]}"}
        answer = http.request(
            method, f"{trustee.url}/api/people/me{path}", json=body, headers=headers
        )
        answer.raise_for_status()
        return answer.json()

    def seen() -> list[str]:
        result = city.consumer.compute(
            "psi/1", [agreement], purpose=PURPOSE, own=(own, "resident_id"), min_cohort=1
        )
        return sorted(result.value["identifiers"])

    given = {
        "columns": ["resident_id"],
        "purposes": [PURPOSE],
        "recipients": [institute],
        "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }
    receipts = {who: me(who, "POST", "/consents", given)["receipt"] for who in (ann, bob)}
    assert seen() == [ann, bob]
    (use,) = me(ann, "GET", "/uses")
    assert (use["recipient"], use["agreement"], use["computation"], use["purpose"]) == (
        institute,
        agreement,
        "psi/1",
        PURPOSE,
    )
    assert me(silent, "GET", "/uses") == []
    me(ann, "POST", f"/consents/{receipts[ann]}/withdrawal")
    assert seen() == [bob]
    assert len(me(ann, "GET", "/uses")) == 1
    certificate = me(bob, "POST", "/erasure", {"confirm": True})
    file = tmp_path / "erased.json"
    file.write_text(json.dumps(certificate), encoding="utf-8")
    found = verify_statements(file, {}, online=True, local=True)
    assert found.known_by == "did-document"
    assert found.certificate is not None
    proved = http.get(f"{trustee.url}/api/people/erasures/{found.certificate.certificate_id}")
    file.write_text(proved.text, encoding="utf-8")
    assert verify_statements(file, {}, online=True, local=True).in_evidence
    # Neither the log for owners nor that of the process names a person or a code.
    printed = trustee.log_path.read_text(encoding="utf-8")
    assert not any(text in printed for text in (*people, *codes.values()))
