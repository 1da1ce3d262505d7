"""A vault whose process is killed: all of an import or none, all of an erasure or none."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from connectors.source import open_source
from connectors.vault import Vault
from connectors.vault_import import import_records
from connectors.vault_making import rotate_key
from connectors.vault_people import VaultPeople

from .vault_examples import ANN, NOON, Example, example, number

PEOPLE = 4_000
ROUNDS = 5
IMPORT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from connectors.source import open_source
from connectors.vault import Vault
from connectors.vault_import import import_records
print("begins", flush=True)
import_records(Vault(Path(sys.argv[1])), open_source(sys.argv[2]), datetime.now(UTC))
"""
ERASE = """
import sys
from pathlib import Path
from connectors.vault import Vault
from connectors.vault_people import VaultPeople
people = VaultPeople(Vault(Path(sys.argv[1])))
print("begins", flush=True)
for who in sys.stdin.read().split():
    people.erase(who, lambda what: f"certificate of {what.pseudonym}")
    print(who, flush=True)
"""
ROTATE = """
import sys
from pathlib import Path
from connectors.vault import Vault
from connectors.vault_making import rotate_key
print("begins", flush=True)
while True:
    rotate_key(Vault(Path(sys.argv[1])))
"""

pytestmark = pytest.mark.slow


def killed_after(seconds: float, program: str, *arguments: object, text: str = "") -> list[str]:
    """Runs `program` and kills it so long after it began; what it had printed."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdout.readline()
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        return process.stdout.read().split()


def rows(path: Path, note: str) -> Path:
    first = date(1950, 1, 1)
    lines = [f"{number(first + timedelta(days=n))},{note},x,1" for n in range(PEOPLE)]
    path.write_text("\n".join(["resident_id,district,diagnosis,cost", *lines, ""]))
    return path


@pytest.fixture
def held(tmp_path: Path) -> Example:
    made = example(tmp_path)
    made.bring([(ANN, "Nanshan", "J10", "1")])
    return made


def test_an_import_that_is_killed_leaves_nothing_or_all(held: Example, tmp_path: Path) -> None:
    rng = random.Random(7)
    whole = 0
    for turn in range(ROUNDS):
        before = held.people.counts()["records"], held.vault.version()
        file = rows(tmp_path / f"{turn}.csv", f"note{turn}")
        killed_after(rng.random() * 3, IMPORT, held.folder, file)
        after = held.people.counts()["records"], held.vault.version()
        if after != before:
            whole += 1
            assert after[0] >= PEOPLE
        report = import_records(held.vault, open_source(str(file)), NOON)
        assert report.unchanged == (after != before)
        shown = held.people.record(number(date(1950, 1, 1)), NOON)
        assert shown.rows[0][1] == f"note{turn}"
    assert whole < ROUNDS


def test_an_erasure_that_is_killed_has_a_certificate_or_has_not_happened(
    held: Example, tmp_path: Path
) -> None:
    import_records(held.vault, open_source(str(rows(tmp_path / "x.csv", "a"))), NOON)
    rng = random.Random(8)
    people = [number(date(1950, 1, 1) + timedelta(days=n)) for n in range(PEOPLE)]
    for _ in range(ROUNDS):
        done = killed_after(rng.random() / 2, ERASE, held.folder, text="\n".join(people))
        counts = held.people.counts()
        assert counts["erased"] + counts["people"] == PEOPLE + 1
        assert len(held.people.certificates()) == counts["erased"]
        for who in done:
            with pytest.raises(Exception, match="nobody"):
                held.people.record(who, datetime.now(UTC))
        people = people[len(done) :]
    assert held.people.counts()["erased"] > 0


def test_a_change_of_key_that_is_killed_is_finished_by_the_next(held: Example) -> None:
    rng = random.Random(9)
    for _ in range(ROUNDS):
        killed_after(rng.random() / 4, ROTATE, held.folder)
        assert VaultPeople(Vault(held.folder)).record(ANN, NOON).subject == ANN
        rotate_key(Vault(held.folder))
        assert VaultPeople(Vault(held.folder)).record(ANN, NOON).subject == ANN
