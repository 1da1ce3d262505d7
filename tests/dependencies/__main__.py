"""What this program is made of: the bill of materials, licences, known vulnerabilities.

    python -m tests.dependencies [--sbom FILE] [--uv PATH]

Ends with 1 where a package is vulnerable or has a licence that the core may not have, with 0
otherwise. Where the database of vulnerabilities cannot be reached it says so: nothing was audited.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.dependencies.bill import (
    ACCEPTED,
    UNKNOWN,
    bill_of,
    components_of,
    licences_of_installed,
    objections,
)

ROOT: Final = Path(__file__).resolve().parents[2]
AUDIT_S: Final = 120.0
# How uv ends when it could not ask: everything else it says is about the packages.
COULD_NOT_ASK: Final = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run dependencies")
    parser.add_argument("--sbom", type=Path, default=ROOT / "build" / "sbom.cdx.json")
    parser.add_argument("--uv", default="uv", help="the uv to ask")
    asked = parser.parse_args()
    licences = licences_of_installed()
    core = bill_of(_exported(asked.uv, core=True), _lock(), licences)
    whole = bill_of(_exported(asked.uv, core=False), _lock(), licences)
    asked.sbom.parent.mkdir(parents=True, exist_ok=True)
    asked.sbom.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    wrong = _tell_licences(core, whole)
    print(f"bill of materials (CycloneDX 1.5): {_shown(asked.sbom)}")
    vulnerable = _tell_vulnerabilities(asked.uv)
    return 1 if wrong or vulnerable else 0


def _tell_licences(core: dict[str, Any], whole: dict[str, Any]) -> bool:
    packages = components_of(core)
    more = len(components_of(whole)) - len(packages)
    print(f"{len(packages)} packages in the core, {more} more in its extras")
    for licence, count in sorted(Counter(one.licence for one in packages).items()):
        print(f"  {count:3d}  {licence}")
    for one in packages:
        if one.asks_for_the_whole and one.name in ACCEPTED:
            print(f"known: {one.name} {one.version}: {ACCEPTED[one.name]}")
        if one.licence == UNKNOWN:
            print(f"not known here: the licence of {one.name} {one.version}")
    wrong = objections(packages)
    for sentence in wrong:
        print(f"not allowed in the core: {sentence}")
    return bool(wrong)


def _tell_vulnerabilities(uv: str) -> bool:
    """Whether a package of the lock has a known vulnerability; says so where nobody could tell."""
    command = [uv, "audit", "--frozen", "--preview-features", "audit-command"]
    try:
        ended = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=AUDIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"not audited: the database of vulnerabilities did not answer in {AUDIT_S:.0f} s")
        return False
    if ended.returncode == 0:
        print("audited against the database of vulnerabilities (OSV): none is known")
        print(_last(ended.stdout or ended.stderr))
        return False
    if ended.returncode == COULD_NOT_ASK:
        print(f"not audited: the database of vulnerabilities was not asked ({_last(ended.stderr)})")
        return False
    print(ended.stdout + ended.stderr)
    return True


def _exported(uv: str, *, core: bool) -> dict[str, Any]:
    command = [uv, "export", "--frozen", "--no-dev", "--quiet", "--format", "cyclonedx1.5"]
    command += ["--preview-features", "sbom-export", *([] if core else ["--all-extras"])]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        sys.exit(f"uv could not write the bill of materials: {_last(told.stderr)}")
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def _lock() -> bytes:
    return (ROOT / "uv.lock").read_bytes()


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
