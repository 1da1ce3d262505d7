"""Agreements between real nodes: signed by both, proved to others, ended, renewed."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from joserfc.jwk import OKPKey

from contracts.deed import make_deed, open_deed
from contracts.odrl import Agreement
from contracts.signature import sign_agreement
from dataspace.client import ApiError, Client
from dataspace.deeds import verify_deed
from dataspace.demo.space import RunningNode
from dataspace.errors import ProtocolViolation, Unavailable
from ledger.entry import SealedEntry

from .command_line import dataspace
from .conftest import PURPOSE, City, terms

SOON_S = 30.0
COLUMNS = [{"name": "name", "role": "identifier", "canonicaliser": "text/1"}]


@pytest.fixture(scope="module")
def agreed(city: City, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Publishes a dataset of the insurer; the institute's agreement about it."""
    file = tmp_path_factory.mktemp("agreements") / "few.csv"
    file.write_text("name\nann\nbob\n", encoding="utf-8")
    insurer, made = city.node("insurer"), 0

    def agree(**changes: Any) -> str:
        nonlocal made
        made += 1
        dataset = f"agreed-{made}"
        insurer.client.publish(dataset, file, COLUMNS, terms=terms(**changes))
        return city.consumer.negotiate(insurer.url, dataset)

    return agree


def path(agreement: str, tail: str = "") -> str:
    return f"/api/agreements/{quote(agreement, safe='')}{tail}"


def shown(client: Client, agreement: str) -> dict[str, Any]:
    found: dict[str, Any] = client.call("GET", path(agreement))
    return found


def ended(client: Client, agreement: str) -> dict[str, Any]:
    return client.poll(path(agreement), lambda one: one["state"] == "ended", SOON_S)


def recorded(client: Client, agreement: str) -> list[str]:
    """What this node's evidence says of the agreement, in order."""
    sealed = [SealedEntry.parse(one) for one in client.call("GET", "/api/log") if one]
    entries = [json.loads(one.body) for one in sealed]
    return [one["outcome"] for one in entries if one.get("corr") == agreement]


@contextmanager
def standing_still(node: RunningNode) -> Iterator[None]:
    """The node's process gets no processor until the block ends."""
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


def test_both_sides_hold_the_same_agreement_signed_by_both(city: City, agreed: Any) -> None:
    agreement = agreed()
    sides = [shown(one, agreement) for one in (city.consumer, city.node("insurer").client)]
    for name in ("id", "sha256", "document", "provider", "consumer", "dataset", "signed_by"):
        assert sides[0][name] == sides[1][name]
    assert [one["role"] for one in sides] == ["CONSUMER", "PROVIDER"]
    assert sides[0]["signed_by"] == [city.node("insurer").did, city.node("institute").did]
    assert [one["state"] for one in sides] == ["in force", "in force"]
    assert sides[0]["expires_at"] is not None
    assert agreement in [one["id"] for one in city.consumer.agreements()]


def sides_hybrid(city: City, agreement: str) -> list[list[str]]:
    """Who signed with two keys, as either side says."""
    sides = (city.consumer, city.node("insurer").client)
    return [shown(one, agreement)["signed_post_quantum_by"] for one in sides]


def test_either_side_makes_the_same_deed_and_a_third_party_verifies_it(
    city: City, agreed: Any, tmp_path: Path
) -> None:
    agreement = agreed()
    deeds = [
        one.call("GET", path(agreement, "/deed"))
        for one in (city.consumer, city.node("insurer").client)
    ]
    assert deeds[0] == deeds[1]
    file = tmp_path / "deed.json"
    file.write_text(json.dumps(deeds[0]), encoding="utf-8")
    found = verify_deed(file, {}, online=True, local=True)
    assert found.deed.agreement.id == agreement
    assert found.known_by == {
        city.node("insurer").did: "did-document",
        city.node("institute").did: "did-document",
    }
    # The nodes of this space sign with a post-quantum key too, and list it.
    assert found.second_known_by == found.known_by
    assert sides_hybrid(city, agreement) == [list(found.known_by)] * 2
    offline = verify_deed(file, {}, online=False, local=False)
    assert offline.known_by == {}
    # A document on this machine is somebody's own network to whoever did not say otherwise.
    with pytest.raises((ProtocolViolation, Unavailable)):
        verify_deed(file, {}, online=True, local=False)


def test_a_deed_forged_in_the_parties_names_is_found_by_their_did_documents(
    city: City, agreed: Any, tmp_path: Path
) -> None:
    parties = [city.node("insurer").did, city.node("institute").did]
    document = shown(city.consumer, agreed())["document"]
    forged = Agreement.model_validate({**document, "target": "contracts"})
    keys = {f"{did}#key-1": OKPKey.generate_key("Ed25519") for did in parties}
    texts = [sign_agreement(forged, key, kid, "Ed25519") for kid, key in keys.items()]
    file = tmp_path / "forged.json"
    file.write_text(json.dumps(make_deed(texts, keys.__getitem__)), encoding="utf-8")
    # By the file alone nothing is wrong: its keys are the forger's.
    assert open_deed(file.read_bytes()).agreement.target == "contracts"
    with pytest.raises(ProtocolViolation, match="does not list the key that signed"):
        verify_deed(file, {}, online=True, local=True)


def test_the_provider_ends_an_agreement_for_both(city: City, agreed: Any) -> None:
    agreement, insurer = agreed(), city.node("insurer")
    reason = {"reason": "The register has moved."}
    told = insurer.client.call("POST", path(agreement, "/end"), reason)
    assert told["state"] == "ended"
    theirs = ended(city.consumer, agreement)
    assert theirs["standing"] == f"Ended by {insurer.did}: The register has moved."
    for client in (insurer.client, city.consumer):
        assert recorded(client, agreement) == ["finalized", "ended"]
        with pytest.raises(ApiError, match="was ended already by"):
            client.call("POST", path(agreement, "/end"), reason)
    city.agreements["ended"] = agreement
    with pytest.raises(ApiError, match="The register has moved"):
        city.compute("psi-cardinality/1", ["ended", "health"], purpose=PURPOSE)


def test_the_consumer_ends_an_agreement_for_both(city: City, agreed: Any) -> None:
    agreement, insurer = agreed(), city.node("insurer")
    city.consumer.call("POST", path(agreement, "/end"), {"reason": "The study is over."})
    theirs = ended(insurer.client, agreement)
    assert theirs["standing"] == f"Ended by {city.node('institute').did}: The study is over."
    assert recorded(insurer.client, agreement) == ["finalized", "ended"]


def test_a_side_that_was_away_learns_of_the_end_when_it_is_back(city: City, agreed: Any) -> None:
    agreement, insurer = agreed(), city.node("insurer")
    with standing_still(insurer):
        city.consumer.call("POST", path(agreement, "/end"), {"reason": "The study is over."})
        assert shown(city.consumer, agreement)["state"] == "ended"
    assert ended(insurer.client, agreement)["state"] == "ended"


def test_an_end_needs_a_sentence(city: City, agreed: Any) -> None:
    agreement = agreed()
    for body in ({}, {"reason": ""}, {"reason": "x" * 501}):
        with pytest.raises(ApiError, match="reason"):
            city.consumer.call("POST", path(agreement, "/end"), body)
    assert shown(city.consumer, agreement)["state"] == "in force"


def test_only_the_other_party_is_heard_about_an_end(
    city: City, agreed: Any, http: httpx2.Client, token_from: Callable[..., str]
) -> None:
    """The institute is no party of what the health trust might have agreed with others."""
    agreement, trust = agreed(), city.node("health-trust")
    url = f"/agreements/{quote(agreement, safe='')}/end"
    body = {"reason": "Over."}
    assert http.post(f"{trust.url}{url}", json=body).status_code == 401
    told = http.post(
        f"{trust.url}{url}",
        json=body,
        headers={"authorization": f"Bearer {token_from(trust.did)}"},
    )
    assert (told.status_code, told.json()["detail"]) == (
        404,
        "there is no such agreement between us",
    )
    stale = token_from(city.node("insurer").did, now=int(time.time()) - 3600)
    refused = http.post(
        f"{city.node('insurer').url}{url}",
        json=body,
        headers={"authorization": f"Bearer {stale}"},
    )
    assert refused.status_code == 401
    assert shown(city.node("insurer").client, agreement)["state"] == "in force"


def test_a_renewal_is_a_new_agreement_that_names_the_old_one(city: City, agreed: Any) -> None:
    old, insurer = agreed(), city.node("insurer")
    begun = city.consumer.call("POST", path(old, "/renewal"))
    new = city.consumer.agreement_of(begun["id"], timeout_s=SOON_S)
    assert new != old
    assert shown(city.consumer, new)["renews"] == old
    assert shown(city.consumer, old)["state"] == "in force"
    with pytest.raises(ApiError, match="renewed by its consumer"):
        insurer.client.call("POST", path(old, "/renewal"))


def test_an_ended_agreement_is_not_used_again_but_negotiated_anew(city: City, agreed: Any) -> None:
    first, insurer = agreed(), city.node("insurer")
    dataset = shown(city.consumer, first)["dataset"]
    assert city.consumer.negotiate(insurer.url, dataset, reuse=True) == first
    city.consumer.call("POST", path(first, "/end"), {"reason": "Over."})
    second = city.consumer.negotiate(insurer.url, dataset, reuse=True)
    assert second != first
    assert city.consumer.negotiate(insurer.url, dataset, reuse=True) == second


def test_an_agreement_nobody_has_is_not_found_whatever_its_id(city: City) -> None:
    for agreement in ("urn:uuid:none", "https://provider.example/agreements/1", "a/b/deed"):
        for tail in ("", "/deed"):
            with pytest.raises(ApiError, match="this node has no agreement") as refused:
                city.consumer.call("GET", path(agreement, tail))
            assert refused.value.status == 404
            assert refused.value.remedy == "list them: dataspace agreement list"


def test_an_owner_does_all_of_it_on_the_command_line(
    city: City, agreed: Any, tmp_path: Path
) -> None:
    agreement, home = agreed(), city.node("institute").home.path
    at, file = ("--home", home), tmp_path / "deed.json"
    listed = dataspace("agreement", "list", *at)
    assert f"in force {agreement}" in listed.stdout
    told = dataspace("agreement", "show", agreement, *at).stdout
    assert PURPOSE in told
    assert f"signed by: {city.node('insurer').did}, {city.node('institute').did}" in told
    assert dataspace("agreement", "deed", agreement, "--out", file, *at).returncode == 0
    verified = dataspace("agreement", "verify", file, "--online", "--local")
    assert verified.returncode == 0, verified.stderr
    # Each side has signed with two keys.
    assert verified.stdout.count("which its DID document lists now") == 4
    renewed = dataspace("agreement", "renew", agreement, *at)
    assert renewed.returncode == 0, renewed.stderr
    assert shown(city.consumer, renewed.stdout.strip())["renews"] == agreement
    over = dataspace("agreement", "end", agreement, "--reason", "The study is over.", *at)
    assert over.returncode == 0, over.stderr
    assert f"ended {agreement}" in over.stdout
    again = dataspace("agreement", "end", agreement, "--reason", "Once more.", *at)
    assert (again.returncode, "was ended already" in again.stderr) == (1, True)
