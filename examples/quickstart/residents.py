"""Write the example data of the quickstart: a city's residents as three organisations know them.

    python examples/quickstart/residents.py --out DIR [--seed 7] [--people 6000]

residents.csv   civil affairs (government): every resident of six districts of Shenzhen
contracts.csv   an insurer (enterprise), in GBK as many Chinese systems export; a quarter of the
                residents and some other people, a few with two contracts
health.csv      a personal data trustee, with consents.jsonl: who allowed what to whom, until when
screening.csv   a consumer's own list of people

Nobody here exists: numbers, names and amounts are drawn from a seeded generator, so the same seed
gives the same bytes. Identifiers are as dirty as in real exports. Standard library only.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

# GB/T 2260 code, name, the first year of birth its numbers can hold, share of the residents.
DISTRICTS = (
    ("440303", "罗湖区", 1990, 14),
    ("440304", "福田区", 1990, 18),
    ("440305", "南山区", 1990, 20),
    ("440306", "宝安区", 1992, 24),
    ("440307", "龙岗区", 1992, 20),
    ("440308", "盐田区", 1998, 4),
)
# Shenzhen is a city of migrants: most numbers begin with a county elsewhere in Guangdong, under the
# code it had then. Code and the last year of birth.
HOME_COUNTIES = (
    ("440122", 1993),
    ("440126", 1991),
    ("440221", 2003),
    ("442424", 1987),
    ("442526", 1987),
    ("442727", 1982),
    ("442822", 1987),
)
TODAY = date(2026, 6, 30)
BORN_FROM, BORN_DAYS = date(1940, 1, 1), 29_000
CHECK_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
SURNAMES = "陈李黄张梁林刘吴罗杨何邓郑谢钟叶曾曹"
GIVEN_NAMES = "伟芳敏静丽强磊军洋勇艳杰娟涛明超秀英华慧"
DIAGNOSIS_GROUPS = ("循环系统", "呼吸系统", "内分泌代谢", "肌肉骨骼", "消化系统", "其他")
RESEARCH = "public-health-research"
FULL_WIDTH = str.maketrans("0123456789X", "０１２３４５６７８９Ｘ")


@dataclass(frozen=True)
class Person:
    """`number` is the valid 18-character identity number."""

    number: str
    name: str
    district: str
    born: date


def generate(out: Path, seed: int = 7, people: int = 6000) -> dict[str, int]:
    """Write all files into `out` (made when missing); return file name → number of rows."""
    if people < 100:
        raise ValueError(f"people must be at least 100, got {people}")
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    everyone = draw_people(rng, people + people // 10)
    residents, others = everyone[:people], everyone[people:]
    insured = rng.sample(residents, people // 4) + others[: people // 25]
    # Patients are mostly insured, as in life: the overlap of the two is larger than by chance.
    uninsured = sorted(set(residents) - set(insured), key=lambda person: person.number)
    patients = rng.sample(insured, people // 12) + rng.sample(uninsured, people // 15)
    screened = rng.sample(residents, people // 6) + others[people // 25 : people // 15]
    return {
        "residents.csv": write_residents(out / "residents.csv", rng, residents),
        "contracts.csv": write_contracts(out / "contracts.csv", rng, insured),
        "health.csv": write_health(out / "health.csv", rng, patients),
        "consents.jsonl": write_consents(out / "consents.jsonl", rng, patients),
        "screening.csv": write_screening(out / "screening.csv", rng, screened),
    }


def draw_people(rng: random.Random, count: int) -> list[Person]:
    """`count` people with different identity numbers."""
    people: dict[str, Person] = {}
    weights = [share for *_, share in DISTRICTS]
    while len(people) < count:
        code, district, since, _ = rng.choices(DISTRICTS, weights)[0]
        born = BORN_FROM + timedelta(days=rng.randrange(BORN_DAYS))
        away = [home for home, until in HOME_COUNTIES if born.year <= until]
        native = born.year >= since and (not away or rng.random() < 0.6)
        home = code if native else rng.choice(away)
        body = f"{home}{born:%Y%m%d}{rng.randrange(1, 900):03d}"
        number = body + check_character(body)
        name = rng.choice(SURNAMES) + "".join(rng.choices(GIVEN_NAMES, k=rng.choice((1, 2))))
        people.setdefault(number, Person(number, name, district, born))
    return list(people.values())


def check_character(body: str) -> str:
    """GB 11643: ISO 7064 MOD 11-2 over the first 17 digits."""
    total = sum(int(digit) * weight for digit, weight in zip(body, CHECK_WEIGHTS, strict=True))
    return "10X98765432"[total % 11]


def dirty(rng: random.Random, number: str) -> str:
    """The number as a clerk or a spreadsheet leaves it: mostly well, rarely beyond repair."""
    luck = rng.random()
    if luck < 0.004:
        return ""
    if luck < 0.010:
        return number[:17] + rng.choice([c for c in "0123456789X" if c != number[17]])
    if luck < 0.040:
        return f"{number[:6]} {number[6:14]} {number[14:]}"
    if luck < 0.055:
        return f" {number}\u3000"
    if luck < 0.070:
        return number.translate(FULL_WIDTH)
    if luck < 0.085:
        return f"{number[:6]}-{number[6:14]}-{number[14:]}"
    if luck < 0.105 and number[6:8] == "19":
        # The 15-digit form of before 2000: no century, no check character.
        return number[:6] + number[8:17]
    if number.endswith("X") and luck < 0.5:
        return number.lower()
    return number


def write_residents(path: Path, rng: random.Random, residents: Sequence[Person]) -> int:
    """Every resident once, and a few a second time."""
    rows = [
        (dirty(rng, person.number), person.name, person.district, age_band(person), subsidy(rng))
        for person in [*residents, *rng.sample(residents, len(residents) // 200)]
    ]
    header = ("resident_id", "name", "district", "age_band", "subsidy_cents")
    return write_csv(path, header, rows, encoding="utf-8-sig")


def write_contracts(path: Path, rng: random.Random, insured: Sequence[Person]) -> int:
    """One contract for each of the insured, a second one for every eighth."""
    holders = [*insured, *rng.sample(insured, len(insured) // 8)]
    rng.shuffle(holders)
    rows = [
        (
            dirty(rng, person.number),
            f"HT2025{number:06d}",
            person.district,
            min(int(rng.lognormvariate(12.4, 0.7)), 5_000_000),
        )
        for number, person in enumerate(holders, start=1)
    ]
    header = ("resident_id", "contract_no", "district", "amount_cents")
    return write_csv(path, header, rows, encoding="gbk")


def write_health(path: Path, rng: random.Random, patients: Sequence[Person]) -> int:
    """One row for each patient: the year's cost, and the group of the main diagnosis."""
    rows = [
        (
            dirty(rng, person.number),
            person.district,
            min(int(rng.lognormvariate(12.0, 1.0)), 20_000_000),
            rng.choice(DIAGNOSIS_GROUPS),
        )
        for person in patients
    ]
    header = ("resident_id", "district", "cost_cents", "diagnosis_group")
    return write_csv(path, header, rows, encoding="utf-8")


