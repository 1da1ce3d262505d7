"""Whoever waits for a computation is told how it goes, and may end it."""

from pathlib import Path
from typing import Any

import pytest

from dataspace.client import ApiError

from .conftest import PURPOSE, City, terms


def test_a_computation_is_estimated_followed_and_ended_early(city: City, tmp_path: Path) -> None:
    node, provider = city.consumer, city.node("civil-affairs")
    file = tmp_path / "crowd.csv"
    file.write_text("person\n" + "".join(f"p-{n}\n" for n in range(6_000)), encoding="utf-8")
    few = tmp_path / "few.csv"
    few.write_text("person\n" + "".join(f"p-{n}\n" for n in range(5_000, 5_100)))
    provider.client.publish(
        "crowd", file, [{"name": "person", "role": "identifier"}], terms=terms()
    )
    agreement = node.negotiate(provider.url, "crowd")

    with pytest.raises(ApiError, match="how many rows has the dataset"):
        node.estimate("psi/2", [agreement], sizes={}, own=(few, "person"))
    found = node.estimate("psi/2", [agreement], sizes={agreement: 6_000}, own=(few, "person"))
    assert found["parties"]["consumer"]["learns"].startswith("Which of its own identifiers")
    # The provider masks six thousand elements on two processors, the consumer raises them.
    assert 0.5 < found["seconds"] < 5
    assert found["parties"]["sender"]["sent_bytes"] > 33 * 6_000

    told: list[dict[str, Any]] = []
    result = node.compute(
        "psi/2", [agreement], purpose=PURPOSE, own=(few, "person"), on_progress=told.append
    )
    assert result.value["count"] == 100
    assert told[-1]["status"] == "COMPLETED"
    assert told[-1]["done_units"] == told[-1]["total_units"] == 6_100
    assert any(event["rate_per_s"] for event in told)
    # Who comes when it is over is told the end.
    assert [event["status"] for event in node.events(result.id)] == ["COMPLETED"]
    with pytest.raises(ApiError) as unknown:
        next(node.events("none"))
    assert unknown.value.status == 404

    asked = {
        "kind": "psi/2",
        "agreements": [agreement],
        "purpose": PURPOSE,
        "own": {"source": str(file), "identifier": "person"},
    }
    begun = node.call("POST", "/api/computations", asked)["id"]
    for event in node.events(begun):
        if event["done_units"]:
            break
    assert node.cancel(begun)["status"] == "FAILED"
    assert "cancelled" in node.computation(begun)["refusal"]["reason"]
    ended = provider.client.poll(
        f"/api/computations/{begun}", lambda one: one["status"] not in ("REQUESTED", "RUNNING"), 30
    )
    assert (ended["status"], ended["refusal"]["refused_by"]) == (
        "FAILED",
        city.node("institute").did,
    )
    with pytest.raises(ApiError, match="has ended"):
        node.cancel(begun)
