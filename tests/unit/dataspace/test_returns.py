"""Returns 回流: deliveries come when they are due, once each, while the contract stands."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select
from typer.testing import CliRunner

import connectors.errors
from contracts.transfer_strategy import PUSH
from dataspace.cli import return_commands
from dataspace.cli.return_commands import print_deliveries
from dataspace.client import Client
from dataspace.errors import InputRejected, Unavailable
from dataspace.node import Node
from dataspace.processes import Later, Process
from dataspace.protocol.transfer_rows import commitment_of
from dataspace.return_terms import ReturnAsked
from dataspace.returns import DELIVER
from dataspace.store.tables import (
    AgreementRow,
    DatasetRow,
    DeliveryRow,
    EntryRow,
    NegotiationRow,
    ReturnRow,
    TransferRow,
)
from dataspace.web.app import create_app
from ledger.entry import open_entry

from .transfer_nodes import DATASET, NAME, PROVIDER_URL, Pair, make_node, pair_of, publish

RULES = ["rows:where(name^=a)"]
DEMANDED = {"leftOperand": "ds:release", "operator": "isAllOf", "rightOperand": RULES}
FOREVER = 1e9


@contextmanager
def returning(
    directory: Path, *clauses: dict[str, Any], every_s: float = FOREVER
) -> Iterator[Pair]:
    """A pair whose agreement belongs to a return; its provider's engine delivers."""
    with pair_of(directory, DEMANDED, *clauses) as pair:
        with pair.provider.store.transaction() as tx:
            tx.add(
                NegotiationRow(
                    pid="urn:uuid:negotiation",
                    role="PROVIDER",
                    peer=pair.consumer.did,
                    callback="http://unused",
                    dataset=DATASET,
                    state="FINALIZED",
                    created_at=1.0,
                    updated_at=1.0,
                )
            )
            tx.add(
                ReturnRow(
                    id="r",
                    dataset=DATASET,
                    consumer=pair.consumer.did,
                    division="44",
                    rules=RULES,
                    every_s=every_s,
                    negotiation="urn:uuid:negotiation",
                    created_at=1.0,
                )
            )
            dataset = tx.get_one(DatasetRow, DATASET)
            # It leaves because the return says so.
            dataset.formats = []
            tx.add(dataset)
        yield pair


def delivered(node: Node, pid: str) -> list[DeliveryRow]:
    with node.store.transaction() as tx:
        found = select(DeliveryRow).where(DeliveryRow.transfer == pid)
        return [one for one in tx.exec(found).all() if one.finished_at is not None]


def due_now(pair: Pair, ago_s: float = 0.0) -> None:
    with pair.provider.store.transaction() as tx:
        tx.get_one(ReturnRow, "r").next_due_at = time.time() - ago_s


def deliver(pair: Pair) -> Later | None:
    """What the process does when it is called; the engine's own waits for ever."""
    process = Process(1, DELIVER, pair.providers().pid, {}, 1, 1.0)
    return pair.provider.returns.handlers()[DELIVER].handle(process)


def accesses(node: Node) -> list[Any]:
    with node.store.transaction() as tx:
        rows = tx.exec(select(EntryRow).order_by(EntryRow.position)).all()
    opened = [open_entry(row.body or b"", row.salt or b"", row.commitment) for row in rows]
    return [entry for entry in opened if entry.type in ("accessed", "decided")]


def test_each_delivery_is_decided_on_kept_apart_and_in_both_sides_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with returning(tmp_path) as pair:
        pid = pair.begin(PUSH)
        pair.wait(lambda: len(delivered(pair.consumer, pid)) == 1)
        theirs = pair.providers().pid
        pair.wait(lambda: len(delivered(pair.provider, theirs)) == 1)
        (tmp_path / "rows.csv").write_text("name,secret\namy,1\nann,1\n", encoding="utf-8")
        # Three periods have passed: what was due is delivered once.
        with pair.provider.store.transaction() as tx:
            row = tx.get_one(ReturnRow, "r")
            row.every_s = 10.0
            tx.add(row)
        due_now(pair, ago_s=35.0)
        later = deliver(pair)
        assert isinstance(later, Later)
        assert 0 < later.after_s <= 10.0
        assert isinstance(deliver(pair), Later)
        mine = delivered(pair.consumer, pid)
        files = [Path((one.moved or {})["file"]) for one in mine]
        assert [file.read_bytes() for file in files] == [
            b'"name"\n"ann"\n',
            b'"name"\n"amy"\n"ann"\n',
        ]
        assert [file.name for file in files] == ["1.csv", "2.csv"]
        assert [(one.moved or {})["rows"] for one in mine] == [1, 2]
        assert not any((pair.provider.home.path / "outgoing").glob("*"))
        held = pair.consumers(pid)
        expected = [(commitment_of(held, (one.moved or {})["sha256"], one.number),) for one in mine]
        for node, outcome in ((pair.provider, "sent"), (pair.consumer, "received")):
            said = [one for one in accesses(node) if one.type == "accessed"]
            assert [(one.outcome, one.outputs_c) for one in said] == [
                (outcome, each) for each in expected
            ]
            with node.store.transaction() as tx:
                (agreement,) = tx.exec(select(AgreementRow)).all()
            assert agreement.use_count == 2
        decided = [one for one in accesses(pair.provider) if one.type == "decided"]
        assert [one.decision for one in decided] == ["permit", "permit"]
        shown = pair.provider.returns.show("r")
        assert (shown["state"], shown["delivered"]) == ("running", 2)
        print_deliveries(shown["deliveries"])
        assert "delivery 2: due" in capsys.readouterr().out
        ended = pair.provider.returns.end("r", "enough")
        assert ended["state"] == "ended"
        pair.wait_for(pid, "COMPLETED")
        assert deliver(pair) is None
        again = pair.begin(PUSH)
        pair.wait(lambda: pair.consumers(again).state == "TERMINATED")


@pytest.mark.slow
def test_a_contract_that_allows_so_many_uses_ends_the_return_with_its_clause(
    tmp_path: Path,
) -> None:
    once = {"leftOperand": "count", "operator": "lteq", "rightOperand": "1"}
    with returning(tmp_path, once) as pair:
        pid = pair.begin(PUSH)
        pair.wait(lambda: len(delivered(pair.consumer, pid)) == 1)
        pair.wait(lambda: len(delivered(pair.provider, pair.providers().pid)) == 1)
        due_now(pair)
        assert deliver(pair) is None
        pair.wait_for(pid, "TERMINATED")
        assert pair.consumers(pid).clause == "permission[0].constraint[1]"
        assert pair.provider.returns.show("r")["state"] == "stopped"
        assert len(delivered(pair.consumer, pid)) == 1


def test_a_delivery_whose_answer_was_lost_is_not_made_twice(tmp_path: Path) -> None:
    with returning(tmp_path) as pair:
        pid = pair.begin(PUSH)
        theirs = ""
        pair.wait(lambda: len(delivered(pair.consumer, pid)) == 1)
        theirs = pair.providers().pid
        pair.wait(lambda: len(delivered(pair.provider, theirs)) == 1)
        due_now(pair)
        http = pair.provider.http

        class Losing:
            """Gives what is put to the consumer, and loses its answer."""

            def stream(self, method: str, url: str, **options: Any) -> Any:
                answer = http.stream(method, url, **options)
                if method == "PUT":
                    with answer:
                        raise Unavailable("lost")
                return answer

        pair.provider.http = Losing()  # type: ignore[assignment]
        with pytest.raises(Unavailable, match="lost"):
            deliver(pair)
        assert len(delivered(pair.consumer, pid)) == 2
        assert len(delivered(pair.provider, theirs)) == 1
        pair.provider.http = http
        assert isinstance(deliver(pair), Later)
        assert len(delivered(pair.provider, theirs)) == 2
        assert len([one for one in accesses(pair.consumer) if one.type == "accessed"]) == 2
        assert pair.provider.returns.all()[0]["delivered"] == 2


