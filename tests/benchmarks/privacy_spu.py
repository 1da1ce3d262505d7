"""SecretFlow's spu by itself, and through two of our nodes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from ledger_figures import Figure, figure
from privacy_sets import END_S, PURPOSE, publish, seconds, two_nodes, write_people

from dataspace.demo.space import RunningNode
from dataspace.home import free_port

SPU = "spu==0.9.5"
ALONE = """
import importlib, importlib.util, sys, types
rank, protocol, source, target, *addresses = sys.argv[1:]
package = types.ModuleType("spu")
package.__path__ = list(importlib.util.find_spec("spu").submodule_search_locations)
sys.modules["spu"] = package
libspu, libpsi = map(importlib.import_module, ("spu.libspu", "spu.libpsi"))
description = libspu.link.Desc()
for name, address in zip(("receiver", "sender"), addresses):
    description.add_party(name, address)
link = libspu.link.create_brpc(description, int(rank))
link.barrier()
libpsi.psi_execute(
    libpsi.PsiExecuteConfig(
        protocol_conf=libpsi.PsiProtocolConfig(
            protocol=getattr(libpsi.PsiProtocol, "PROTOCOL_" + protocol),
            receiver_rank=0,
            broadcast_result=True,
        ),
        input_params=libpsi.InputParams(path=source, selected_keys=["person"], keys_unique=True),
        output_params=libpsi.OutputParams(path=target, disable_alignment=True),
    ),
    link,
)
link.stop_link()
"""


def spu_python(directory: Path) -> Path | None:
    """An interpreter with spu in an environment of its own; None, and why, where there is none."""
    python = directory / "bin" / "python"
    uv = shutil.which("uv") or str(Path(__file__).parents[2] / ".tools" / "bin" / "uv")
    commands = (
        [uv, "venv", "--quiet", "--python", "3.11", str(directory)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps", SPU],
    )
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True, timeout=600)
    except (OSError, subprocess.SubprocessError):
        print(f"{SPU} cannot be installed here, so it is not measured", file=sys.stderr)
        return None
    return python


def alone(python: Path, directory: Path, sources: list[Path], protocol: str) -> float:
    """Both parties of spu, file to file, over plain TCP on this machine; seconds."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in sources]
    start = time.perf_counter()
    parties = [
        subprocess.Popen(
            [
                *(str(python), "-c", ALONE, str(rank), protocol.upper()),
                *(str(source), str(directory / f"alone-{rank}.csv"), *addresses),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for rank, source in enumerate(sources)
    ]
    codes = [party.wait(END_S) for party in parties]
    took = time.perf_counter() - start
    assert codes == [0, 0], "spu failed by itself"
    return took


def through(nodes: tuple[RunningNode, RunningNode], own: Path, agreement: str, name: str) -> int:
    """psi-both/1 by an engine between two nodes; how many are common."""
    found = nodes[1].client.compute(
        "psi-both/1",
        [agreement],
        purpose=PURPOSE,
        own=(own, "person"),
        parameters={"engine": name},
        deadline_s=END_S,
        timeout_s=END_S,
    )
    return int(found.value["count"])


def bench_spu(directory: Path, count: int, rounds: int) -> list[Figure]:
    python = spu_python(directory / "spu")
    if python is None:
        return []
    theirs = write_people(directory / "theirs.csv", count, count // 2)
    own = write_people(directory / "own.csv", count)
    figures = []
    with two_nodes(directory / "nodes", spu_python=str(python)) as nodes:
        publish(nodes[0].client, "people", theirs)
        agreement = nodes[1].client.negotiate(nodes[0].url, "people")
        for name in ("rr22", "kkrt"):
            times: list[tuple[float, float]] = []
            for _ in range(rounds):
                bare = alone(python, directory, [theirs, own], name)
                ours = seconds(lambda n=name: through(nodes, own, agreement, n))  # type: ignore[misc]
                times.append((bare, ours))
            # The best of each, so that no round is chosen because it flatters the ratio.
            bare, ours = (min(column) for column in zip(*times, strict=True))
            what = f"psi-both/1 {count:,} × {count:,} by {name}"
            figures += [
                figure(f"{what}, spu alone, file to file", bare, "s"),
                figure("  through two nodes", ours, "s"),
                figure("  through two nodes against alone", ours / bare, "", most=1.3),
            ]
    return figures