def write_screening(path: Path, rng: random.Random, people: Sequence[Person]) -> int:
    """The consumer's list: nothing but identifiers."""
    return write_csv(
        path, ("resident_id",), [(dirty(rng, p.number),) for p in people], encoding="utf-8"
    )


def write_consents(path: Path, rng: random.Random, patients: Sequence[Person]) -> int:
    """Receipts of about nine in ten patients; the file is readable by its owner only."""
    receipts = []
    for number, person in enumerate(patients, start=1):
        luck = rng.random()
        if luck < 0.08:
            continue
        given = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=rng.randrange(8_000))
        receipt: dict[str, object] = {
            "receipt_id": f"receipt-{number:06d}",
            "subject": person.number,
            "columns": ["resident_id", "district", "cost_cents"],
            "purposes": [RESEARCH],
            "recipients": ["*"],
            "given_at": given.isoformat(),
            "expires_at": given.replace(year=given.year + 10).isoformat(),
            "withdrawn_at": None,
        }
        if luck < 0.13:
            receipt["withdrawn_at"] = (given + timedelta(days=rng.randrange(1, 120))).isoformat()
        elif luck < 0.17:
            receipt["expires_at"] = (given + timedelta(days=90)).isoformat()
        elif luck < 0.22:
            receipt["purposes"] = ["insurance-pricing"]
        elif luck < 0.24:
            receipt["recipients"] = ["did:web:hospital.example"]
        elif luck < 0.40:
            receipt["purposes"] = [RESEARCH, "care-planning"]
        receipts.append(receipt)
    path.touch(mode=0o600)
    path.chmod(0o600)
    lines = (json.dumps(receipt, ensure_ascii=False) + "\n" for receipt in receipts)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return len(receipts)


def age_band(person: Person) -> str:
    birthday_to_come = (TODAY.month, TODAY.day) < (person.born.month, person.born.day)
    age = TODAY.year - person.born.year - birthday_to_come
    for limit, band in ((18, "0-17"), (35, "18-34"), (50, "35-49"), (65, "50-64")):
        if age < limit:
            return band
    return "65+"


def subsidy(rng: random.Random) -> int:
    """Cents a year; two thirds of the residents get none."""
    return 0 if rng.random() < 0.66 else rng.randrange(20_000, 600_000, 500)


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, encoding: str
) -> int:
    """Write with the line ends a spreadsheet uses; return the number of rows."""
    count = 0
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the example data of the quickstart.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--people", type=int, default=6000, help="residents, at least 100")
    asked = parser.parse_args()
    for name, rows in generate(asked.out, asked.seed, asked.people).items():
        print(f"{asked.out / name}: {rows} rows")


if __name__ == "__main__":
    main()