@pytest.mark.slow
def test_a_return_that_is_paused_delivers_nothing_and_then_what_was_due(tmp_path: Path) -> None:
    with returning(tmp_path) as pair:
        with pytest.raises(InputRejected, match="waits for the bureau"):
            pair.provider.returns.pause("r", "not yet")
        pid = pair.begin(PUSH)
        theirs = ""
        pair.wait(lambda: len(delivered(pair.consumer, pid)) == 1)
        theirs = pair.providers().pid
        pair.wait(lambda: len(delivered(pair.provider, theirs)) == 1)
        assert pair.provider.returns.pause("r", "a holiday")["state"] == "paused"
        pair.wait_for(pid, "SUSPENDED")
        due_now(pair)
        assert deliver(pair) is None
        pair.provider.returns.resume("r")
        pair.wait_for(pid, "STARTED")
        assert isinstance(deliver(pair), Later)
        assert len(delivered(pair.consumer, pid)) == 2
        # The other side steers it too.
        with pair.consumer.store.transaction() as tx:
            pair.consumer.transfers.finish(tx, tx.get_one(TransferRow, pid))
        pair.wait_for(pid, "COMPLETED")
        assert deliver(pair) is None


BLOCKS = {"division": "place", "grid": None}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"division": "44030"}, "not the code of a division"),
    ({"division": "4404"}, "is not in 4403"),
    ({"grid": "440305001"}, "no column holds the codes of grid cells"),
    ({"totals": "people"}, "no column that is there"),
    ({"rules": ("people:mask(1,1)",)}, "people:mask"),
]


def test_what_is_no_view_of_the_dataset_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path, PROVIDER_URL)
    file = tmp_path / "rows.csv"
    file.write_text("name,place\nann,440305001\n", encoding="utf-8")
    publish(node, str(file), consumer="did:web:127.0.0.1%3A2", columns=[NAME])
    asked = ReturnAsked(
        dataset=DATASET, to="did:web:127.0.0.1%3A2", division="440305", every_s=60.0
    )
    with pytest.raises(InputRejected, match="no column") as lacking:
        node.returns.add(asked)
    assert "blocks: " in (lacking.value.remedy or "")
    with node.store.transaction() as tx:
        dataset = tx.get_one(DatasetRow, DATASET)
        dataset.blocks, dataset.division = BLOCKS, "440300"
        dataset.classification, dataset.legal_basis = "confirmed", "statutory-duty"
        tx.add(dataset)
    for change, sentence in REFUSED:
        with pytest.raises((InputRejected, connectors.errors.InputRejected), match=sentence):
            node.returns.add(asked.model_copy(update=change))
    assert node.returns.all() == []
    made = node.returns.add(asked)
    assert (made["state"], made["rules"]) == ("offered", ["rows:where(place^=440305)"])
    assert node.returns.end(made["id"], "a mistake")["state"] == "ended"
    said = commanded(node, monkeypatch)
    wanted = ("--to", "http://127.0.0.1:2", "--division", "440300", "--every", "60")
    name = said("add", DATASET, *wanted, "--rule", "name:mask(1,0)").strip()
    assert "offered rows → did:web:127.0.0.1%3A2" in said("list").replace(f"{name}  ", "")
    assert "division 4403, every 60 s, 0 delivered" in said("show", name)
    assert "waits for the bureau" in said("pause", name, code=1)
    assert said("end", name).startswith("ended")
    node.store.close()


def commanded(node: Node, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command about returns with this node; what it prints."""

    def of_home(_: object) -> Client:
        client = Client(node.home.url, node.api_key)
        headers = {"authorization": f"Bearer {node.api_key}"}
        client._http = TestClient(create_app(node), headers=headers)  # type: ignore[assignment]
        return client

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(return_commands.app, words)
        assert done.exit_code == code, done.output
        return done.output

    monkeypatch.setattr(Client, "of_home", of_home)
    return run
