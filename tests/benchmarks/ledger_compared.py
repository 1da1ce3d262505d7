"""The tree beside that of pymerkle, which is GPL and therefore never a dependency."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from ledger_figures import Figure, figure, rate

from ledger.log import Log, MemoryNodeStore
from ledger.merkle import leaf_hash, verify_inclusion

PYMERKLE = """
import json, sys, time
from pymerkle import InmemoryTree, verify_inclusion
size = int(sys.argv[1])
tree = InmemoryTree(algorithm="sha256")
start = time.perf_counter()
for index in range(size):
    tree.append_entry(index.to_bytes(8, "big"))
appended = size / (time.perf_counter() - start)
root, count = tree.get_state(), 200
start = time.perf_counter()
proofs = [tree.prove_inclusion(1 + index * (size // count), size) for index in range(count)]
proved = count / (time.perf_counter() - start)
start = time.perf_counter()
for index, proof in enumerate(proofs):
    verify_inclusion(tree.get_leaf(1 + index * (size // count)), root, proof)
print(json.dumps({"appended": appended, "proved": proved,
                  "verified": count / (time.perf_counter() - start)}))
"""


UNITS = {"appended": "leaves/s", "proved": "proofs/s", "verified": "proofs/s"}


def bench_pymerkle(directory: Path, size: int) -> list[Figure]:
    """The same tree in memory, ours and pymerkle's, side by side."""
    python = directory / "pymerkle" / "bin" / "python"
    uv = shutil.which("uv")
    environment = directory / "pymerkle"
    if uv:
        subprocess.run([uv, "venv", "-q", str(environment)], check=True)
        install = [uv, "pip", "install", "-q", "--python", str(python), "pymerkle"]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "pymerkle"]
    subprocess.run(install, check=True)
    done = subprocess.run(
        [str(python), "-c", PYMERKLE, str(size)], check=True, capture_output=True, text=True
    )
    theirs = json.loads(done.stdout)
    log = Log(MemoryNodeStore())
    appended = rate(size, lambda: [log.append(index.to_bytes(8)) for index in range(size)])
    indices = [at * (size // 200) for at in range(200)]
    proofs: list[list[bytes]] = []
    proved = rate(200, lambda: proofs.extend(map(log.inclusion_proof, indices)))
    root = log.root()
    verified = rate(
        200,
        lambda: [
            verify_inclusion(leaf_hash(index.to_bytes(8)), index, size, proof, root)
            for index, proof in zip(indices, proofs, strict=True)
        ],
    )
    ours = {"appended": appended, "proved": proved, "verified": verified}
    return [
        one
        for name, unit in (
            ("appended", "leaves/s"),
            ("proved", "proofs/s"),
            ("verified", "proofs/s"),
        )
        for one in (
            figure(f"in memory, {size:,} leaves, {name}: ours", ours[name], unit),
            figure("  pymerkle", theirs[name], unit),
            figure("  ratio", ours[name] / theirs[name], ""),
        )
    ]
