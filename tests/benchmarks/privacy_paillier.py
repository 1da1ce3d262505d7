"""Figures of Paillier encryption, beside phe and sf-heu in the same run.

`figures` gives the rows. Each comparison is measured in turn with what it is compared with, three
times, and its ratio is the median of the three, because machines are noisy. Values go through the
workers of a node, all cores of this machine; phe has no other way than one by one in one thread.
sf-heu (Okamoto-Uchiyama, one value a ciphertext) decides itself how many threads it takes. Tables
are built within what is measured, key generation is not.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from ledger_figures import Figure, figure, rate

from dataspace.computing.backend import LocalPool
from privacy.paillier import (
    PrivateKey,
    add_vectors,
    addends_to_sum,
    decrypt_total,
    decrypt_vector,
    encrypt_vector,
    generate,
    sum_vector,
)

ROUNDS = 3
BITS = 32
HEU = "sf-heu==0.5.2b0"
INSTALL_DEADLINE_S = 300
# Encryptions by phe in one round: a third of a second.
PHE_ENCRYPTIONS = 30

OKAMOTO_UCHIYAMA = """
import json, sys, time
import numpy
from heu import numpy as hnp, phe
count = int(sys.argv[1])
kit = hnp.setup(phe.SchemaType.OU, 2048)
encryptor = kit.encryptor()
values = kit.array(numpy.random.randint(0, 2**32, size=count, dtype=numpy.int64))
encryptor.encrypt(values)
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    encryptor.encrypt(values)
    print(json.dumps(count / (time.perf_counter() - start)), flush=True)
"""


def figures(small: bool) -> list[Figure]:
    """All rows; `small` takes a twentieth of the values, in seconds."""
    key = generate()
    count = 5_000 if small else 100_000
    pool = LocalPool()
    try:
        # The processes of a node are there before a computation begins.
        list(pool.map(len, [b"", b"", b"", b""]))
        return [
            *one_by_one(key, 400 if small else 2_000),
            *packed(key, pool, count),
            *sums(key, pool, count),
        ]
    finally:
        pool.close()


def ratio_of(ours: list[float], theirs: list[float], *, least: float | None = None) -> Figure:
    """The median of the ratios of rates measured in turn."""
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    return figure("  ratio", median(ratios), "", least=least)


def phe_encryptions(key: PrivateKey) -> float:
    """Values a second that phe encrypts, one by one."""
    public = key.public_key.to_phe()
    values = [secrets.randbits(BITS) for _ in range(PHE_ENCRYPTIONS)]
    return rate(len(values), lambda: [public.encrypt(value) for value in values])


def one_by_one(key: PrivateKey, count: int) -> list[Figure]:
    """One value a ciphertext in one thread, ours and phe's: what packing has no part in."""
    values = [secrets.randbits(BITS) for _ in range(count)]

    def encrypt() -> object:
        return encrypt_vector(key.public_key, values, bits=BITS, packed=False)

    ours, theirs = turn_about(lambda: rate(count, encrypt), lambda: phe_encryptions(key))
    return [
        figure(f"one value a ciphertext, {count:,} in one thread", median(ours), "values/s"),
        figure("  phe", median(theirs), "values/s"),
        ratio_of(ours, theirs, least=25),
    ]


