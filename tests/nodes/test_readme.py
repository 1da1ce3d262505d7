"""The five-minute tour of the README, executed as it stands there, on free ports."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from dataspace.home import free_port

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"<!-- tour: (?P<where>[^>]+?) -->\n```sh\n(?P<commands>.*?)```", re.DOTALL)
START_S = 60.0


class Shell:
    """A place to run the README's lines: commands wait, `dataspace serve` goes on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.served: list[subprocess.Popen[bytes]] = []
        # The reader stands in a clone; here the examples are linked into an empty directory.
        (directory / "examples").symlink_to(ROOT / "examples")
        path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path}

    def serve(self, command: str, port: int) -> None:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command.removesuffix('&').strip()}"],
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.served.append(process)
        deadline = time.monotonic() + START_S
        with httpx2.Client(trust_env=False) as http:
            while time.monotonic() < deadline:
                try:
                    if http.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                        return
                except httpx2.HTTPError:
                    time.sleep(0.1)
        raise AssertionError(f"{command} did not start")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", script],
            cwd=self.directory,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def close(self) -> None:
        for process in self.served:
            process.send_signal(signal.SIGINT)
        for process in self.served:
            assert process.wait(30) == 0


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    yield opened
    opened.close()


def tour(first_port: int, second_port: int) -> list[tuple[str, str]]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = readme.replace("8001", str(first_port)).replace("8002", str(second_port))
    found = [(block["where"], block["commands"].strip()) for block in BLOCK.finditer(readme)]
    assert found[0][0] == "both terminals"
    return found[1:]


@pytest.mark.slow
def test_the_tour_of_the_readme_works_as_written(shell: Shell) -> None:
    first, second = free_port(), free_port()
    variables, told = "", ""
    for where, block in tour(first, second):
        for line in block.splitlines():
            if line.startswith("dataspace serve"):
                shell.serve(line, first if "bureau" in line else second)
                continue
            done = shell.run(f"{variables}\n{line}\nset | grep ^AGREEMENT= >.variables || true")
            wanted = 3 if "refused" in where else 0
            assert done.returncode == wanted, f"{line}\n{done.stdout}{done.stderr}"
            saved = shell.directory / ".variables"
            variables = saved.read_text(encoding="utf-8") if saved.exists() else ""
            told += done.stdout + done.stderr
    assert '"count"' in told
    assert "permission[0].constraint[1]" in told
    assert "all consistent" in told
