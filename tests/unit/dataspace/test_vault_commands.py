"""The commands about a vault's folder, as a trustee and a regulator run them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from connectors.source import open_source
from dataspace.cli import app

ANN, CHILD = "440305198001011015", "440305201801011019"


def number(body: str) -> str:
    return body[:17] + "10X98765432"[2 * int(body[:17], 13) % 11]


def run(*arguments: object, text: str = "", code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], input=text)
    assert result.exit_code == code, result.output + result.stderr
    return result.stdout if code == 0 else result.stderr


def ran(*arguments: object, text: str = "") -> Any:
    return json.loads(run(*arguments, "--json", text=text))


def test_a_trustee_makes_fills_and_counts_a_vault(tmp_path: Path) -> None:
    folder, rows = tmp_path / "vault", tmp_path / "rows.csv"
    wrong = number(ANN)[:17] + ("1" if number(ANN)[17] != "1" else "2")
    rows.write_text(
        f"resident_id,diagnosis,deceased\n{number(ANN)},J10,no\n{number(CHILD)},J11,no\n{wrong},x,\n"
    )
    keys = ran("vault", "regulator-key", tmp_path / "regulator")
    assert Path(keys["private"]).stat().st_mode & 0o777 == 0o600
    run("vault", "regulator-key", tmp_path / "regulator", code=1)
    made = ran(
        *("vault", "create", folder, "--subject", "resident_id"),
        *("--regulator-key", keys["public"]),
    )
    assert made["source"] == f"vault:{folder}"
    told = run("vault", "import", folder, rows, "--progress")
    assert "2 records of 2 new people" in told
    assert "children: 1" in told
    assert "separate consent: diagnosis" in told
    assert "check-digit" in told
    assert wrong not in told
    assert "unchanged" in run("vault", "import", folder, rows)
    assert ran("vault", "people", folder)["people"] == 2
    access = ran("vault", "enrol", folder, text=f"{number(ANN)}\n")["access_code"]
    assert len(access.replace("-", "")) == 26
    assert "nobody" in run("vault", "enrol", folder, text="11010519491231002X\n", code=1)
    assert ran("vault", "rotate-key", folder)["people"] == 2
    private = keys["private"]
    assert ran("vault", "traces", folder, "--regulator-key-file", private) == []
    assert "no private key" in run(
        *("vault", "traces", folder, "--regulator-key-file", folder / "vault.key"), code=1
    )
    export = tmp_path / "ann.export.json"
    export.write_text(
        json.dumps(
            {
                "format": "city-dataspace-personal-export/1",
                "subject": number(ANN),
                "records": [{"diagnosis": "K29", "deceased": "no"}],
            }
        )
    )
    assert ran("vault", "import", folder, export)["people_replaced"] == 1
    assert "is no vault" in run("vault", "people", tmp_path, code=1)


@pytest.mark.parametrize("group", ["consent", "erasure"])
def test_what_is_no_statement_is_said_so(tmp_path: Path, group: str) -> None:
    file = tmp_path / "x.json"
    file.write_text("{}")
    assert "not a receipt's or certificate's file" in run(group, "verify", file, code=1)
    assert "=THUMBPRINT" in run(group, "verify", file, "--key", "x", code=1)


def test_an_import_from_another_vault_is_refused(tmp_path: Path) -> None:
    folder, rows = tmp_path / "vault", tmp_path / "rows.csv"
    rows.write_text(f"resident_id,x\n{number(ANN)},1\n")
    run("vault", "create", folder, "--subject", "resident_id")
    run("vault", "import", folder, rows)
    assert "cannot be imported" in run("vault", "import", folder, f"vault:{folder}", code=1)
    assert open_source(f"vault:{folder}").schema().names == ["resident_id", "x"]