def packed(key: PrivateKey, pool: LocalPool, count: int) -> list[Figure]:
    """Many values of 32 bits by all cores, and by one; phe one by one; sf-heu."""
    values = [secrets.randbits(BITS) for _ in range(count)]

    def by_all() -> float:
        return rate(count, lambda: encrypt_vector(key.public_key, values, bits=BITS, workers=pool))

    def by_one() -> float:
        return rate(count, lambda: encrypt_vector(key.public_key, values, bits=BITS))

    ours, alone, theirs = turn_about(by_all, by_one, lambda: phe_encryptions(key))
    rows = [
        figure(f"encrypting {count:,} values of {BITS} bits", median(ours), "values/s"),
        figure("  in one process", median(alone), "values/s"),
        figure("  phe, one by one", median(theirs), "values/s"),
        ratio_of(ours, theirs, least=500),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        python = heu_environment(Path(temporary))
        if python is None:
            print(f"{HEU} cannot be installed here: no comparison with it", file=sys.stderr)
            return rows
        return [*rows, *beside_heu(python, by_all, by_one, count)]


def beside_heu(
    python: Path, by_all: Callable[[], float], by_one: Callable[[], float], count: int
) -> list[Figure]:
    """The same values by sf-heu's Okamoto-Uchiyama, in turn with ours."""
    command = [str(python), "-c", OKAMOTO_UCHIYAMA, str(count)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # The library says on the same stream how many threads it takes.
        while process.stdout.readline().strip() != "ready":
            if process.poll() is not None:
                raise RuntimeError("sf-heu was installed and does not run")

        def heu() -> float:
            process.stdin.write("\n")
            process.stdin.flush()
            return float(json.loads(process.stdout.readline()))

        ours, alone, theirs = turn_about(by_all, by_one, heu)
        process.stdin.close()
    return [
        figure("  sf-heu, Okamoto-Uchiyama", median(theirs), "values/s"),
        ratio_of(ours, theirs, least=2),
        Figure("  ratio, ours in one process", ratio_of(alone, theirs).value, ""),
    ]


def heu_environment(directory: Path) -> Path | None:
    """Install sf-heu in an environment of its own; the path of its Python, None if that fails."""
    environment = directory / "heu"
    python = environment / "bin" / "python"
    uv = shutil.which("uv") or shutil.which("uv", path=".tools/bin")
    if uv:
        make = [uv, "venv", "-q", "--python", sys.executable, str(environment)]
        install = [uv, "pip", "install", "-q", "--python", str(python), HEU]
    else:
        make = [sys.executable, "-m", "venv", str(environment)]
        install = [str(python), "-m", "pip", "install", "-q", HEU]
    try:
        for command in (make, install):
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_DEADLINE_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return python


def sums(key: PrivateKey, pool: LocalPool, count: int) -> list[Figure]:
    """The sum of all values from ciphertexts: ours packed with room for it, phe's one by one.

    Decrypting the sum is part of both. Of phe's numbers every hundredth is another, as encrypting
    all would take it twenty minutes; what they are makes no difference to adding them.
    """
    values = [secrets.randbits(BITS) for _ in range(count)]
    addends = addends_to_sum(key.public_key.bits, BITS, count)
    vector = encrypt_vector(key.public_key, values, bits=BITS, addends=addends, workers=pool)
    distinct = encrypt_vector(
        key.public_key, values[: count // 100], bits=BITS, addends=count, packed=False, workers=pool
    )
    numbers = distinct.to_phe() * 100
    private = key.to_phe()

    def sum_of_ours() -> None:
        assert decrypt_total(key, sum_vector(vector)) == sum(values)

    def sum_of_phe() -> None:
        assert private.decrypt(sum(numbers[1:], numbers[0])) == 100 * sum(values[: count // 100])

    ours, theirs = turn_about(lambda: rate(count, sum_of_ours), lambda: rate(count, sum_of_phe))
    pair = rate(count, lambda: add_vectors([vector, vector]))
    start = time.perf_counter()
    assert decrypt_vector(key, vector, workers=pool) == values
    decrypted = count / (time.perf_counter() - start)
    return [
        figure(f"sum of {count:,} encrypted values", median(ours), "values/s"),
        figure("  phe", median(theirs), "values/s"),
        # Decrypting, which is the same for both, outweighs the sum of a few values.
        ratio_of(ours, theirs, least=20 if count >= 100_000 else None),
        figure("adding two such vectors", pair, "values/s"),
        figure("decrypting such a vector", decrypted, "values/s"),
    ]


def turn_about(*measure: Callable[[], float]) -> list[list[float]]:
    """Measure each in turn, ROUNDS times; the rates of each."""
    rounds = [[one() for one in measure] for _ in range(ROUNDS)]
    return [list(rates) for rates in zip(*rounds, strict=True)]
