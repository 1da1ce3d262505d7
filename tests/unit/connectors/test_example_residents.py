import importlib.util
import json
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from stdnum.cn import ric

from connectors.personal import Consent, ConsentBook
from connectors.source import open_source
from connectors.table import Extract, extract
from connectors.use import Use

SCRIPT = Path(__file__).parents[3] / "examples" / "quickstart" / "residents.py"
FILES = ("residents.csv", "contracts.csv", "health.csv", "consents.jsonl", "screening.csv")
USE = Use("public-health-research", "did:web:institute.example", datetime(2026, 11, 1, tzinfo=UTC))


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_residents", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while it is being made.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script()


@pytest.fixture(scope="module")
def city(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("city")
    counts = script.generate(out, 7, 6000)
    assert list(counts) == list(FILES)
    return out


def read(source: str, value: str | None = None) -> Extract:
    return extract(
        open_source(source),
        identifier="resident_id",
        value=value,
        group="district" if value else None,
        canonicaliser="resident-id/1",
        use=USE,
    )


def test_the_same_seed_gives_the_same_bytes(script: ModuleType, city: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    script.generate(again, 7, 6000)
    script.generate(other, 8, 6000)
    for name in FILES:
        assert (again / name).read_bytes() == (city / name).read_bytes()
        assert (other / name).read_bytes() != (city / name).read_bytes()


def test_every_number_that_survives_canonicalising_is_valid_to_the_reference_library(
    city: Path,
) -> None:
    for name in ("residents", "contracts", "health", "screening"):
        got = read(str(city / f"{name}.csv"))
        assert all(ric.is_valid(number) for number in set(got.identifiers))


def test_the_dirt_is_there_and_is_reported(city: Path) -> None:
    for name, rows in (("residents", 6030), ("contracts", 1957), ("health", 900)):
        report = read(str(city / f"{name}.csv")).report
        assert report is not None
        assert report.rows == rows
        assert 0 < report.blank + report.invalid["check-digit"] < rows // 50
        assert set(report.invalid) == {"check-digit"}
    text = (city / "residents.csv").read_text("utf-8-sig")
    assert "４４" in text
    assert "-19" in text
    assert "x," in text
    assert "\u3000" in text


def test_the_organisations_share_people_and_know_others(city: Path) -> None:
    known = {
        name: set(read(str(city / f"{name}.csv")).identifiers)
        for name in ("residents", "contracts", "health", "screening")
    }
    assert 1400 < len(known["residents"] & known["contracts"]) < 1500
    assert 300 < len(known["contracts"] & known["health"]) < 600
    assert known["contracts"] - known["residents"]
    assert 900 < len(known["screening"] & known["residents"]) < 1000


def test_contracts_are_gbk_and_some_people_have_two(city: Path) -> None:
    with pytest.raises(UnicodeDecodeError):
        (city / "contracts.csv").read_text("utf-8")
    report = read(str(city / "contracts.csv"), "amount_cents").report
    assert report is not None
    assert 150 < report.duplicates < 260


def test_amounts_are_whole_cents_in_the_districts_of_shenzhen(city: Path) -> None:
    for name, value in (("residents", "subsidy_cents"), ("contracts", "amount_cents")):
        got = read(str(city / f"{name}.csv"), value)
        assert min(got.values) >= 0
        assert max(got.values) <= 5_000_000
        assert set(got.groups) == {"罗湖区", "福田区", "南山区", "宝安区", "龙岗区", "盐田区"}


def test_most_patients_consented_and_every_kind_of_missing_consent_occurs(city: Path) -> None:
    path = city / "consents.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    receipts = [Consent.model_validate_json(line) for line in path.read_text().splitlines()]
    kinds = {
        "withdrawn": [r for r in receipts if r.withdrawn_at is not None],
        "expired": [r for r in receipts if r.expires_at <= USE.at],
        "other purpose": [r for r in receipts if USE.purpose not in r.purposes],
        "other recipient": [r for r in receipts if "*" not in r.recipients],
    }
    assert all(len(found) >= 10 for found in kinds.values()), kinds
    vault = f"personal+file:{city}/health.csv?consents={path}&subject=resident_id"
    got = read(vault, "cost_cents")
    book = ConsentBook(receipts)
    columns = ("resident_id", "cost_cents", "district")
    everyone = read(str(city / "health.csv")).identifiers
    willing = [p for p in everyone if book.covers(p, columns, USE.purpose, USE.recipient, USE.at)]
    assert got.identifiers == willing
    assert 0.7 * 900 < len(willing) < 0.85 * 900


def test_the_script_runs_from_the_command_line(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["residents.py", "--out", str(tmp_path), "--people", "200"])
    script.main()
    assert f"{tmp_path / 'residents.csv'}: 201 rows" in capsys.readouterr().out
    assert json.loads((tmp_path / "consents.jsonl").read_text().splitlines()[0])["subject"]


def test_too_few_people_are_refused(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 100"):
        script.generate(tmp_path, 7, 99)
