"""What every command pays before it does anything."""

import subprocess
import sys

# What takes a processor longer to import than a command takes to ask its node.
DEAR = ("sqlalchemy", "alembic", "fastapi", "pyarrow", "web3", "eth")


def test_a_command_loads_nothing_of_a_node_or_its_database() -> None:
    program = f"import sys, dataspace.cli; print(*[one for one in {DEAR!r} if one in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []
