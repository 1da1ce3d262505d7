"""The kits' archives: fetched by Maven once, kept for as long as a pom stays as it is."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parents[1] / ".tools" / "tck"
POM: Final = HERE / "pom.xml"
OLDEST_JAVA: Final = 17
# Fifty archives, 20 MB; a registry that takes longer than this is as good as away.
FETCH_S: Final = 900


class Missing(Exception):
    """Something the kit needs cannot be had here. The text completes the sentence `skipped: `."""


def verify_java() -> None:
    """Raises Missing unless a Java new enough, with its compiler, is on the PATH."""
    if shutil.which("java") is None:
        raise Missing("Java is not installed here")
    said = _run(["java", "--list-modules"], timeout_s=60).stdout
    version = re.search(r"^java\.base@(\d+)", said, re.MULTILINE)
    if version is None or int(version[1]) < OLDEST_JAVA:
        found = f"Java {version[1]}" if version else "an older Java"
        raise Missing(f"the kit needs Java {OLDEST_JAVA} or later, and here is {found}")
    # The file that starts the kit is handed to `java` as source.
    if "jdk.compiler@" not in said:
        raise Missing("the Java here is a runtime without the compiler (a JDK is needed)")


def fetch_archives(pom: Path = POM) -> Path:
    """The directory with a kit and all it runs on. Raises Missing where Maven cannot get them."""
    directory = CACHE / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    if directory.is_dir():
        return directory
    if shutil.which("mvn") is None:
        raise Missing("Maven is not installed here")
    print("fetching the kit with Maven", flush=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as scratch:
        fetched = Path(scratch) / "archives"
        command = [
            "mvn",
            "--quiet",
            "--batch-mode",
            f"--file={pom}",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={fetched}",
        ]
        done = _run(command, timeout_s=FETCH_S)
        if done.returncode != 0 or not any(fetched.glob("*.jar")):
            said = done.stdout.splitlines()
            first = next((line for line in said if "ERROR" in line), "no reason given")
            raise Missing(f"Maven cannot fetch the kit's archives ({first.strip()[:300]})")
        # Whole or not at all: another run finds this directory only when it is complete.
        fetched.rename(directory)
    return directory


def _run(command: list[str], *, timeout_s: int) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise Missing(f"{command[0]} did not answer within {timeout_s} seconds") from err
