"""An agreement about one state of the data, between real nodes: it is that state or nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from dataspace.client import Refused

from .conftest import DISTRICT, PURPOSE, City, terms
from .rows_that_leave import begin, ended, offer, theirs
from .test_faults import run_audit


@pytest.mark.slow
def test_a_computation_of_data_that_have_changed_is_refused_by_the_clause_that_names_their_version(
    city: City, tmp_path: Path
) -> None:
    provider = city.node("civil-affairs")
    file = tmp_path / "pinned.csv"
    file.write_bytes((city.data / "residents.csv").read_bytes())
    columns = [{"name": "subsidy_cents", "role": "value"}, DISTRICT]
    provider.client.publish("pinned", file, columns, terms=terms(), pin_version=True)
    (first,) = provider.client.versions("pinned")
    agreement = city.consumer.negotiate(provider.url, "pinned")
    (held,) = (one for one in city.consumer.agreements() if one["id"] == agreement)
    assert held["covers_versions"] == [first["version"]]

    def counted() -> Any:
        both = [agreement, city.agreements["contracts"]]
        asked = {"purpose": PURPOSE, "parameters": {"statistics": ["count"]}}
        return city.consumer.compute("aggregate/2", both, **asked).value["cells"]

    assert counted()
    rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(rows[:-1]), encoding="utf-8")
    with pytest.raises(Refused) as refused:
        counted()
    place = len(held["document"]["permission"][0]["constraint"]) - 1
    assert refused.value.clause == f"permission[0].constraint[{place}]"
    assert "negotiate an agreement about them as they are now" in str(refused.value.remedy)
    newest, _ = provider.client.versions("pinned")
    assert newest["number"] == 2

    # The offer has moved on with the data, so an agreement made now covers them.
    anew = city.consumer.negotiate(provider.url, "pinned")
    (held,) = (one for one in city.consumer.agreements() if one["id"] == anew)
    assert held["covers_versions"] == [newest["version"]]

    city.space.wait_until_anchored()
    codes = {one["code"] for one in json.loads(run_audit(city).stdout)["findings"]}
    about_decisions = {"decision-differs", "use-not-allowed", "decision-not-replayable"}
    assert codes & about_decisions == set()


def test_rows_of_a_dataset_that_lost_a_column_stay_and_only_their_owner_reads_why(
    city: City, tmp_path: Path
) -> None:
    rows = offer(city, tmp_path)
    rows.file.write_text("title,amount\nann,7\n", encoding="utf-8")
    done = ended(city.consumer, begin(city, rows))
    told = "the dataset is at the moment not what was published"
    assert (done["state"], done["reason"], done["clause"]) == ("TERMINATED", told, None)
    provider = city.node("insurer").client
    assert theirs(city, rows)
    (trouble,) = (
        one for one in provider.status()["datasets_in_trouble"] if one["dataset"] == rows.dataset
    )
    assert f"column 'name' of {rows.dataset}.csv is no longer there" in trouble["sentence"]
    rows.mend()
    assert not provider.check_dataset(rows.dataset)["changed"]
    found = provider.status()["datasets_in_trouble"]
    assert rows.dataset not in {one["dataset"] for one in found}
    assert ended(city.consumer, begin(city, rows))["state"] == "COMPLETED"
