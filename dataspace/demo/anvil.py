"""Which chain the demonstration uses: the operator's own (default), anvil, or any by address."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

from dataspace.errors import InputRejected, Unavailable
from dataspace.home import free_port

START_S = 15.0


@contextmanager
def chain_for(wanted: str, directory: Path, options: Sequence[str] = ()) -> Iterator[str | None]:
    """The JSON-RPC address for `wanted`, or None for the embedded chain; `options` are anvil's.

    "anvil" starts the binary found on the PATH and stops it again. Raises InputRejected where there
    is none. The operator's account still needs money there: `give_money`.
    """
    if wanted == "embedded":
        yield None
        return
    if wanted != "anvil":
        yield wanted
        return
    binary = shutil.which("anvil")
    if binary is None:
        raise InputRejected(
            "there is no anvil on the PATH",
            remedy="npm install -g @foundry-rs/anvil, or leave --chain out: the default needs none",
        )
    port = free_port()
    with (directory / "anvil.log").open("ab") as log:
        process = subprocess.Popen(
            [binary, "--port", str(port), "--state", str(directory / "anvil.json"), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def give_money(rpc_url: str, account: str) -> None:
    """On a development chain: set the balance of `account` (anvil_setBalance)."""
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "anvil_setBalance",
        "params": [account, hex(10**24)],
    }
    with httpx2.Client(trust_env=False) as http:
        answer = http.post(rpc_url, json=call).json()
    if "error" in answer:
        raise InputRejected(
            "the operator's account on this chain has no money for gas",
            remedy=f"send some to {account}",
        )


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    with httpx2.Client(trust_env=False) as http:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if http.post(url, json=call).status_code == 200:
                    return
            except httpx2.HTTPError:
                time.sleep(0.05)
    raise Unavailable("anvil did not start", remedy="read anvil.log")
